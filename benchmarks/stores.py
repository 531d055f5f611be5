"""What does it cost to train from an object store: a cold epoch, a warm one, and the store's own speed?

    pip install 'moto[server]'
    python benchmarks/stores.py OUTPUT.json [shards=32] [records=256] [rounds=3]

A local S3-compatible server (moto) holds a data set of 256 x 256 images. In wall and CPU seconds of the reader:
copying all its objects with pyarrow alone; a cold epoch through the stream (batches of 64, 4 shards at a time, a cache
of half the set); a warm epoch with a cache of everything; the same from local disk. The server runs on the same cores,
so the seconds say nothing of a real store: the ratio of a cold epoch to the bare copy does. Every measurement is a
process of its own, timed without its imports until its last batch: what it reads ahead for the next epoch is not in it.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

PORT, RESOLUTION, BATCH, WINDOW = 5599, 256, 64, 4


def main() -> None:
    if sys.argv[1] in KINDS:
        print(json.dumps(timed(lambda: KINDS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))))
        return
    options = {"shards": 32, "records": 256, "rounds": 3} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])
    }
    os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "us-east-1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            rounds = run(Path(folder), options, server)
    finally:
        server.terminate()
    medians = {
        name: {kind: statistics.median(row[kind] for row in rows) for kind in ("wall_s", "cpu_s")}
        for name, rows in rounds.items()
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("pyarrow", "moto", "torch")},
        **options,
        "megabytes": options["shards"] * options["records"] * RESOLUTION**2 * 3 / 1e6,
        "medians": medians,
        "rounds": rounds,
        "cold epoch / bare copy": medians["cold epoch"]["wall_s"] / medians["bare copy"]["wall_s"],
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def run(folder: Path, options: dict[str, int], server: subprocess.Popen) -> dict[str, list[dict[str, float]]]:
    from transvae_platform.data.sets.stores import open_store
    from transvae_platform.data.sets.transfer import copy_set

    manifest = make_set(folder / "set", options["shards"], options["records"])
    query = f"?scheme=http&endpoint_override=127.0.0.1:{PORT}&allow_bucket_creation=true"
    location = f"s3://bucket/set{query}"
    for attempt in range(50):  # the server needs a moment
        try:
            open_store(f"s3://bucket{query}")[0].create_dir("bucket")
            break
        except OSError:
            if server.poll() is not None:
                sys.exit("the server ended at once: pip install 'moto[server]', and see that the port is free")
            time.sleep(0.2 * (attempt + 1))
    list(copy_set(folder / "set", manifest, location))
    half, everything, local = manifest.bytes // 2, 10 * manifest.bytes, str(folder / "set")
    warm = folder / "warm"
    measured("epoch", location, warm, everything)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for _ in range(options["rounds"]):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            rounds["bare copy"].append(measured("copy", location, Path(one), everything))
            rounds["cold epoch"].append(measured("epoch", location, Path(two), half))
            rounds["warm epoch"].append(measured("epoch", location, warm, everything))
            rounds["local epoch"].append(measured("epoch", local, warm, everything))
    return rounds


def measured(kind: str, location: str, cache: Path, cache_bytes: int) -> dict[str, float]:
    """Wall and CPU seconds of one kind of work, in a process of its own."""
    command = [sys.executable, __file__, kind, location, str(cache), str(cache_bytes)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    return dict(json.loads(answer))


def timed(work: Callable[[], Callable[[], None]]) -> dict[str, float]:
    """Wall and CPU seconds of what `work`, which imports and opens, returns."""
    ready = work()
    wall, cpu = time.perf_counter(), time.process_time()
    ready()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def bare_copy(location: str, cache: Path, cache_bytes: int) -> Callable[[], None]:
    """All shards, as pyarrow alone reads them."""
    from transvae_platform.data.sets.remote import read_remote_manifest
    from transvae_platform.data.sets.stores import open_store

    store, root = open_store(location)
    manifest = read_remote_manifest(location)

    def copy() -> None:
        for shard in manifest.shards:
            with store.open_input_stream(f"{root}/{shard.file}") as source, (cache / shard.file).open("wb") as out:
                while block := source.read(2**22):
                    out.write(block)

    return copy


def epoch(location: str, cache: Path, cache_bytes: int) -> Callable[[], None]:
    """All batches of an epoch."""
    from transvae_platform.data.sets.samples import open_data
    from transvae_platform.data.stream.batches import Ahead, TrainStream
    from transvae_platform.study.data_spec import Sampling

    train, _ = open_data(location, cache, cache_bytes)
    stream = Ahead(TrainStream(train, Sampling(shuffle_window=WINDOW), batch_size=BATCH, seed=0))

    def read() -> None:
        for step in range(len(train) // BATCH):
            stream.batch(step)

    return read


KINDS = {"copy": bare_copy, "epoch": epoch}
NAMES = ("bare copy", "cold epoch", "warm epoch", "local epoch")


def make_set(folder: Path, shards: int, records: int):
    from transvae_platform.data.sets.manifest import Manifest, write_manifest
    from transvae_platform.data.sets.shards import image_field, write_shard

    folder.mkdir()
    field, random = image_field(RESOLUTION), np.random.default_rng(0)
    made = tuple(
        write_shard(
            folder / f"train-{number:05d}.arrow",
            "train",
            {field: random.integers(0, 256, (records, RESOLUTION, RESOLUTION, 3), np.uint8)},
            {"item": pa.array(range(number * records, (number + 1) * records))},
        )
        for number in range(shards)
    )
    settings = {"resolution": RESOLUTION}
    manifest = Manifest("f" * 16, "images", (field,), shards * records, made, (), settings, {}, {})
    write_manifest(folder, manifest)
    return manifest


if __name__ == "__main__":
    main()
