"""Which learning rate does each rung of the micro ladder want? A sweep on the bundled photographs, without Ray.

    python benchmarks/calibrate_micro.py OUTPUT.jsonl cnn-T:1e-3,2e-3 transvae-G:1e-3 recipe.steps=500
    python benchmarks/calibrate_micro.py --table OUTPUT.jsonl

Every cell is one run of the quick-start recipe (`studies/quickstart.yaml`, with `key=value` changes) at one rate.
One line of JSON per run: model, rate, steps, batch, PSNR, L1, SSIM, CPU seconds, seed. Runs that the file already
holds are not repeated. `docs/calibration.md` reads the table and says what was chosen.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import at_home
from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study
from transvae_platform.training.loop import DivergedError, train_vae
from transvae_platform.world import World

STUDY = Path(__file__).parents[1] / "studies" / "quickstart.yaml"


def main() -> None:
    torch.set_num_threads(1)  # as in a study, where every worker has one core
    if sys.argv[1] == "--table":
        print_table(Path(sys.argv[2]))
        return
    output = Path(sys.argv[1])
    cells = [argument for argument in sys.argv[2:] if "=" not in argument]
    changes = tuple(argument for argument in sys.argv[2:] if "=" in argument)
    with tempfile.TemporaryDirectory() as home:
        for cell in cells:
            model, _, rates = cell.partition(":")
            for rate in rates.split(","):
                run(model, float(rate), output, Path(home), changes)


def run(model: str, rate: float, output: Path, home: Path, changes: tuple[str, ...], seed: int = 0) -> None:
    known = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    family, _, size = model.partition("-")
    spec = load_study(
        STUDY,
        (
            f"grid.families={{{family}: [{size}]}}",
            f"grid.seeds=[{seed}]",
            f"recipe.learning_rate={rate}",
            "recipe.overrides={}",
            *changes,
        ),
    )
    recipe = spec.recipe
    key = {
        "model": model, "rate": rate, "steps": recipe.steps, "batch": recipe.batch_size,
        "warmup": recipe.warmup_steps, "seed": seed,
    }  # fmt: skip
    if any(key.items() <= row.items() for row in known):
        return
    made = at_home(home, ingest(list_bundled(), spec.data, home, run_locally))
    (trial,) = build_grid(spec, made.manifest.fingerprint)
    folder = home / f"{trial.id}-{rate}"
    clock = time.process_time()
    try:
        journal = Journal(folder / "journal.jsonl")
        metrics = train_vae(trial, open_data(made.location, home, spec.data.cache_bytes), folder, journal, World(), {})
        values = {name.removeprefix("val/"): round(value, 4) for name, value in metrics.items()}
    except DivergedError as error:
        values = {"diverged": str(error)}
    row = {**key, "code": spec.grid.code, **values, "cpu_seconds": round(time.process_time() - clock, 1)}
    with output.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def print_table(results: Path) -> None:
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    rates = sorted({row["rate"] for row in rows})
    print("| model | " + " | ".join(f"{rate:g}" for rate in rates) + " |")
    print("|---|" + "---|" * len(rates))
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = {row["rate"]: row.get("psnr") for row in rows if row["model"] == model}
        best = max((value for value in cells.values() if value), default=None)
        texts = [
            "" if rate not in cells else "diverged" if cells[rate] is None
            else f"**{cells[rate]:.2f}**" if cells[rate] == best else f"{cells[rate]:.2f}"
            for rate in rates
        ]  # fmt: skip
        print(f"| {model} | " + " | ".join(texts) + " |")


if __name__ == "__main__":
    main()
