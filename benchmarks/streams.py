"""What does a training batch from a cache cost, against copying memory, mosaicml-streaming and webdataset?

    python -m venv peers && peers/bin/pip install mosaicml-streaming webdataset torchvision
    python benchmarks/streams.py OUTPUT.json peers/bin/python [images=3000] [rounds=5]

CPU milliseconds per image of 256 x 256 x 3 uint8 in shuffled batches of 64, not mirrored (we mirror on the device), no
worker processes, page cache hot. Each reader runs in its own process, an epoch to warm up and one that counts; rounds
are interleaved, medians are compared. The peers live in an environment of their own: mosaicml-streaming needs an older
NumPy. Wanted: at most 1.5 x copying memory, at least 3 x less CPU than either peer. Exit code 1 where that is missed.
"""

import datetime
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESOLUTION, BATCH, SHARD = 256, 64, 500
PEERS = Path(__file__).with_name("peer_streams.py")


def main() -> None:
    if sys.argv[1] == "--reader":
        print(json.dumps(measure(*sys.argv[2:])))
        return
    options = {"images": 3000, "rounds": 5} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[3:])
    }
    peer_python = sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        make_caches(Path(folder), options["images"])
        subprocess.run([peer_python, str(PEERS), "make", folder], check=True)
        commands = {
            "memcpy": [sys.executable, __file__, "--reader", "memcpy", folder],
            "transvae": [sys.executable, __file__, "--reader", "transvae", folder],
            "transvae, read ahead": [sys.executable, __file__, "--reader", "ahead", folder],
            "mosaicml-streaming": [peer_python, str(PEERS), "mds", folder],
            "webdataset": [peer_python, str(PEERS), "webdataset", folder],
        }
        rounds: dict[str, list[float]] = {name: [] for name in commands}
        versions = {}
        for _ in range(options["rounds"]):
            for name, command in commands.items():
                answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                rounds[name].append(answer["cpu_ms"])
                versions |= answer.get("versions", {})
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    checks = {
        "at most 1.5 x memcpy": medians["transvae"] / medians["memcpy"],
        "at least 3 x less CPU than mosaicml-streaming": medians["mosaicml-streaming"] / medians["transvae"],
        "at least 3 x less CPU than webdataset": medians["webdataset"] / medians["transvae"],
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pyarrow")} | versions,
        **options,
        "cpu_ms_per_image": {name: {"median": medians[name], "all": values} for name, values in rounds.items()},
        "ratios": checks,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(any(ratio > 1.5 if name.startswith("at most") else ratio < 3 for name, ratio in checks.items()))


def make_caches(folder: Path, count: int) -> None:
    """The same random images as one array for the peers, and as a data set."""
    import pyarrow as pa

    from transvae_platform.data.sets.manifest import Manifest, write_manifest
    from transvae_platform.data.sets.shards import image_field, write_shard

    images = np.random.default_rng(0).integers(0, 256, (count, RESOLUTION, RESOLUTION, 3), np.uint8)
    np.save(folder / "images.npy", images)
    ours, field = folder / "transvae", image_field(RESOLUTION)
    ours.mkdir()
    shards = [
        write_shard(
            ours / f"train-{start // SHARD:05d}.arrow", "train", {field: images[start : start + SHARD]},
            {"item": pa.array(range(start, min(start + SHARD, count)))},
        )
        for start in range(0, count, SHARD)
    ]  # fmt: skip
    settings = {"resolution": RESOLUTION}
    write_manifest(ours, Manifest("f" * 16, "images", (field,), count, tuple(shards), (), settings, {}, {}))


def measure(reader: str, folder: str) -> dict[str, float]:
    """CPU milliseconds per image of one epoch after a first one that warms up."""
    if reader == "memcpy":
        images = np.load(Path(folder) / "images.npy", mmap_mode="r")
        target = np.empty((BATCH, *images.shape[1:]), np.uint8)

        def epoch(number: int) -> int:
            for start in range(0, len(images) - BATCH + 1, BATCH):
                np.copyto(target, images[start : start + BATCH])
            return len(images) // BATCH * BATCH
    else:
        import torch

        from transvae_platform.data.sets.samples import open_data
        from transvae_platform.data.stream.batches import Ahead, TrainStream
        from transvae_platform.study.data_spec import Sampling

        torch.set_num_threads(1)
        train, _ = open_data(str(Path(folder) / "transvae"), Path(folder), 10**9)
        plain = TrainStream(train, Sampling(), batch_size=BATCH, seed=0)
        stream = Ahead(plain) if reader == "ahead" else plain

        def epoch(number: int) -> int:
            steps = len(train) // BATCH
            return sum(len(stream.batch(number * steps + step).ids) for step in range(steps))

    epoch(0)
    start = time.process_time()
    seen = epoch(1)
    return {"cpu_ms": (time.process_time() - start) * 1000 / seen}


if __name__ == "__main__":
    main()
