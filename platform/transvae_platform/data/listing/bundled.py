"""The photographs that ship inside packages which the platform needs anyway: the source of the quick-start study."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pyarrow as pa

from transvae_platform.data.listing.schema import Listing, make_listing
from transvae_platform.errors import SpecError

# Real photographs inside the wheels of these packages, with the licence that the package
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


def list_bundled() -> Listing:
    """The bundled photographs, by package and name.

    Raises:
        SpecError: one of them is not installed.
    """
    files = bundled_files()
    stats = [path.stat() for _, path in files]
    rows = pa.table(
        {
            "name": [name for name, _ in files],
            "path": [str(path) for _, path in files],
            "size": [stat.st_size for stat in stats],
            "stamp": [f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats],
        }
    )
    return make_listing("bundled", "bundled", rows)


def bundled_files() -> list[tuple[str, Path]]:
    """(name, file) of every bundled photograph, sorted.

    Raises:
        SpecError: one of them is not installed.
    """
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
