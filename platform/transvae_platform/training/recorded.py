"""What a trial's journal tells of its checkpoints, and what its checkpoints tell of it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.training.checkpoint import CheckpointStore, DamagedError

if TYPE_CHECKING:
    from transvae_platform.training.weights import TrialWeights


def recorded_checkpoints(folder: Path, of: str = "sha256") -> dict[int, str]:
    """The SHA-256 of each checkpoint's manifest by step, ascending; of a trial's folder.

    Of second copies (`training/checkpoint.py`, 6) with `of="spare"`.

    What came after the checkpoint from which an attempt went on, or a rewind, is not told: it never happened.
    """
    known: dict[int, str] = {}
    for record in read_journal(folder / "journal.jsonl"):
        match record["event"]:
            case "started":
                known = _up_to(record["resumed_from"], known)
            case "rewound":
                known = _up_to(record["to"], known)
            case "checkpoint" if of in record:
                known[record["step"]] = record[of] or ""
    return dict(sorted(known.items()))


def shortened(folder: Path, step: int, log_every: int) -> bool:
    """Whether a trial's journal lacks steps that a checkpoint of this step follows (`training/saver.py`, 3)."""
    told = {record["step"] for record in read_journal(folder / "journal.jsonl") if record["event"] == "step"}
    return step >= log_every and step - step % log_every not in told


def tell_again(journal: Journal, folder: Path, store: CheckpointStore, weights: TrialWeights, flops: float) -> None:
    """Record validations of best steps that the journal lost (`study/journal.py`, 10); `flops` are of a step."""
    told = {record["step"] for record in read_journal(folder / "journal.jsonl") if record["event"] == "validated"}
    for step in sorted({*weights.best_steps} - told):
        with suppress(DamagedError), store.verified(step) as found:
            metrics = json.loads((found / "state.json").read_text())["metrics"]
            images = step * weights.trial.recipe.batch_size
            journal.append("validated", step=step, images=images, flops=step * flops, metrics=metrics)


def _up_to(step: int, known: dict[int, str]) -> dict[int, str]:
    return {other: sha256 for other, sha256 in known.items() if other <= step}
