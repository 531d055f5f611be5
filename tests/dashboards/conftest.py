"""Synthetic studies written through the real journal, so that pages are tested on what trainings leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.study.trial import Trial

RESOLUTION = 32
PARAMETERS = {"T": 80_000, "B": 240_000, "L": 700_000, "H": 1_900_000, "G": 4_600_000}
FACTOR = {"transvae": 0.9, "cnn": 1.2, "vit": 1.0, "swin": 1.1}
ALPHA = {"transvae": 0.32, "cnn": 0.2, "vit": 0.26, "swin": 0.29}
LINEAGE = {
    "code": "0.1.0+gaaaa", "python": "3.11.9", "torch": "2.13.0", "ray": "2.60.0", "host": "bench", "machine": "x86_64",
    "cpus": 2,
}  # fmt: skip
SKIPPED = [{"name": "holiday/<broken>.jpg", "reason": "image file is truncated"}]


class StudyWriter:
    """Writes a study's journals record by record; the clock is a counter, so equal studies have equal bytes."""

    def __init__(self, home: Path, families: dict[str, str], **changes: Any) -> None:
        values = {
            "study": "demo", "question": "Does the loss fall with size?",
            "expected": {"outcome": "It falls.", "source": "assumption"},
            "grid": {"families": {f: tuple(s) for f, s in families.items()}, "ladder": "micro", "code": "f8d8"},
            "data": {"source": "bundled", "resolution": RESOLUTION},
            "recipe": {"steps": 400, "batch_size": 16, "learning_rate": 1e-3, "warmup_steps": 20},
            "evaluation": {"every": 100, "log_every": 20, "pictures": 6},
        }  # fmt: skip
        for path, value in changes.items():
            part, _, key = path.partition("__")
            values[part] = {**values[part], key: value} if key else value
        self.spec = StudySpec.model_validate(values)
        self.folder = home / "studies" / self.spec.study
        self.now = 1_790_000_000.0
        self.journal = Journal(self.folder / "journal.jsonl", clock=self.clock, steady=lambda: self.now)
        self.trials = {trial.id: trial for trial in build_grid(self.spec, "f" * 64)}
        self.rng = np.random.default_rng(7)
        yy, xx = np.mgrid[:RESOLUTION, :RESOLUTION] / RESOLUTION
        self.images = [
            np.stack([0.5 + 0.5 * np.sin(6 * (xx * (i + 1) + c) + 4 * yy * i) for c in range(3)], -1) for i in range(6)
        ]

    def clock(self) -> float:
        self.now += 0.5
        return self.now

    def submit(self, code: str = "0.1.0+gaaaa", skipped: list[dict[str, str]] | None = None) -> None:
        self.journal.append(
            "submitted", spec=self.spec.model_dump(mode="json"), lineage={**LINEAGE, "code": code},
            tracking="https://user:secret@mlflow.example.org:5000", cluster="local",
        )  # fmt: skip
        self.journal.append(
            "ingested", fingerprint="f" * 64, images=14, train=6000, validation=512, skipped=skipped or []
        )
        for trial in self.trials.values():
            self.journal.append("queued", trial=trial.model_dump(mode="json"), cost=cost(trial))

    def find(self, family: str, size: str, seed: int = 0, variant: str = "base") -> Trial:
        wanted = (family, size, seed, variant)
        return next(t for t in self.trials.values() if (t.family, t.size, t.seed, t.variant) == wanted)

    def run(
        self, trial: Trial, until: int | None = None, resume: int | None = None, failed: str | None = None,
        rewound: int | None = None,
    ) -> None:  # fmt: skip
        """Train a trial to its end, or `until` a step; with `resume`, a second attempt takes over from that step.

        With `rewound`, the guard takes it back there, from its last but one log step, and 3 updates are skipped then.
        """
        journal = Journal(
            self.folder / "trials" / trial.id / "journal.jsonl", clock=self.clock, steady=lambda: self.now
        )
        end = loss_of(trial) * (1 + 0.004 * self.rng.standard_normal())
        self._attempt(journal, trial, 0, resume + 30 if resume else until or trial.recipe.steps, end)
        if resume:
            self._attempt(journal, trial, resume, until or trial.recipe.steps, end)
        if rewound:
            back = {"from": trial.recipe.steps - 20, "to": rewound, "rewinds": 1, "reason": "5 bad steps in a row"}
            journal.append("rewound", **back)
            self._steps(journal, trial, rewound, trial.recipe.steps, end, skipped=3)
        if failed:
            journal.append("failed", reason=failed)
        elif until is None:
            journal.append("finished", step=trial.recipe.steps, metrics=metrics_of(end))
        journal.close()

    def run_all(self) -> None:
        for trial in self.trials.values():
            self.run(trial)

    def register(self, trial: Trial) -> None:
        name = f"{trial.study}.{trial.label}"
        self.journal.append(
            "registered", trial=trial.id, name=name, version=1, uri=f"models:/{name}/1", psnr=20.0, sha256="0" * 64
        )

    def state(self) -> StudyState:
        return StudyState(self.folder)

    def _attempt(self, journal: Journal, trial: Trial, start: int, stop: int, end: float) -> None:
        journal.append(
            "started", step=start, resumed_from=start, world=1, device="cpu", attention="sdpa", lineage=LINEAGE
        )
        self._steps(journal, trial, start, stop, end)

    def _steps(self, journal: Journal, trial: Trial, start: int, stop: int, end: float, skipped: int = 0) -> None:
        flops = cost(trial)["training_flops"]
        for step in range(start + 20, stop + 1, 20):
            done = {"step": step, "images": step * 16, "flops": step * 16 * flops}
            value = end * (1 + 1.6 * np.exp(-6 * step / trial.recipe.steps))
            noisy = float(value * (1.02 + 0.03 * self.rng.standard_normal()))
            losses = {"train/loss": noisy, "train/l1": noisy}
            journal.append("step", **done, metrics=losses, skipped=skipped, seconds_per_step=0.1)
            if step % trial.evaluation.every == 0:
                final = step == trial.recipe.steps
                metrics = metrics_of(end if final else float(value))
                journal.append("validated", **done, metrics=metrics)
                path, psnr = f"pictures/step_{step:09d}.png", [metrics["val/psnr"] + i - 2.5 for i in range(6)]
                self._draw(self.folder / "trials" / trial.id / path, metrics["val/l1"])
                journal.append("pictures", step=step, path=path, psnr=psnr)
                journal.append("checkpoint", step=step, sha256="0" * 64, best_step=step)

    def draw_set(self, trial: Trial, name: str, noise: float = 0.1) -> None:
        """Pictures of a further set, as a trial draws them at its last step."""
        folder, path = self.folder / "trials" / trial.id, f"pictures/step_{trial.recipe.steps:09d}_{len(name)}.png"
        journal = Journal(folder / "journal.jsonl", clock=self.clock, steady=lambda: self.now)
        self._draw(folder / path, noise)
        journal.append("set_pictures", set=name, step=trial.recipe.steps, path=path, psnr=[31.25] * 6)
        journal.close()

    def _draw(self, path: Path, noise: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        blurred = [image + noise * self.rng.standard_normal(image.shape) for image in self.images]
        sheet = np.concatenate([np.concatenate(row, axis=1) for row in (self.images, blurred)], axis=0)
        Image.fromarray((sheet.clip(0, 1) * 255).astype(np.uint8)).save(path)


def cost(trial: Trial) -> dict[str, float]:
    if trial.generator is not None:
        width = trial.model_config_values["width"]
        return {"parameters": 100 * width, "forward_flops": 1e6 * width, "training_flops": 3e6 * width}
    parameters = PARAMETERS[trial.size] * FACTOR[trial.family]
    return {
        "parameters": int(parameters), "encoder_parameters": int(parameters) // 2,
        "decoder_parameters": int(parameters) - int(parameters) // 2, "forward_flops": 260 * parameters**0.95,
        "training_flops": 780 * parameters**0.95,
    }  # fmt: skip


def loss_of(trial: Trial) -> float:
    parameters = cost(trial)["parameters"]
    wiggle = {"T": 0.4, "B": -0.5, "L": 0.2, "H": 0.3, "G": -0.3}[trial.size] * 0.008
    return float((0.05 + 0.09 * (parameters / 80_000) ** -ALPHA[trial.family]) * (1 + wiggle))


def metrics_of(l1: float) -> dict[str, float]:
    mse = 2.1 * l1**2
    return {
        "val/l1": l1, "val/mse": mse, "val/psnr": float(10 * np.log10(4 / mse)), "val/ssim": float(1 - 4 * l1),
    }  # fmt: skip


@pytest.fixture
def write_study(tmp_path) -> Callable[..., StudyWriter]:
    return lambda families, **changes: StudyWriter(tmp_path, families, **changes)


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> StudyWriter:
    """A study with everything in it: four families, a failure, a resumed and a running trial, other code."""
    writer = StudyWriter(
        tmp_path_factory.mktemp("whole"), {"vit": "GT", "transvae": "HGTLB", "swin": "TBL", "cnn": "TBLHG"},
        question='Is 1 < 2 & "so on"? <script>alert(1)</script>',
    )  # fmt: skip
    writer.submit(skipped=SKIPPED)
    broken, running = writer.find("swin", "L"), writer.find("vit", "G")
    for trial in writer.trials.values():
        if trial.id == broken.id:
            writer.run(trial, until=200, failed="CUDA out of memory at <60 %>")
        elif trial.id == running.id:
            writer.run(trial, until=300)
        else:
            writer.run(trial, resume=200 if trial.size == "H" else None)
    writer.register(writer.find("transvae", "G"))
    writer.submit(code="0.1.0+gbbbb", skipped=SKIPPED)
    return writer
