"""Images per second, peak memory and MFU of training at 256 x 256, and memory of inference, for all paper models.

    python benchmarks/gpu.py OUTPUT.json [models=transvae-T/f16d32,cnn-L/f16d32] [resolution=256] [steps=20] [batch=256]
    python benchmarks/gpu.py OUTPUT.json device=cpu models=vit-micro-T/f8d8 resolution=32 steps=2 batch=4   # self-test

A step is forward, L1 + KL, backward and fused AdamW, in bf16 with fp32 weights as in a study, without data and the
networks of losses; images lie on the device. The batch is halved from `batch` until it fits. Each model runs plain and
compiled by blocks, with torch's attention and with flash-attn where that is installed; the order is interleaved over
rounds, medians of steps are shown. MFU = counted FLOPs (`transvae.accounting`) / time / dense bf16 peak.

Beside each time stand its two floors: FLOPs at the peak, and bytes at the memory's bandwidth: activations that are kept
are written and read once, and every number of the state is read and written once. Where there is no GPU the table says
"not measured" and shows the floors of an H100. The paper's memory is that of tables 3-6 (batch 16, bf16, one H20).
"""

import gc
import statistics
import sys
import time
from collections.abc import Iterator

import torch
from micro import write

from transvae import create_model, list_models
from transvae.accounting import ModelCost, count_model
from transvae.autoencoder import Autoencoder
from transvae.layers import attention
from transvae.losses.objective import Objective
from transvae.memory import count_activations
from transvae.registry import model_config
from transvae.sizes import FAMILIES
from transvae_platform.study.costs import STATE_BYTES
from transvae_platform.training.compiling import compile_blocks

PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12), "H20": (148e12, 4.0e12)}
"""Dense bf16 FLOP/s and bytes/s of memory by a part of the device's name (NVIDIA's data sheets, SXM)."""
PAPER_GB = {
    "transvae": (7.4, 7.6, 12.0, 17.0, 21.5),
    "cnn": (7.3, 7.4, 14.2, 18.4, 31.1),
    "vit": (7.2, 7.9, 10.4, 14.4, 21.3),
    "swin": (7.4, 7.6, 12.0, 17.0, 21.5),  # the same column as table 3's
}
"""Inference memory of T, B, L, H, G at f16d32 (tables 3 to 6)."""
PAPER_F8_LARGE_GB = 6.3
PAPER = [name for name in list_models() if name.startswith(FAMILIES) and "-micro-" not in name]
ROUNDS = 3
INFERENCE_BATCH = 16
VARIANTS = [(compiled, kernel) for kernel in ("sdpa", "flash-attn") for compiled in (False, True)]


def main() -> None:
    options = {"resolution": "256", "steps": "20", "batch": "256", "device": "cuda", "models": ""}
    options |= dict(argument.split("=", 1) for argument in sys.argv[2:])
    names = options["models"].split(",") if options["models"] else PAPER
    size, steps, batch = (int(options[key]) for key in ("resolution", "steps", "batch"))
    there = options["device"] == "cpu" or torch.cuda.is_available()
    device = torch.device(options["device"] if there else "cpu")
    title = torch.cuda.get_device_name(device) if device.type == "cuda" else "H100" if not there else "cpu"
    peaks = next((value for part, value in PEAKS.items() if part in title), None)
    rows = [row for name in names for row in measure(name, size, steps, batch, device, peaks, there)]
    print_table(rows)
    write("torch", device=title if there else "not measured", options=options, rows=rows)


def measure(
    name: str, size: int, steps: int, batch: int, device: torch.device, peaks: tuple[float, float] | None, there: bool
) -> Iterator[dict[str, object]]:
    """A row per variant of a model; without a device the floors alone."""
    cost = count_model(name, size)
    kept = count_activations(model_config(name, resolution=size), size, bf16=True, checkpointing=False)
    paper = paper_gb(name)
    inference = inference_bytes(name, size, device) if there and device.type == "cuda" else None
    fits = largest_batch(name, size, batch, device) if there else batch
    times = interleaved(name, size, steps, fits, device) if there else {}
    for compiled, kernel in VARIANTS:
        seconds, peak_bytes = times.get((compiled, kernel), (None, None))
        yield {
            "model": name, "compiled": compiled, "attention": kernel, "batch": fits,
            "images_per_second": fits / seconds if seconds else None,
            "peak_gb": peak_bytes / 1e9 if peak_bytes else None,
            "mfu": fits * cost.training_flops / seconds / peaks[0] if seconds and peaks else None,
            "step_ms": 1000 * seconds if seconds else None,
            **floors(cost, kept, fits, peaks),
            "inference_gb": inference / 1e9 if inference else None, "paper_inference_gb": paper,
        }  # fmt: skip


def paper_gb(name: str) -> float | None:
    """What the paper states for a model's inference, if it does."""
    family, _, rest = name.partition("-")
    size, _, code = rest.partition("/")
    if (family, size, code) == ("transvae", "L", "f8d16"):
        return PAPER_F8_LARGE_GB
    return PAPER_GB[family]["TBLHG".index(size)] if code == "f16d32" and len(size) == 1 else None


def floors(cost: ModelCost, kept: int, batch: int, peaks: tuple[float, float] | None) -> dict[str, float | None]:
    """Milliseconds that a step cannot fall below: all its FLOPs, and all its bytes."""
    if peaks is None:
        return {"flops_floor_ms": None, "bytes_floor_ms": None}
    moved = 2 * batch * kept + 2 * cost.parameters * STATE_BYTES
    return {"flops_floor_ms": 1e3 * batch * cost.training_flops / peaks[0], "bytes_floor_ms": 1e3 * moved / peaks[1]}


def interleaved(
    name: str, size: int, steps: int, batch: int, device: torch.device
) -> dict[tuple[bool, str], tuple[float, int | None]]:
    """(median seconds of a step, peak bytes) by variant; each variant runs in every round."""
    found: dict[tuple[bool, str], list[float]] = {}
    peaks: dict[tuple[bool, str], int | None] = {}
    for _ in range(ROUNDS):
        for compiled, kernel in VARIANTS:
            if kernel == "flash-attn" and (device.type == "cpu" or attention._flash() is None):
                continue
            key = (compiled, kernel)
            seconds, peaks[key] = train(name, size, steps, batch, device, compiled, kernel)
            found.setdefault(key, []).extend(seconds)
    return {key: (statistics.median(values), peaks[key]) for key, values in found.items()}


def train(
    name: str, size: int, steps: int, batch: int, device: torch.device, compiled: bool, kernel: str
) -> tuple[list[float], int | None]:
    """Seconds of every step after two warm ones, and the device's peak memory in bytes."""
    attention.attention_backend = lambda: kernel  # type: ignore[assignment]  # the process's choice, for this run
    model = fresh(name, size, device).train()
    if compiled:
        compile_blocks(model, device)
    objective, optimizer = Objective(), torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.rand(batch, 3, size, size, device=device).mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(steps + 2):
        began = now(device)
        with torch.autocast(device.type, torch.bfloat16):
            reconstruction, mu, logvar = model(x)
        objective(x, reconstruction, mu, logvar)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(now(device) - began)
    return seconds[2:], torch.cuda.max_memory_allocated() if device.type == "cuda" else None


def largest_batch(name: str, size: int, batch: int, device: torch.device) -> int:
    """The largest halving of `batch` whose plain step fits."""
    while device.type == "cuda" and batch > 1:
        try:
            train(name, size, 1, batch, device, False, "sdpa")
            break
        except torch.OutOfMemoryError:
            batch //= 2
        gc.collect()
        torch.cuda.empty_cache()
    return batch


@torch.no_grad()
def inference_bytes(name: str, size: int, device: torch.device) -> int:
    """Peak memory of a reconstruction at batch 16 in bf16, weights included."""
    model = fresh(name, size, device).eval()
    x = torch.zeros(INFERENCE_BATCH, 3, size, size, device=device)
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast(device.type, torch.bfloat16):
        model(x)
    return torch.cuda.max_memory_allocated()


def fresh(name: str, size: int, device: torch.device) -> Autoencoder:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return create_model(name, resolution=size).to(device, memory_format=torch.channels_last)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def print_table(rows: list[dict[str, object]]) -> None:
    columns = [key for key in rows[0] if key != "model"]
    print("  ".join(["model".ljust(28), *(column.rjust(18) for column in columns)]))
    for row in rows:
        cells = (
            "not measured" if row[c] is None else f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c])
            for c in columns
        )
        print("  ".join([str(row["model"]).ljust(28), *(cell.rjust(18) for cell in cells)]))


if __name__ == "__main__":
    main()
