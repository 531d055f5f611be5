"""Export of an image data set to WebDataset tars, for code that reads those.

A sample is `KEY.png` or `KEY.jpg`, with `KEY.cls` (the class index as text) and `KEY.txt` (the caption in UTF-8) where
it has them; `classes.json` beside the tars names the classes in the order of their indices. KEY is the item's and the
view's number, unique over all splits. Samples stand in the order of their ids. The tars are called `train-000000.tar`,
`validation-000000.tar` and so on; times, owners and modes in them are fixed,
so that equal samples give equal bytes with the same versions of Pillow and zlib.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transvae_platform.data.exchange.export import export, open_split, read_data_set
from transvae_platform.data.listing.detect import CLASSES
from transvae_platform.data.making.work import Listener, Mapper, Work
from transvae_platform.data.sets.manifest import SPLITS
from transvae_platform.data.sets.shards import SOURCE
from transvae_platform.errors import SpecError, UserError
from transvae_platform.files import whole_file

SAMPLES_PER_TAR = 10_000
"""img2dataset's default; at 256 x 256 in PNG about 1 GB."""
ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"},  # assumption: losses that nobody sees
}


def export_webdataset(
    images: str | Path,
    out: Path,
    mapper: Mapper,
    *,
    encoding: str = "png",
    samples_per_tar: int = SAMPLES_PER_TAR,
    listen: Listener | None = None,
) -> list[Path]:
    """Write the tars of all splits that are not in `out` yet; returns the paths of all, in order.

    Args:
        images: the folder or URI of an image data set.
        mapper: `run_locally`, or `run_on_ray`: one piece of work per tar.
        encoding: `png`, which keeps every pixel, or `jpg`, which does not.
        listen: told how many samples of how many are done.

    Raises:
        SpecError: another encoding, or no samples per tar.
        UserError: there is no such data set, or `out` holds something else.
        UnreachableError: `out` cannot be written.
    """
    if encoding not in ENCODINGS or samples_per_tar < 1:
        raise SpecError(f"webdataset: encoding is one of {', '.join(ENCODINGS)}, a tar holds one sample or more")
    manifest = read_data_set(images, "images")
    work: list[Work] = [
        {"images": str(images), "split": split, "start": start,
         "items": min(samples_per_tar, manifest.samples(split) - start), "encoding": encoding,
         "file": str(out / f"{split}-{start // samples_per_tar:06d}.tar")}
        for split in SPLITS
        for start in range(0, manifest.samples(split), samples_per_tar)
    ]  # fmt: skip
    tars = [Path(piece["file"]) for piece in work]
    if classes := manifest.source.get("classes"):
        work.append({"file": str(out / CLASSES), "items": 0, "classes": classes})
    about = {
        "layout": "webdataset", "data": manifest.fingerprint, "encoding": encoding, "samples_per_tar": samples_per_tar,
        "samples": {split: manifest.samples(split) for split in SPLITS},
    }  # fmt: skip
    export(out, about, write_tar, work, mapper, listen)
    return tars


def write_tar(work: Work) -> None:
    """Write one tar, the samples of a split from `start` on, `items` of them; or the names of the classes."""
    if "classes" in work:
        with whole_file(Path(work["file"])) as path:
            path.write_text(json.dumps(work["classes"], indent=1))
        return
    samples = open_split(work["images"], work["split"])
    ids = np.arange(work["start"], work["start"] + work["items"])
    with whole_file(Path(work["file"])) as path, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in ids[:, None]:  # one by one: encoding takes most of the time
            item, view, label, caption, source = (
                samples.column(sample, name)[0] for name in ("item", "view", "label", "caption", SOURCE)
            )
            if source is not None:
                raise UserError(
                    f"data: sample {sample[0]} is an edit of another image, which a tar of samples cannot say"
                )
            key = f"{item:09d}_{view:04d}"
            _add(tar, f"{key}.{work['encoding']}", _encoded(samples.read(sample)[0], work["encoding"]))
            if label is not None:
                _add(tar, f"{key}.cls", str(label).encode())
            if caption is not None:
                _add(tar, f"{key}.txt", caption.encode())


def _encoded(image_HWC: NDArray[np.uint8], encoding: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, **ENCODINGS[encoding])
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)  # time, owner and group 0, mode 644
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))
