"""What does an ingest cost beyond decoding and resizing, against a bare loop and a plain DataLoader with two workers?

    python benchmarks/ingest.py OUTPUT.json [small=2000] [large=8000] [rounds=3]

CPU milliseconds per image over the process tree, for JPEGs of about 500 x 375 to 256 x 256. Ray's start-up and the
fixed cost of an execution are taken out by the difference between a large and a small source (both are stated too); the
loop and the DataLoader do the same decoding and geometry, and write nothing. Rounds are interleaved, medians compared.
Wanted: at most 1.35 x the bare loop and at most 1.2 x the DataLoader. Ends with exit code 1 where that is missed.
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

HERE = Path(__file__)
RESOLUTION, BATCH = 256, 64


def main() -> None:
    if sys.argv[1] == "--part":
        print(json.dumps(PARTS[sys.argv[2]](Path(sys.argv[3]))))
        return
    options = {"small": 2000, "large": 8000, "rounds": 3} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])
    }
    with tempfile.TemporaryDirectory() as folder:
        sources = {name: make_source(Path(folder) / name, options[name]) for name in ("small", "large")}
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in PARTS}
        for _ in range(options["rounds"]):
            for name in PARTS:
                small, large = (tree_seconds(name, sources[size]) for size in ("small", "large"))
                per_image = (large - small) * 1000 / (options["large"] - options["small"])
                rounds[name].append({"cpu_ms": per_image, "fixed_s": small - per_image * options["small"] / 1000})
    medians = {name: statistics.median(row["cpu_ms"] for row in rows) for name, rows in rounds.items()}
    checks = {
        "ingest at most 1.35 x bare loop": medians["ingest"] / medians["loop"],
        "ingest at most 1.2 x DataLoader": medians["ingest"] / medians["dataloader"],
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "ray", "simplejpeg", "pyarrow")},
        **options,
        "cpu_ms_per_image": medians,
        "rounds": rounds,
        "ratios": checks,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(checks["ingest at most 1.35 x bare loop"] > 1.35 or checks["ingest at most 1.2 x DataLoader"] > 1.2)


def tree_seconds(part: str, source: Path) -> float:
    """CPU seconds of a child and all that it started, its imports left out."""
    answer = subprocess.run(
        [sys.executable, str(HERE), "--part", part, str(source)], check=True, capture_output=True, text=True
    )
    return float(json.loads(answer.stdout.splitlines()[-1])["cpu_s"])


def make_source(folder: Path, count: int) -> Path:
    """Distinct JPEGs: the contents of `decode.py`, each a few bytes different."""
    sys.path.insert(0, str(HERE.parent))
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


def loop(source: Path) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    paths = sorted(source.iterdir())
    decoded(paths[0])
    start = time.process_time()
    for first in range(0, len(paths), BATCH):
        np.stack([decoded(path) for path in paths[first : first + BATCH]])
    return {"cpu_s": time.process_time() - start}


def dataloader(source: Path) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    before = times()
    for _ in torch.utils.data.DataLoader(Images(source), batch_size=BATCH, num_workers=2):
        pass
    return {"cpu_s": times() - before}


def ingest(source: Path) -> dict[str, float]:
    import psutil

    from transvae_platform.cluster.schedule import ray_session
    from transvae_platform.data.listing import list_source
    from transvae_platform.data.making.ingest import ingest as make
    from transvae_platform.data.making.on_ray import run_on_ray
    from transvae_platform.study.data_spec import Data

    data = Data(source="folder", path=str(source), resolution=RESOLUTION, holdout=0.1)
    with tempfile.TemporaryDirectory() as home, ray_session(None):
        tree = psutil.Process().children(recursive=True)
        before = times() + sum(seconds(process) for process in tree)
        make(list_source(str(source)), data, Path(home), run_on_ray)
        # Ray keeps its workers alive, so they can still be asked
        after = times() + sum(seconds(process) for process in psutil.Process().children(recursive=True))
    return {"cpu_s": after - before}


def times() -> float:
    """CPU seconds of this process and of its children that ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def seconds(process) -> float:
    import psutil

    try:
        used = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return used.user + used.system


PARTS = {"loop": loop, "dataloader": dataloader, "ingest": ingest}

if __name__ == "__main__":
    main()
