"""What does an ingest cost beyond decoding and resizing, against a bare loop and a plain DataLoader with two workers?

    python benchmarks/ingest.py OUTPUT.json [small=500] [large=4000] [rounds=3]

CPU milliseconds per image, for JPEGs of about 500 x 375 to 256 x 256: the difference of a large and a small source,
so that the fixed cost of an execution is not in it (it is told beside it; so is what the start of Ray takes, with all
that its processes import; the wall milliseconds are those of the large source with everything). The loop and the
DataLoader do the same decoding and geometry, and write nothing. Rounds are interleaved within one session of Ray, after
an ingest that nobody counts; medians compared. Wanted: at most 1.35 x the bare loop and at most 1.2 x the DataLoader.
The loop runs twice at once, each over half of the images, as ingest and DataLoader have two processes: a busy
neighbour makes a core of a virtual machine slower (loops side by side took 1.09 x the CPU of one alone, which stands
beside them). Ends with exit code 1 where that is missed.

Of an ingest all processes below this one count, its own work too. They are read every 0.1 s, and the last reading of
each is kept: Ray's raylet reaps its workers without a trace, so nobody can ask for their time afterwards. Orphans stay
below this process (Linux: PR_SET_CHILD_SUBREAPER). What is lost is under 0.1 s of each process that ends.
"""

import ctypes
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

RESOLUTION, BATCH = 256, 64
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
LOOK_EVERY_SECONDS = 0.1


def main() -> None:
    from transvae_platform.cluster.schedule import ray_session

    options = {"small": 500, "large": 4000, "rounds": 3} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])
    }
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in PARTS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as session:
        sources = {size: make_source(Path(folder) / size, options[size]) for size in ("small", "large")}

        def start() -> None:
            session.enter_context(ray_session(None))
            ingest(sources["small"])

        start_s = of_tree(start)
        for _ in range(options["rounds"]):
            for name, measure in PARTS.items():
                small = measure(sources["small"])
                start = time.perf_counter()
                large = measure(sources["large"])
                wall_ms = (time.perf_counter() - start) * 1000 / options["large"]
                per_image = (large - small) * 1000 / (options["large"] - options["small"])
                rounds[name].append(
                    {"cpu_ms": per_image, "fixed_s": small - per_image * options["small"] / 1000, "wall_ms": wall_ms}
                )
                print(name, rounds[name][-1], file=sys.stderr, flush=True)
    medians = {name: statistics.median(row["cpu_ms"] for row in rows) for name, rows in rounds.items()}
    checks = {
        "ingest at most 1.35 x bare loop": medians["ingest"] / medians["loop"],
        "ingest at most 1.2 x DataLoader": medians["ingest"] / medians["dataloader"],
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "load": os.getloadavg(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "ray", "simplejpeg", "pyarrow")},
        **options,
        "cpu_ms_per_image": medians,
        "start_s": start_s,
        "rounds": rounds,
        "ratios": checks | {"ingest against one loop alone": medians["ingest"] / medians["loop alone"]},
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(checks["ingest at most 1.35 x bare loop"] > 1.35 or checks["ingest at most 1.2 x DataLoader"] > 1.2)


def of_thread(part: Callable[[], None]) -> float:
    """CPU seconds of a part that stays in this thread."""
    start = time.thread_time()
    part()
    return time.thread_time() - start


def of_children(part: Callable[[], None]) -> float:
    """CPU seconds of this thread and of the children that it waits for."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = of_thread(part)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own + end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def of_tree(part: Callable[[], None]) -> float:
    """CPU seconds of this process and of all below it, also of those that end meanwhile."""
    before = descendants()
    seen, ended, watching = dict(before), threading.Event(), [0.0]

    def watch() -> None:
        while not ended.wait(LOOK_EVERY_SECONDS):
            seen.update(descendants())
        watching[0] = time.thread_time()

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    try:
        part()
    finally:
        ended.set()
        watcher.join()
    own = time.process_time() - start - watching[0]
    seen.update(descendants())
    return own + sum(seen.values()) - sum(before.values())


def descendants() -> dict[tuple[int, int], float]:
    """CPU seconds of every living or unburied descendant, by (process id, when it began)."""
    parents, used = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()  # from the third of proc(5) on
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        pid = int(file.parent.name)
        parents[pid] = int(fields[1])
        used[pid, int(fields[19])] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_below(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return {key: seconds for key, seconds in used.items() if key[0] != os.getpid() and is_below(key[0])}


def make_source(folder: Path, count: int) -> Path:
    """Distinct JPEGs: the contents of `decode.py`, each a few bytes different."""
    sys.path.insert(0, str(Path(__file__).parent))
    from decode import make_images

    folder.mkdir()
    contents = make_images(100)
    for index in range(count):
        # a comment segment after the start of image makes every file another one
        mark = b"\xff\xfe" + (10).to_bytes(2, "big") + index.to_bytes(8, "big")
        content = contents[index % len(contents)]
        (folder / f"{index:06d}.jpg").write_bytes(content[:2] + mark + content[2:])
    return folder


def decoded(path: Path) -> np.ndarray:
    from transvae_platform.data.pixels.decode import decode
    from transvae_platform.data.pixels.geometry import shorter_side

    return shorter_side(decode(path.read_bytes()), RESOLUTION)


class Images:
    """A map-style data set for the DataLoader."""

    def __init__(self, source: Path) -> None:
        self.paths = sorted(source.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return decoded(self.paths[index])


def loop(paths: list[Path]) -> float:
    """CPU seconds of the bare loop."""
    import torch

    torch.set_num_threads(1)

    def run() -> None:
        for first in range(0, len(paths), BATCH):
            np.stack([decoded(path) for path in paths[first : first + BATCH]])

    return of_thread(run)


def loops(source: Path, processes: int) -> float:
    """CPU seconds of the loop over a source, in so many processes side by side."""
    paths = sorted(source.iterdir())
    warm = paths[: 2 * BATCH]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(loop, [warm] * processes, chunksize=1)  # imports and first calls
        return sum(pool.map(loop, [paths[rank::processes] for rank in range(processes)], chunksize=1))


def dataloader(source: Path) -> None:
    import torch

    torch.set_num_threads(1)
    for _ in torch.utils.data.DataLoader(Images(source), batch_size=BATCH, num_workers=2):
        pass


def ingest(source: Path) -> None:
    from transvae_platform.data.listing import list_source
    from transvae_platform.data.making.ingest import ingest as make
    from transvae_platform.data.making.on_ray import run_on_ray
    from transvae_platform.study.data_spec import Data

    data = Data(source="folder", path=str(source), resolution=RESOLUTION, holdout=0.1)
    with tempfile.TemporaryDirectory() as home:
        make(list_source(str(source)), data, Path(home), run_on_ray)


PARTS: dict[str, Callable[[Path], float]] = {
    "loop alone": lambda source: loops(source, 1),
    "loop": lambda source: loops(source, 2),
    "dataloader": lambda source: of_children(lambda: dataloader(source)),
    "ingest": lambda source: of_tree(lambda: ingest(source)),
}
"""CPU seconds for all images of a source."""

if __name__ == "__main__":
    main()
