"""One tidy table of a study: a row per trial, in the fixed order of families and sizes. Light imports only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transvae_platform.study.state import StudyState, TrialState

FAMILIES = ("transvae", "cnn", "vit", "swin", "s-vae", "ps-vae", "rae")
SIZES = ("T", "B", "L", "H", "G", "giant_printed")
FAMILY_NAMES = {
    "transvae": "TransVAE", "cnn": "CNN", "vit": "ViT", "swin": "Swin", "s-vae": "S-VAE", "ps-vae": "PS-VAE",
    "rae": "RAE",
}  # fmt: skip
SIZE_NAMES = {**{size: size for size in SIZES}, "giant_printed": "G (printed)"}
X_WORDS = {"parameters": "parameters", "training_flops": "training FLOPs"}
METRIC_NAMES = {"val/l1": "validation L1", "val/mse": "validation MSE"}


@dataclass(frozen=True)
class TrialRow:
    """One trial in numbers. Metrics are those of its last validation (`validated_step`); None before the first."""

    id: str
    label: str
    family: str
    size: str
    variant: str
    seed: int
    parameters: int
    forward_flops: float
    """Per image, 2 per multiply-add, encoder and decoder."""
    training_flops: float
    """Of the whole trial: forward and backward, all its images, loss networks excluded."""
    steps_done: int
    steps: int
    state: str
    attempts: int
    validated_step: int | None
    psnr: float | None
    ssim: float | None
    val_l1: float | None
    val_mse: float | None
    images: int
    seconds: float
    """Training seconds of all attempts."""
    device: str
    workers: int
    reason: str | None
    """Why the trial failed."""
    uri: str | None
    """Where the registry keeps its best checkpoint."""
    registered_psnr: float | None
    """PSNR of that checkpoint."""

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    def metric(self, name: str) -> float | None:
        """A metric by its journal name, e.g. `val/l1`."""
        value: float | None = getattr(self, {"val/l1": "val_l1", "val/mse": "val_mse"}.get(name, name))
        return value

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        return dataclasses.asdict(self)


def rank_of(family: str) -> int:
    """A family's place in every table and chart; those of generators come last."""
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def study_table(state: StudyState) -> tuple[TrialRow, ...]:
    """All trials, sorted by family (transvae, cnn, vit, swin), variant (base first), size (T to G) and seed."""
    return tuple(trial_row(trial) for trial in ordered(state.autoencoders))


def ordered(trials: Iterable[TrialState]) -> list[TrialState]:
    """Trials in the order every table and chart uses."""

    def rank(state: TrialState) -> tuple[int, bool, str, int, int]:
        trial = state.trial
        return (
            FAMILIES.index(trial.family),
            trial.variant != "base",
            trial.variant,
            SIZES.index(trial.size),
            trial.seed,
        )

    return sorted(trials, key=rank)


def trial_row(state: TrialState) -> TrialRow:
    """One trial as a row."""
    trial = state.trial
    step = max(state.validation, default=None)
    metrics = state.validation[step]["metrics"] if step is not None else {}
    return TrialRow(
        id=trial.id,
        label=trial.label,
        family=trial.family,
        size=trial.size,
        variant=trial.variant,
        seed=trial.seed,
        parameters=int(state.cost["parameters"]),
        forward_flops=state.cost["forward_flops"],
        training_flops=state.cost["training_flops"] * trial.recipe.batch_size * trial.recipe.steps,
        steps_done=state.step,
        steps=trial.recipe.steps,
        state=state.state,
        attempts=state.attempts,
        validated_step=step,
        psnr=metrics.get("val/psnr"),
        ssim=metrics.get("val/ssim"),
        val_l1=metrics.get("val/l1"),
        val_mse=metrics.get("val/mse"),
        images=state.images,
        seconds=state.seconds,
        device=trial.workers.device,
        workers=trial.workers.workers,
        reason=state.reason,
        uri=state.registered["uri"] if state.registered else None,
        registered_psnr=state.registered.get("psnr") if state.registered else None,
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the numbers that are there; None when there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
