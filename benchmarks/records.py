"""What does one latent cost to read at random, and how long is the first batch after a resume in a large data set?

    python benchmarks/records.py OUTPUT.json [items=20000] [samples=1281167] [rounds=5]

Latents: both arrays of [32, 16, 16] float16 of an item and its label, in our shards against safetensors shards of
5,000, batches of 256 in random order, CPU microseconds per item, page cache hot, rounds interleaved, medians.
Cold: a process of its own takes the first batch of 256 of those latents in the middle of an epoch when none of them
is in the page cache, wall seconds after the imports; the host of a virtual machine may remember them after the first
round.
Resume: a process of its own opens a data set of 1.28 M samples (records of 192 bytes, so that it fits here; the order
does not depend on their size) and reads the first batch in the middle of an epoch; wall seconds after the imports, and
the growth of its own memory after 100 batches against that with a data set of a hundredth.
Wanted: at most 10 us per item and 5 x less than safetensors; both first batches under 0.5 s; at most 8 MB more memory
for a hundred times the samples (what a shard's name, size and hash take: 6 kB for 128 MB). Exit code 1 where that is
missed.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

SHAPE, SHARD, BATCH = (32, 16, 16), 5000, 256
LATENTS = {"resolution": 256, "content": "sample", "dtype": "float16"}


def main() -> None:
    if sys.argv[1] in PROCESSES:
        print(json.dumps(PROCESSES[sys.argv[1]](Path(sys.argv[2]))))
        return
    options = {"items": 20_000, "samples": 1_281_167, "rounds": 5} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])
    }
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = make_latents(Path(folder), options["items"])
        cold = []
        for _ in range(options["rounds"]):
            forget(Path(folder))
            cold.append(in_a_process("--cold", Path(folder))["seconds"])
        ids = np.random.default_rng(1).permutation(options["items"])
        rounds: dict[str, list[float]] = {"transvae": [], "safetensors": []}
        for number in range(options["rounds"] + 1):  # the first one warms up
            for name, read in (("transvae", ours), ("safetensors", theirs)):
                start = time.process_time()
                for first in range(0, len(ids) - BATCH + 1, BATCH):
                    read(ids[first : first + BATCH])
                used = (time.process_time() - start) * 1e6 / (len(ids) // BATCH * BATCH)
                if number:
                    rounds[name].append(used)
        resumes = {}
        for name, count in (("all", options["samples"]), ("a hundredth", options["samples"] // 100)):
            make_images(Path(folder) / name, count)
            resumes[name] = [in_a_process("--resume", Path(folder) / name) for _ in range(options["rounds"])]
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    first_batch = statistics.median(row["seconds"] for row in resumes["all"])
    memory = {name: statistics.median(row["megabytes"] for row in rows) for name, rows in resumes.items()}
    checks = {
        "at most 10 us per item": medians["transvae"],
        "5 x less than safetensors": medians["safetensors"] / medians["transvae"],
        "first batch under 0.5 s": first_batch,
        "first batch of cold latents under 0.5 s": max(cold),
        "at most 8 MB more than with a hundredth of the samples": memory["all"] - memory["a hundredth"],
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "safetensors")},
        **options,
        "latents_cpu_us_per_item": {name: {"median": medians[name], "all": rounds[name]} for name in rounds},
        "resume": resumes,
        "cold_seconds": cold,
        "checks": checks,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    grown = memory["all"] - memory["a hundredth"] > 8
    slow = max(first_batch, *cold) > 0.5
    sys.exit(medians["transvae"] > 10 or checks["5 x less than safetensors"] < 5 or slow or grown)


def in_a_process(name: str, folder: Path) -> dict[str, float]:
    """What one of PROCESSES says of a folder."""
    command = [sys.executable, __file__, name, str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def forget(folder: Path) -> None:
    """Takes the shards of a folder out of the page cache."""
    for path in folder.glob("*.arrow"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make_latents(folder: Path, items: int):
    """The same random latents as a data set and as safetensors shards; returns a reader of ids for each."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    from transvae_platform.data.sets.local import LocalShelf
    from transvae_platform.data.sets.manifest import Manifest, write_manifest
    from transvae_platform.data.sets.samples import SampleSet
    from transvae_platform.data.sets.shards import Field, write_shard
    from transvae_platform.data.stream.buffers import Buffers

    fields = Field("latent", SHAPE, "float16"), Field("latent_flip", SHAPE, "float16")
    random, shards, files = np.random.default_rng(0), [], []
    for start in range(0, items, SHARD):
        count = min(SHARD, items - start)
        pair = random.standard_normal((2, count, *SHAPE)).astype(np.float16)
        label = np.arange(count, dtype=np.int32)
        columns = {"item": pa.array(range(start, start + count)), "label": pa.array(label)}
        path = folder / f"train-{start // SHARD:05d}.arrow"
        shards.append(write_shard(path, "train", dict(zip(fields, pair, strict=True)), columns))
        path = path.with_suffix(".safetensors")
        save_file({"latents": pair[0], "latents_flip": pair[1], "labels": label}, path)
        files.append(path)
    manifest = Manifest("f" * 16, "latents", fields, items, tuple(shards), (), LATENTS, {}, {})
    write_manifest(folder, manifest)
    samples = SampleSet(manifest, LocalShelf(folder), "train")
    buffers = Buffers()
    opened = [safe_open(path, "np") for path in files]

    # one array after the other: a training uses one of the two, and keeping both would time the memory allocator
    def ours(ids: np.ndarray) -> None:
        for field in fields:
            samples.read(ids, field.name, empty=buffers.empty)
        samples.labels(ids)

    def theirs(ids: np.ndarray) -> None:
        for name in ("latents", "latents_flip"):
            np.concatenate([opened[i // SHARD].get_slice(name)[i % SHARD : i % SHARD + 1] for i in ids.tolist()])
        np.concatenate([opened[i // SHARD].get_slice("labels")[i % SHARD : i % SHARD + 1] for i in ids.tolist()])

    return ours, theirs


def make_images(folder: Path, count: int) -> None:
    """A data set of many tiny images."""
    from transvae_platform.data.sets.manifest import Manifest, write_manifest
    from transvae_platform.data.sets.shards import image_field, write_shard

    folder.mkdir()
    field, shards, size = image_field(8), [], 4096
    for start in range(0, count, size):
        images = np.zeros((min(size, count - start), 8, 8, 3), np.uint8)
        columns = {"item": pa.array(range(start, start + len(images)))}
        shards.append(write_shard(folder / f"train-{start // size:05d}.arrow", "train", {field: images}, columns))
    manifest = Manifest("f" * 16, "images", (field,), count, tuple(shards), (), {"resolution": 8}, {}, {})
    write_manifest(folder, manifest)


def resume(folder: Path) -> dict[str, float]:
    """Seconds to the first batch in the middle of the second epoch, and the memory that it and 99 more took."""
    from transvae_platform.data.sets.samples import open_data
    from transvae_platform.data.stream.batches import TrainStream
    from transvae_platform.study.data_spec import Sampling

    before = anonymous_megabytes()
    start = time.perf_counter()
    train, _ = open_data(str(folder), folder, 10**9)
    stream = TrainStream(train, Sampling(), batch_size=BATCH, seed=0)
    middle = int(1.5 * len(train)) // BATCH
    stream.batch(middle)
    seconds = time.perf_counter() - start
    for step in range(middle + 1, middle + 100):
        stream.batch(step)
    return {"seconds": seconds, "megabytes": anonymous_megabytes() - before}


def cold(folder: Path) -> dict[str, float]:
    """Seconds to the first batch of latents in the middle of the second epoch."""
    from transvae_platform.data.sets.samples import open_data
    from transvae_platform.data.stream.latents import LatentStream
    from transvae_platform.study.data_spec import Sampling

    start = time.perf_counter()
    train, _ = open_data(str(folder), folder, 10**9)
    LatentStream(train, Sampling(), batch_size=BATCH, seed=0).batch(int(1.5 * len(train)) // BATCH)
    return {"seconds": time.perf_counter() - start}


def anonymous_megabytes() -> float:
    """Memory of this process's own, without mapped files (which the kernel may drop)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


PROCESSES = {"--resume": resume, "--cold": cold}

if __name__ == "__main__":
    main()
