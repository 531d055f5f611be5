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
TIMES = 3  # as many images in the long epoch


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


def mds(folder: Path, times: int):
    from streaming import Stream, StreamingDataset

    data = StreamingDataset(streams=[Stream(local=str(folder / "mds"), repeat=times)], shuffle=True, batch_size=BATCH)
    return lambda: (sample["image"] for sample in data)


def webdataset(folder: Path, times: int):
    import webdataset as wds

    shape = np.load(folder / "images.npy", mmap_mode="r").shape[1:]
    tars = sorted(str(path) for path in (folder / "tars").glob("*.tar")) * times

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


def timed(samples) -> tuple[float, int]:
    """(CPU milliseconds, images) of an epoch after one that warms up."""
    epoch(samples)
    start = time.process_time()
    seen = epoch(samples)
    return (time.process_time() - start) * 1000, seen


def main() -> None:
    torchvision_beside_a_cpu_torch()
    torch.set_num_threads(1)
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "make":
        make(folder)
        return
    open_peer = {"mds": mds, "webdataset": webdataset}[command]
    short, long = (timed(open_peer(folder, times)) for times in (1, TIMES))
    result = {
        # of the images beyond the first 3,000: whatever an epoch costs at its start is in both
        "cpu_ms": (long[0] - short[0]) / (long[1] - short[1]),
        "cpu_ms_with_start": short[0] / short[1],
        "versions": {name: importlib.metadata.version(name) for name in ("mosaicml-streaming", "webdataset")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
