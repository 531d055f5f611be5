"""The undisturbed twin of a trial: the same training in this process, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transvae_platform.data.sets.catalogue import at_home, list_data_sets
from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.journal import Journal
from transvae_platform.study.state import TrialState
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.loop import train_vae
from transvae_platform.training.tensors import read_tensors
from transvae_platform.world import World


def unlike_twin(trial: TrialState, home: Path, folder: Path) -> list[str]:
    """Arrays of a finished trial's last checkpoint that differ in any bit from those of its twin.

    Args:
        home: with the one data set that the trial was trained on.
        folder: for the twin.
    """
    (made,) = list_data_sets(home)
    samples = open_data(at_home(home, made.manifest).location, home, 10**9)
    journal = Journal(folder / "journal.jsonl")
    train_vae(trial.trial, samples, folder, journal, World(), {})
    journal.close()
    steps = trial.trial.recipe.steps
    undisturbed, disturbed = _weights(folder, steps), _weights(trial.folder, steps)
    assert undisturbed.keys() == disturbed.keys()
    return [key for key in undisturbed if not (undisturbed[key] == disturbed[key]).all()]


def _weights(folder: Path, step: int) -> dict[str, Any]:
    with CheckpointStore(folder / "checkpoints", keep=9).verified(step) as path:
        return dict(read_tensors(path / "state"))
