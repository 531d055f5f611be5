"""How much of an object store do the checkpoints of many trials take: requests, bytes and seconds each?

    pip install 'moto[server]'
    python benchmarks/object_store.py OUTPUT.json [rounds=8 writers=8]

Checkpoints of the quick start's smallest and largest model go to a local S3-compatible server (moto) through the
project's own code (`training/checkpoint.py`): written, committed, the oldest one removed, as trials do. By the server's
log the requests of one checkpoint; by one trial, and by several at once, checkpoints and megabytes per second; seconds
for a whole one to come back and be compared. The server is one Python process on the same cores and keeps everything in
memory, so seconds and rates say what this client does at least, nothing of a real store. Requests do: S3 takes 3,500
writes and 5,500 reads per second below one prefix (Amazon S3 User Guide, "Optimizing Amazon S3 performance").
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from micro import numbers, ready, write
from postgres import free_port

from transvae_platform.data.sets.stores import open_store
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.ranks import Ranks
from transvae_platform.training.saver import save_checkpoint

MODELS = ("vit-T", "transvae-G")
KEPT = 2
WRITES, READS = ("PUT", "POST", "DELETE"), ("GET", "HEAD")
S3 = {"writes": 3500, "reads": 5500}  # per second and prefix
REQUEST = re.compile(r'"(?:\x1b\[[0-9;]*m)*([A-Z]+) /')  # some lines are coloured
START_SECONDS = 120.0  # ends a hang


def main() -> None:
    options = numbers(rounds=8, writers=8)
    os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory(prefix="store-") as temporary:
        folder = Path(temporary)
        port, log = free_port(), folder / "server.log"
        with log.open("w") as out:
            server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=out, stderr=out)
        try:
            query = f"?scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"
            make_bucket(query)
            found = {model: measure(model, folder, query, log, **options) for model in MODELS}
        finally:
            server.terminate()
            server.wait()
    most = {
        f"{kind} per s and prefix": limit / max(row["requests"][kind] for row in found.values())
        for kind, limit in S3.items()
    }
    write("pyarrow", "moto", **options, kept=KEPT, checkpoints=found, s3_limits=S3, checkpoints_that_s3_takes=most)


def measure(model: str, folder: Path, query: str, log: Path, rounds: int, writers: int) -> dict[str, Any]:
    """Requests, bytes and seconds of one checkpoint of a model, and rates of one trial and of several."""
    before, seconds = Counter[str](), []
    trial = Trial(model, folder / model, f"s3://bucket/{model}/alone{query}")
    for number in range(KEPT + 1 + rounds):
        if number == KEPT + 1:  # from here on each one that comes removes one
            before = requests(log)
        took = trial.save()
        if number > KEPT:
            seconds.append(took)
    told = requests(log) - before
    begun = time.perf_counter()
    with trial.store.verified(trial.weights.step) as whole:
        size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    back = time.perf_counter() - begun
    each = {name: count / rounds for name, count in sorted(told.items())}
    together = at_once(model, folder, query, rounds, writers)
    return {
        "bytes": size,
        "requests": {
            **each,
            "writes": sum(each.get(name, 0) for name in WRITES),
            "reads": sum(each.get(name, 0) for name in READS),
        },
        "seconds": {"written": statistics.median(seconds), "read and compared": back},
        "checkpoints_per_s": {"one trial": rounds / sum(seconds), f"{writers} trials": together},
        "megabytes_per_s": {
            "one trial": rounds * size / sum(seconds) / 1e6,
            f"{writers} trials": together * size / 1e6,
        },
    }


class Trial:
    """A trial whose checkpoints go to a place."""

    def __init__(self, model: str, home: Path, location: str) -> None:
        bench = ready(model, home)
        bench.step()  # before it the optimiser has nothing to keep
        self.weights = bench.weights
        self.store = CheckpointStore(location, KEPT)

    def save(self) -> float:
        """Write the checkpoint of the next step and remove what is too many; returns the seconds that it took."""
        self.weights.step += 1
        content = self.weights.snapshot({}, 0, 1)
        start = time.perf_counter()
        save_checkpoint(self.store, content, Ranks())
        trouble = self.store.retain(content.step, ())
        if trouble:
            raise RuntimeError(trouble)
        return time.perf_counter() - start


def at_once(model: str, folder: Path, query: str, rounds: int, writers: int) -> float:
    """Checkpoints per second of several trials, each in a thread of its own: hashing and sending hold no lock."""
    trials = [Trial(model, folder / model, f"s3://bucket/{model}/trial{number}{query}") for number in range(writers)]

    def save_all(trial: Trial, count: int) -> None:
        for _ in range(count):
            trial.save()

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(lambda trial: save_all(trial, KEPT + 1), trials))
        start = time.perf_counter()
        list(pool.map(lambda trial: save_all(trial, rounds), trials))
        return writers * rounds / (time.perf_counter() - start)


def requests(log: Path) -> Counter[str]:
    """By method, all so far."""
    return Counter(REQUEST.findall(log.read_text()))


def make_bucket(query: str) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            open_store(f"s3://bucket{query}")[0].create_dir("bucket")
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


if __name__ == "__main__":
    main()
