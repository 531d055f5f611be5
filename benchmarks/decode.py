"""What does it cost to turn a photograph's file into a 256 x 256 sample, against PIL and against decoding alone?

    python benchmarks/decode.py OUTPUT.json [images=60] [rounds=9]

CPU milliseconds per image on one thread: medians over interleaved rounds. The images are made here: mixes of two
photographs that scikit-image and scikit-learn bring along, with mild noise, as JPEG of about 500 x 375, quality 90,
4:2:0, all in memory. Wanted: decode + resize at least 2 x as fast as PIL at 60 dB or more against PIL's own result, and
at least 0.6 of the speed of decoding alone. Ends with exit code 1 where that is missed.
"""

import datetime
import importlib.metadata
import io
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

from transvae_platform.data.pixels.decode import decode
from transvae_platform.data.pixels.geometry import GEOMETRIES, GEOMETRY_VERSION

RESOLUTION = 256
SIZES = [(500, 375)] * 5 + [(375, 500)] * 2 + [(500, 333)] * 2 + [(333, 500)]  # about as in ImageNet (assumption)
NOISE = 17.0  # levels (assumption), for files of about 100 kB, near the mean of ImageNet's training set


def main() -> None:
    options = {"images": 60, "rounds": 9} | {
        key: int(value) for key, value in (argument.split("=") for argument in sys.argv[2:])
    }
    torch.set_num_threads(1)
    contents = make_images(options["images"])
    rounds = {name: [] for name in METHODS}
    for _ in range(options["rounds"]):
        for name, method in METHODS.items():
            start = time.process_time()
            for content in contents:
                method(content)
            rounds[name].append((time.process_time() - start) * 1000 / len(contents))
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": cpu_model(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "pillow", "simplejpeg", "numpy")},
        "geometry_version": GEOMETRY_VERSION,
        "mean_kilobytes": round(statistics.mean(map(len, contents)) / 1000, 1),
        **options,
        "methods": [row(name, rounds, contents) for name in METHODS],
    }
    checks = acceptance(result["methods"])
    Path(sys.argv[1]).write_text(json.dumps(result | {"acceptance": checks}, indent=2) + "\n")
    print(f"{result['machine']}, 1 thread, {len(contents)} images of {result['mean_kilobytes']} kB on average")
    print(f"{'method':34}{'CPU ms':>8}{'lowest':>8}{'highest':>9}{'x PIL':>7}{'dB mean':>9}{'dB min':>8}")
    for line in result["methods"]:
        decibels = "".join(
            f"{line[key]:>{width}}" if key in line else "" for key, width in (("psnr", 9), ("psnr_min", 8))
        )
        numbers = f"{line['cpu_ms']:>8.2f}{line['lowest']:>8.2f}{line['highest']:>9.2f}{line['x_pil']:>7.2f}"
        print(f"{line['method']:34}{numbers}{decibels}")
    for check in checks:
        print(f"{check['what']}: {check['measured']} (wanted: {check['wanted']})", "" if check["met"] else "MISSED")
    sys.exit(not all(check["met"] for check in checks))


def make_images(count: int) -> list[bytes]:
    photographs = [
        data.astronaut(),
        data.chelsea(),
        data.coffee(),
        data.hubble_deep_field(),
        *load_sample_images().images,
    ]
    random = np.random.default_rng(0)
    contents = []
    for index in range(count):
        width, height = SIZES[index % len(SIZES)]
        one, other = (
            part(photographs[which], width, height, random)
            for which in random.choice(len(photographs), 2, replace=False)
        )
        share = random.uniform(0.2, 0.8)
        mixed = share * one + (1 - share) * other + random.normal(0, NOISE, one.shape)
        file = io.BytesIO()
        Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90, subsampling="4:2:0")
        contents.append(file.getvalue())
    return contents


def part(photograph: np.ndarray, width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """A random part of the asked shape, at least 0.6 of what fits, resized to (height, width, 3) floats."""
    image = Image.fromarray(photograph)
    factor = min(image.width / width, image.height / height) * random.uniform(0.6, 1.0)
    left = random.uniform(0, image.width - width * factor)
    top = random.uniform(0, image.height - height * factor)
    box = (left, top, left + width * factor, top + height * factor)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box), np.float64)


def pil_sample(content: bytes) -> np.ndarray:
    """The reference: PIL all the way, bicubic with antialiasing, floor-centred crop."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    scale = RESOLUTION / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - RESOLUTION) // 2, (height - RESOLUTION) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + RESOLUTION, top + RESOLUTION)))


def sample(name: str):
    def make(content: bytes) -> np.ndarray:
        return GEOMETRIES[name](decode(content), RESOLUTION)

    return make


METHODS = {
    "PIL": pil_sample,
    "shorter_side": sample("shorter_side"),
    "adm": sample("adm"),
    "shorter_side_bilinear": sample("shorter_side_bilinear"),
    "decode() only": decode,
    "simplejpeg only": simplejpeg.decode_jpeg,
    "PIL decode only": lambda content: np.asarray(Image.open(io.BytesIO(content)).convert("RGB")),
}


def row(name: str, rounds: dict[str, list[float]], contents: list[bytes]) -> dict:
    median = statistics.median(rounds[name])
    line = {
        "method": name,
        "cpu_ms": round(median, 3),
        "lowest": round(min(rounds[name]), 3),
        "highest": round(max(rounds[name]), 3),
        "x_pil": round(statistics.median(rounds["PIL"]) / median, 3),
    }
    if name not in GEOMETRIES:
        return line
    errors = [np.square(METHODS[name](content).astype(float) - pil_sample(content)).mean() for content in contents]
    values = [10 * np.log10(255**2 / max(error, 1e-9)) for error in errors]
    return line | {"psnr": round(float(np.mean(values)), 1), "psnr_min": round(float(min(values)), 1)}


def acceptance(methods: list[dict]) -> list[dict]:
    by_name = {line["method"]: line for line in methods}
    ours, alone = by_name["shorter_side"], by_name["simplejpeg only"]
    checks = [
        ("times PIL's speed", ours["x_pil"], 2.0),
        ("dB against PIL, lowest of all images", ours["psnr_min"], 60.0),
        ("of the speed of decoding alone", round(alone["cpu_ms"] / ours["cpu_ms"], 3), 0.6),
    ]
    return [{"what": what, "measured": value, "wanted": least, "met": value >= least} for what, value, least in checks]


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
