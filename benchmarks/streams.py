"""What does a training batch from a cache cost, against copying memory, mosaicml-streaming and webdataset?

    python -m venv peers && peers/bin/pip install mosaicml-streaming webdataset torchvision
    python benchmarks/streams.py OUTPUT.json peers/bin/python [images=3000] [rounds=5]

CPU milliseconds per image of 256 x 256 x 3 uint8 in shuffled batches of 64 and 256, not mirrored (we mirror on the
device), no worker processes, page cache hot; ours with the thread that reads ahead, as training uses it, and without.
Each reader runs in its own process, an epoch to warm up, then three that count. A peer starts anew in each epoch, so
its start is measured and left out: one epoch over the images against one over three times as many. An epoch of 3,000
with its start is printed beside it. Rounds are interleaved, medians are compared. The peers live in an
environment of their own: mosaicml-streaming needs an older
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

RESOLUTION, SHARD, BATCHES = 256, 500, (64, 256)
EPOCHS = 3  # that count
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
        own = {"memcpy": "memcpy", "transvae": "plain", "transvae, read ahead": "ahead"}
        commands = {
            f"{name}, batches of {batch}": [sys.executable, __file__, "--reader", reader, folder, str(batch)]
            for batch in BATCHES
            for name, reader in own.items()
        } | {
            "mosaicml-streaming": [peer_python, str(PEERS), "mds", folder],
            "webdataset": [peer_python, str(PEERS), "webdataset", folder],
        }
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        versions = {}
        for _ in range(options["rounds"]):
            for name, command in commands.items():
                answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                versions |= answer.pop("versions", {})
                rounds[name].append(answer)
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in rounds.items()
    }
    ahead = {batch: medians[f"transvae, read ahead, batches of {batch}"]["cpu_ms"] for batch in BATCHES}
    checks = {
        f"batches of {batch}: at most 1.5 x memcpy": ahead[batch] / medians[f"memcpy, batches of {batch}"]["cpu_ms"]
        for batch in BATCHES
    } | {
        f"at least 3 x less CPU than {peer}": medians[peer]["cpu_ms"] / ahead[BATCHES[0]]
        for peer in ("mosaicml-streaming", "webdataset")
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pyarrow")} | versions,
        **options,
        "cpu_ms_per_image": {name: {"median": medians[name], "all": rows} for name, rows in rounds.items()},
        "ratios": checks,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(any(ratio > 1.5 if "at most" in name else ratio < 3 for name, ratio in checks.items()))


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


def measure(reader: str, folder: str, batch: str) -> dict[str, float]:
    """CPU milliseconds per image in batches of so many, after an epoch that warms up."""
    count = int(batch)
    if reader == "memcpy":
        images = np.load(Path(folder) / "images.npy", mmap_mode="r")
        # two in turn, as while one batch is used the next is read: a target that stays in the cache is no batch
        targets = [np.empty((count, *images.shape[1:]), np.uint8) for _ in range(2)]

        def epoch(number: int) -> int:
            for step, start in enumerate(range(0, len(images) - count + 1, count)):
                np.copyto(targets[step % 2], images[start : start + count])
            return len(images) // count * count
    else:
        import torch

        from transvae_platform.data.sets.samples import open_data
        from transvae_platform.data.stream.batches import Ahead, TrainStream
        from transvae_platform.study.data_spec import Sampling

        torch.set_num_threads(1)
        train, _ = open_data(str(Path(folder) / "transvae"), Path(folder), 10**9)
        plain = TrainStream(train, Sampling(), batch_size=count, seed=0)
        stream = Ahead(plain) if reader == "ahead" else plain

        def epoch(number: int) -> int:
            steps = len(train) // count
            return sum(len(stream.batch(number * steps + step).ids) for step in range(steps))

    epoch(0)
    start = time.process_time()
    seen = sum(epoch(number) for number in range(1, EPOCHS + 1))
    return {"cpu_ms": (time.process_time() - start) * 1000 / seen}


if __name__ == "__main__":
    main()
