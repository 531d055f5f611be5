"""Which checkpoint of a finished trial is its result, and what is said of it in the registry (`cluster/reopen.py`)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.state import TrialState
from transvae_platform.tracking.promotion import HASHES, WEIGHTS, of_values, sha256
from transvae_platform.training.checkpoint import DamagedError, open_checkpoints
from transvae_platform.training.recorded import recorded_checkpoints

IMAGES = "images"
"""The tag of a version that says how many images its training saw, each as often as it was seen."""
INSTEAD = "instead_of"
"""The tag of a version that is not of its trial's best checkpoint: why not."""


def candidates(trial: TrialState, best: int) -> Iterator[int]:
    """The best step, then the other validated ones with a checkpoint, better ones first: what is left if it is lost.

    Raises:
        UnreachableError: the store does not tell what it has.
    """
    yield best
    try:
        steps = open_checkpoints(trial.trial, trial.folder).steps()
    except OSError as error:
        raise UnreachableError(f"{trial.trial.id}: its checkpoints cannot be listed ({error})") from None
    rank = trial.trial.ranked_by
    known = {step: trial.validation[step]["metrics"].get(rank.metric) for step in steps if step in trial.validation}
    order = {step: rank.order(value) for step, value in known.items() if value is not None and step != best}
    yield from sorted(order, key=order.__getitem__)


@contextmanager
def verified_result(trial: TrialState, step: int) -> Iterator[tuple[Path, dict[str, str]]]:
    """A checkpoint of a finished trial, or the second copy of its weights, verified, and the tags of its version."""
    store = open_checkpoints(trial.trial, trial.folder, recorded=recorded_checkpoints(trial.folder))
    with ExitStack() as opened:
        try:
            found = opened.enter_context(store.verified(step))
        except DamagedError as damage:
            spare = recorded_checkpoints(trial.folder, "spare").get(step, "")
            try:
                found = opened.enter_context(store.verified(step, spare))
            except DamagedError:
                raise damage from None
        if step not in trial.validation:
            raise UserError(f"{trial.trial.id}: the record of its validation at step {step} is damaged - submit again")
        lineage = json.loads((found / "state.json").read_text())["lineage"]
        tags = _tags(trial, step, lineage, trial.validation[step]["metrics"], found / "ema")
        yield found / "ema", tags


def _tags(
    trial: TrialState, step: int, lineage: dict[str, Any], metrics: dict[str, float | None], folder: Path
) -> dict[str, str]:
    if not all(value is not None and math.isfinite(value) for value in metrics.values()):
        raise UserError(f"{trial.trial.id}: its metrics are not finite, it is not registered: {metrics}")
    if reasons := list(of_values(folder / WEIGHTS)):
        raise UserError(f"{trial.trial.id}: it is not registered: {reasons[0]}")
    return {
        "trial_id": trial.trial.id,
        "study": trial.trial.study,
        "model": trial.trial.model,
        "seed": str(trial.trial.seed),
        "step": str(step),
        IMAGES: str(step * trial.trial.recipe.batch_size),
        "data_fingerprint": trial.trial.data_fingerprint,
        **{tag: sha256(folder / name) for name, tag in HASHES.items()},
        # as the checkpoint has it: the attempt that ended the trial may have run other code
        **{f"lineage.{key}": str(value) for key, value in lineage.items()},
        **{key.replace("/", "."): f"{value:.12g}" for key, value in metrics.items()},
    }
