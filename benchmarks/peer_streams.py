"""The peers of `streams.py`, in an environment of their own: mosaicml-streaming and webdataset over the same images.

peers/bin/python benchmarks/peer_streams.py make FOLDER        # from FOLDER/images.npy
peers/bin/python benchmarks/peer_streams.py mds|webdataset FOLDER
"""

import importlib.metadata
import io
import json
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch

BATCH, SHARD = 64, 500


def torchvision_beside_a_cpu_torch() -> None:
    """Both peers import torchvision, which needs these operators declared beside a CPU build of torch."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torchvision_beside_a_cpu_torch.kept = library


def make(folder: Path) -> None:
    from streaming import MDSWriter

    images = np.load(folder / "images.npy", mmap_mode="r")
    shape = ",".join(map(str, images.shape[1:]))
    with MDSWriter(out=str(folder / "mds"), columns={"image": f"ndarray:uint8:{shape}", "label": "int"}) as out:
        for index, image in enumerate(images):
            out.write({"image": np.ascontiguousarray(image), "label": index})
    (folder / "tars").mkdir()
    for start in range(0, len(images), SHARD):
        with tarfile.open(folder / "tars" / f"{start // SHARD:05d}.tar", "w") as tar:
            for index in range(start, min(start + SHARD, len(images))):
                content = images[index].tobytes()
                info = tarfile.TarInfo(f"{index:09d}.bin")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def mds(folder: Path):
    from streaming import StreamingDataset

    data = StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=BATCH)
    return lambda: (sample["image"] for sample in data)


def webdataset(folder: Path):
    import webdataset as wds

    shape = np.load(folder / "images.npy", mmap_mode="r").shape[1:]
    tars = sorted(str(path) for path in (folder / "tars").glob("*.tar"))

    def samples():
        for sample in wds.WebDataset(tars, shardshuffle=len(tars)).shuffle(1000):
            yield np.frombuffer(sample["bin"], np.uint8).reshape(shape)

    return samples


def epoch(samples) -> int:
    seen, waiting = 0, []
    for image in samples():
        waiting.append(image)
        if len(waiting) == BATCH:
            seen += len(torch.from_numpy(np.stack(waiting)))
            waiting = []
    return seen


def main() -> None:
    torchvision_beside_a_cpu_torch()
    torch.set_num_threads(1)
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "make":
        make(folder)
        return
    samples = {"mds": mds, "webdataset": webdataset}[command](folder)
    epoch(samples)
    start = time.process_time()
    seen = epoch(samples)
    versions = {name: importlib.metadata.version(name) for name in ("mosaicml-streaming", "webdataset")}
    print(json.dumps({"cpu_ms": (time.process_time() - start) * 1000 / seen, "versions": versions}))


if __name__ == "__main__":
    main()
