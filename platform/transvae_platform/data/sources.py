"""Where photographs come from: the ones that ship inside dependencies, or a folder of the user's.

A source is a sorted list of photographs; each is a file with a name and a content hash. The list decides the sample
ids, so it is made before anything runs in parallel.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from transvae_platform.errors import SpecError
from transvae_platform.study.spec import Data

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")

# Real photographs inside the wheels of packages that the platform needs anyway, with the licence that the package
# states. Pictures of text, drawings, depth maps and single-colour pictures are left out.
BUNDLED: dict[str, tuple[tuple[str, str], ...]] = {
    "skimage/data": (
        ("astronaut.png", "public domain, NASA"),
        ("brick.png", "CC0, CC0Textures"),
        ("chelsea.png", "CC0, Stefan van der Walt"),
        ("coffee.png", "CC0, Rachel Michetti"),
        ("grass.png", "CC0, linolafett"),
        ("gravel.png", "CC0, CC0Textures"),
        ("hubble_deep_field.jpg", "public domain, NASA"),
        ("ihc.png", "no known copyright restrictions, CMMI"),
        ("motorcycle_left.png", "CC0 as stated by scikit-image, Middlebury 2014 stereo data set"),
        ("retina.jpg", "CC0, Mikael Haggstrom"),
        ("rocket.jpg", "public domain, SpaceX"),
    ),
    "sklearn/datasets/images": (
        ("china.jpg", "CC BY 2.0, danielbuechele"),
        ("flower.jpg", "CC BY 2.0, vultilion"),
    ),
    "matplotlib/mpl-data/sample_data": (("grace_hopper.jpg", "public domain, US Navy"),),
}


@dataclass(frozen=True)
class Photograph:
    """One source image: `index` orders it, `name` is its path within the source, `sha256` is of the file's bytes."""

    index: int
    name: str
    path: str
    sha256: str


def list_photographs(data: Data) -> tuple[Photograph, ...]:
    """The photographs of a study's data section, sorted by name.

    Raises:
        SpecError: the folder is missing, not a folder, or holds no images; or a bundled file is not installed.
    """
    files = _bundled_files() if data.source == "bundled" else _folder_files(data)
    # hashing reads every byte; threads overlap the waiting for disks and network file systems
    with ThreadPoolExecutor(max_workers=8) as pool:
        hashes = list(pool.map(_file_hash, (path for _, path in files)))
    return tuple(
        Photograph(index, name, str(path), sha256)
        for index, ((name, path), sha256) in enumerate(zip(files, hashes, strict=True))
    )


def _bundled_files() -> list[tuple[str, Path]]:
    files = []
    for folder, entries in BUNDLED.items():
        package, _, inside = folder.partition("/")
        spec = importlib.util.find_spec(package)  # finds the folder without importing the package
        if spec is None or spec.origin is None:
            raise SpecError(f"data.source: bundled photographs need the package {package} - run `make install`")
        for name, _ in entries:
            path = Path(spec.origin).parent / inside / name
            if not path.is_file():
                raise SpecError(f"data.source: {package} of this installation has no {name} - run `make install`")
            files.append((f"{package}/{name}", path))
    return sorted(files)


def _folder_files(data: Data) -> list[tuple[str, Path]]:
    assert data.path is not None, "the specification demands a path for folders"
    folder = data.path
    if not folder.exists():
        raise SpecError(f"data.path: {folder} does not exist - give the folder that holds your images")
    if not folder.is_dir():
        raise SpecError(f"data.path: {folder} is a file - give the folder that holds your images")
    files = sorted((_printable(path.relative_to(folder).as_posix()), path) for path in _walk(folder))
    if not files:
        raise SpecError(f"data.path: {folder} holds no images ({', '.join(IMAGE_SUFFIXES)}) - is it the right folder?")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Image files below a folder, through links to folders; hidden files are no images."""
    entered: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:  # a link back up
            folders.clear()
            continue
        entered.add(real)
        for name in names:
            path = Path(parent) / name
            if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield path


def _printable(name: str) -> str:
    # a name that is no UTF-8 has surrogates in it, which neither JSON readers nor pages take
    return name.encode("utf-8", "backslashreplace").decode()


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(f"data.path: {path} cannot be read ({error.strerror}) - mend or remove it") from None
