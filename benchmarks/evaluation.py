"""What does an evaluation cost beside the bare model, and FID's end beside scipy's?

    python benchmarks/evaluation.py OUTPUT.json [images=32] [side=64] [rounds=3] [features=2048]
    python benchmarks/evaluation.py OUTPUT.json device=cuda model=transvae-L/f16d32 images=1024 side=256 batch=64

One process, one thread, CPU seconds, medians of interleaved rounds, random weights. A shard of `images` pictures of
`side` pixels is (a) reconstructed by a plain loop, (b) measured by an evaluation's piece of work without networks
(reading, hashing, PSNR, files), (c) the same with LPIPS and Inception, (d) reconstructed by a plain loop that also runs
those two networks on the images. Wanted: (a) / (b) and (d) / (c) at least 0.9. What (c) adds to (b) is the price of the
networks, the same for every model. With `device=cuda` wall seconds count, and its share of (c) is wanted below 10 %.
Then moments of `features` numbers per image: CPU seconds of their sums per 1,000 images (the pool shares them), peak
memory after 1 and after 8 shards, the distance and its cross-check beside the eigenvalues that torch-fidelity takes and
scipy's `sqrtm`. Wanted: below 5 s together. Ends with exit code 1 where a wish is missed.
"""

import statistics
import sys
import tempfile
import time
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from micro import write
from scipy import linalg

from transvae import create_model
from transvae.tokenizers import open_tokenizer
from transvae_platform.data.sets.manifest import Manifest, write_manifest
from transvae_platform.data.sets.shards import image_field, write_shard
from transvae_platform.evaluation import measure
from transvae_platform.evaluation.frechet import disagreement, frechet_distance
from transvae_platform.evaluation.moments import Moments
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.evaluation.reconstruction import to_8bit

TEXTS = {"device": "cpu", "model": "transvae-micro-G/f8d8"}
NUMBERS = {"images": 32, "side": 64, "rounds": 3, "features": 2048, "batch": 8}
RANDOM = {name: {"weights": "random"} for name in ("lpips", "inception")}


class NoFeatures:
    """In place of Inception: one number per image."""

    def __call__(self, levels: torch.Tensor) -> torch.Tensor:
        return levels[:, :1, 0, 0]


def main() -> None:
    given = dict(argument.split("=") for argument in sys.argv[2:])
    texts = TEXTS | {key: given.pop(key) for key in TEXTS if key in given}
    options = NUMBERS | {key: int(value) for key, value in given.items()}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        loops = passes(Path(folder), options, **texts)
    distances = finals(options["features"])
    ratios = {
        "without networks": loops["plain loop"] / loops["without networks"],
        "with networks": loops["plain loop and networks"] / loops["with networks"],
    }
    share = 1 - loops["without networks"] / loops["with networks"]
    named = torch.cuda.get_device_name() if texts["device"] == "cuda" else "cpu"
    found = {"seconds": loops, "plain_over_evaluation": ratios, "share_of_networks": share, **distances}
    write("torch", "numpy", "scipy", name=named, **texts, **options, **found)
    slow = texts["device"] == "cuda" and share > 0.1
    sys.exit(slow or min(ratios.values()) < 0.9 or distances["cpu_s_of_distance"]["ours, checked"] > 5)


def passes(folder: Path, options: dict[str, int], device: str, model: str) -> dict[str, float]:
    """Median seconds over one shard."""
    images, side, batch = options["images"], options["side"], options["batch"]
    torch.manual_seed(0)
    create_model(model).save_pretrained(folder / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), np.uint8)
    columns = {"item": pa.array(range(images)), "view": pa.array([0] * images)}
    shard = write_shard(folder / "validation.arrow", "validation", {image_field(side): pixels}, columns)
    settings = {"resolution": side}
    write_manifest(folder, Manifest("a", "images", (image_field(side),), images, (shard,), (), settings, {}, {}))
    tokenizer = open_tokenizer(folder / "model", device)
    work = {
        "images": vars(shard), "location": str(folder), "model": str(folder / "model"), "device": device, "seed": 0,
        "weights_sha256": tokenizer.facts.weights_sha256, "frozen": RANDOM, "batch_size": batch, "reference": True,
        "pictures": None, "items": images, **{name: str(folder / name) for name in ("values", "features", "result")},
    }  # fmt: skip
    whole = PRESETS["vavae"]
    bare = replace(whole, lpips=None, trunk=None)

    lpips, inception = measure.networks(whole, RANDOM, device)

    def plain(judge=None) -> None:
        with torch.inference_mode():
            for start in range(0, images, batch):
                levels = torch.from_numpy(pixels[start : start + batch]).to(device)
                x = levels.permute(0, 3, 1, 2).float() / 127.5 - 1
                output = tokenizer.decode(tokenizer.posterior(x).sample())
                if judge:
                    judge(x, output)

    def judge(x, output) -> None:
        lpips(x, output)
        for images_B3HW in (x, output):
            inception(to_8bit(images_B3HW))

    def without() -> None:
        load = measure.load_inception
        measure.load_inception = lambda *_: NoFeatures()
        measure.measure_shard({**work, "protocol": asdict(replace(bare, ssim=None))})
        measure.load_inception = load

    def ssim() -> None:
        load = measure.load_inception
        measure.load_inception = lambda *_: NoFeatures()
        measure.measure_shard({**work, "protocol": asdict(bare)})
        measure.load_inception = load

    def everything() -> None:
        measure.measure_shard({**work, "protocol": asdict(whole)})

    parts = {
        "plain loop": plain,
        "plain loop and networks": lambda: plain(judge),
        "without networks": without,
        "with SSIM": ssim,
        "with networks": everything,
    }
    for part in parts.values():
        part()
    taken = {name: [] for name in parts}
    for _ in range(options["rounds"]):
        for name, part in parts.items():
            taken[name].append(seconds(part, device))
    return {name: statistics.median(values) for name, values in taken.items()}


def finals(features: int) -> dict[str, object]:
    """The end of FID: memory of the moments, CPU seconds of the solvers, and by how much they differ."""
    random = np.random.default_rng(0)
    spectrum = np.sqrt(1 / np.arange(1, features + 1))
    moments = [Moments.empty(features) for _ in range(2)]
    peaks, start = [], time.process_time()
    some = np.abs(random.normal(size=(1000, features)) * spectrum).astype(np.float32)
    Moments.empty(features).add(some)
    sums = time.process_time() - start
    for shards in (1, 7):
        tracemalloc.start()
        for _ in range(shards):
            for each, scale in zip(moments, (1.0, 1.02), strict=True):
                values = np.abs(random.normal(size=(640, features)) * spectrum * scale)
                each.add(values.astype(np.float32))
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    a, b = (each.gaussian() for each in moments)
    found: dict[str, float] = {}

    def apart(root_trace: float) -> float:
        difference = a.mean - b.mean
        return float(difference @ difference + np.trace(a.covariance + b.covariance) - 2 * root_trace)

    def by_sqrtm() -> float:
        return apart(np.trace(linalg.sqrtm(a.covariance @ b.covariance)).real)

    def by_eigvals() -> float:
        return apart(np.sqrt(linalg.eigvals(a.covariance @ b.covariance).astype(complex)).real.sum())

    def checked() -> float:
        distance = frechet_distance(a, b)
        assert disagreement(a, b, distance) is None
        return distance

    ways = {"ours": lambda: frechet_distance(a, b), "ours, checked": checked, "eigvals": by_eigvals, "sqrtm": by_sqrtm}
    seconds = {}
    for name, way in ways.items():
        start = time.process_time()
        found[name] = way()
        seconds[name] = time.process_time() - start
    return {
        "cpu_s_of_sums_per_1000": sums,
        "cpu_s_of_distance": seconds,
        "distances": found,
        "peak_MiB_of_a_shard": dict(zip(("first", "after 8"), peaks, strict=True)),
    }


def seconds(part, device: str) -> float:
    """CPU seconds of this process, or with a GPU wall seconds until it is done."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    part()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
