"""The training loop of every trial: plain PyTorch, from the first line to the last without Ray or MLflow.

What travels: ids -> a batch -> what its task makes of it (`training/task.py`) -> losses -> weights.
Everything that is random is a function of (seed, sample, step), so a resumed run continues as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transvae_platform.data.sets.mixture import Samples
from transvae_platform.data.sets.stores import first_line
from transvae_platform.data.stream.batches import Ahead, Stream
from transvae_platform.errors import UserError
from transvae_platform.study.costs import model_cost
from transvae_platform.study.journal import Journal
from transvae_platform.study.trial import Trial
from transvae_platform.training.autoencoding import VALIDATION, Autoencoding
from transvae_platform.training.checkpoint import open_checkpoints
from transvae_platform.training.guard import BadStretchError
from transvae_platform.training.preemption import Notices, hold
from transvae_platform.training.recorded import recorded_checkpoints, shortened, tell_again
from transvae_platform.training.representing import Representing
from transvae_platform.training.saver import Saver
from transvae_platform.training.shard_check import ShardCheck
from transvae_platform.training.sharding import gathered
from transvae_platform.training.step import train_step
from transvae_platform.training.task import Task
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World


class DivergedError(UserError):
    """Training broke down again after every rewind; trying again would end the same way."""


def train_vae(
    trial: Trial,
    samples: tuple[Samples, Samples],
    folder: Path,
    journal: Journal | None,
    world: World,
    lineage: dict[str, Any],
    sets: Mapping[str, Samples] | None = None,
    until: int | None = None,
    check: ShardCheck | None = None,
) -> dict[str, float]:
    """`train` for an autoencoder."""
    task = Representing(trial, world) if trial.recipe.semantic else Autoencoding(trial, world)
    return train(task, samples, folder, journal, lineage, sets, until, check)


def train(
    task: Task[Any],
    samples: tuple[Samples, Samples],
    folder: Path,
    journal: Journal | None,
    lineage: dict[str, Any],
    sets: Mapping[str, Samples] | None = None,
    until: int | None = None,
    check: ShardCheck | None = None,
) -> dict[str, float]:
    """Train one trial to its last step, resuming from its newest good checkpoint; returns the final metrics.

    Args:
        samples: training and held-out samples.
        folder: the trial's folder, for checkpoints and pictures.
        journal: the trial's journal on rank 0, None on the others.
        lineage: code version and environment, recorded with the attempt.
        sets: other images that the model is measured on at its last step, by the name that begins their metrics.
        until: an earlier step to pause at, kept like the last one.
        check: looks whether the samples are whole, before anything is saved.

    Raises:
        DivergedError: the loss, the weights or a metric stayed bad through all rewinds (`training/guard.py`).
        DamagedDataError: a shard is damaged.
        UserError: there are fewer samples than one batch, or the last checkpoint or the journal cannot be written.
    """
    recipe, world = task.trial.recipe, task.world
    end, stopped = recipe.steps if until is None else until, False
    held_out = {VALIDATION: samples[1], **(sets or {})}
    stream = Ahead(task.stream(samples[0]))
    weights = TrialWeights(task)
    saver = _restore(weights, folder, journal, world, lineage, check)
    if journal and task.origins:
        journal.append("frozen", networks=[asdict(origin) for origin in task.origins])
    try:
        while weights.step < end and not stopped:
            try:
                stopped = _train(weights, saver, stream, held_out, folder, journal, world, end)
            except BadStretchError as breach:
                _take_back(weights, saver, journal, world, str(breach))
        saver.finish()
        if end == recipe.steps and not stopped:
            saver.report(weights.metrics, recipe.steps)
        elif journal:
            journal.append("paused", step=weights.step)
    finally:
        saver.close()
    return weights.metrics


def _train(
    weights: TrialWeights, saver: Saver, stream: Stream[Any], held_out: Mapping[str, Samples],
    folder: Path, journal: Journal | None, world: World, end: int,
) -> bool:  # fmt: skip
    """From where the weights are to the step `end`, kept; or to a BadStretchError.

    Returns whether it ends before, kept, because the study shall stop.
    """
    recipe, evaluation = weights.trial.recipe, weights.trial.evaluation
    flops_per_step = _flops_per_step(weights.trial)
    notices = Notices(world)
    clock, since = time.monotonic(), weights.step
    while weights.step < end:
        terms = train_step(weights, stream, world)
        step, last = weights.step, weights.step == recipe.steps
        progress: dict[str, float] = {"step": step, "images": step * recipe.batch_size, "flops": step * flops_per_step}
        if step % evaluation.log_every == 0 or last:
            skipped = weights.guard.look(step, last).skipped
            values = _mean_over_workers(terms, world)
            if journal:
                seconds = (time.monotonic() - clock) / (step - since)
                journal.append("step", **progress, metrics=values, skipped=skipped, seconds_per_step=round(seconds, 5))
            clock, since = time.monotonic(), step
        if (evaluation.due(step) or last) and weights.guard.look(step, last).calm:
            _refuse_unless_finite(weights, world)
            due = held_out if last else {VALIDATION: held_out[VALIDATION]}
            weights.optimizer.zero_grad(set_to_none=True)  # the gradients' memory, while nothing needs them
            with gathered(weights.averaged):
                _validate(weights, due)
                _keep(weights, due, saver, folder, journal, progress)
            clock, since = time.monotonic(), step
        if not last and (notice := notices.at(step)) is not None:
            _save_at_once(weights, saver, world)
            if journal:
                journal.append("preempted", step=step, deadline=notice.deadline, nodes=list(notice.nodes))
            hold(notice)
            clock, since = time.monotonic(), step
        if not last and notices.stopping and _save_at_once(weights, saver, world):
            return True
        saver.tell()
    return False


def _restore(
    weights: TrialWeights, folder: Path, journal: Journal | None, world: World, lineage: dict[str, Any],
    check: ShardCheck | None,
) -> Saver:  # fmt: skip
    bad: dict[int, str] = {}

    def on_bad(step: int, message: str) -> None:
        bad[step] = message
        if journal:
            journal.append("damaged", step=step, message=message)

    recorded = recorded_checkpoints(folder) if journal else {}
    store = open_checkpoints(weights.trial, folder, journal.fence if journal else None, on_bad, recorded)
    sha256 = weights.restore(store, world)
    saver = Saver(store, world, journal, lineage, newest=weights.step or None, check=check)
    if journal:
        store.clean()
        if (newest := max(recorded, default=0)) > weights.step and newest not in bad:
            on_bad(newest, f"checkpoint of step {newest} is missing in {store.place.location}")
        if shortened(folder, weights.step, weights.trial.evaluation.log_every):
            journal.miss()
        journal.append(
            "started", step=weights.step, resumed_from=weights.step, world=world.size, device=world.name,
            attention=_attention(), lineage=lineage,
        )  # fmt: skip
        if bad:
            then = f"that of step {weights.step} is used" if weights.step else "none is left, the trial begins again"
            saver.alarm("lost", f"{bad[max(bad)]}; {then}, to the same result", weights.step)
        if weights.step:  # its own record may have been lost between the commit and the journal
            journal.append("checkpoint", step=weights.step, sha256=sha256, best_step=weights.best_step)
            tell_again(journal, folder, store, weights, _flops_per_step(weights.trial))
    return saver


def _flops_per_step(trial: Trial) -> float:
    return trial.recipe.batch_size * model_cost(trial)["training_flops"]


def _mean_over_workers(terms: dict[str, Tensor], world: World) -> dict[str, float]:
    """Every term as the mean over the global batch: each worker holds the mean over its equal share."""
    stacked = torch.stack([term.to(world.device, torch.float64) for term in terms.values()])
    means = world.sum(stacked) / world.size
    return dict(zip((f"train/{name}" for name in terms), means.tolist(), strict=True))


def _validate(weights: TrialWeights, held_out: Mapping[str, Samples]) -> None:
    metrics = weights.task.validate(weights.averaged, held_out)
    if not all(math.isfinite(value) for value in metrics.values()):
        raise BadStretchError(f"a validation metric is not finite at step {weights.step}: {metrics}")
    weights.validated(metrics)


def _keep(
    weights: TrialWeights, held_out: Mapping[str, Samples], saver: Saver, folder: Path, journal: Journal | None,
    progress: dict[str, float],
) -> None:  # fmt: skip
    """At a validated step: pictures on rank 0, then the checkpoint of all; each in the journal once it is there."""
    saver.wait()  # so that records stand in the order of their steps
    step = weights.step
    if journal:
        journal.append("validated", **progress, metrics=weights.metrics)
    if journal and journal.problem is None:  # else not even a line finds room
        for name, samples in held_out.items():
            mark = "" if name == VALIDATION else f"_{name}"
            picture = Path("pictures") / f"step_{step:09d}{mark}.png"
            try:
                psnr = weights.task.draw(weights.averaged, samples, folder / picture)
            except OSError as error:  # the next checkpoint, or the next pictures, may find room again
                told = f"{folder / picture} cannot be written ({first_line(error)}); training goes on"
                saver.mind(f"pictures: {first_line(error)}", told)
                continue
            drawn = {"step": step, "path": picture.as_posix(), "psnr": psnr}
            if name == VALIDATION:
                journal.append("pictures", **drawn)
            else:
                journal.append("set_pictures", set=name, **drawn)
    saver.save(weights)


def _save_at_once(weights: TrialWeights, saver: Saver, world: World) -> bool:
    """All ranks: a checkpoint with the metrics of the last validation, unless the step was kept already.

    Returns False in a bad stretch, where nothing is saved.
    """
    if not weights.guard.look(weights.step, last=False).calm:
        return False
    _refuse_unless_finite(weights, world)
    saver.save(weights)
    saver.wait()
    return True


def _refuse_unless_finite(weights: TrialWeights, world: World) -> None:
    broken = torch.tensor(int(not weights.finite()), device=world.device)
    # every process must come to the same answer, or the others would wait for it for ever
    if world.sum(broken).item():
        raise BadStretchError(f"the weights are not finite at step {weights.step}")


def _take_back(weights: TrialWeights, saver: Saver, journal: Journal | None, world: World, reason: str) -> None:
    """Return to where the guard says (`training/guard.py`, 4 and 5), and read other data from there on.

    Raises:
        DivergedError: the trial was taken back as often as its recipe allows.
    """
    broken_at, target, rewinds = weights.step, weights.guard.target, weights.guard.rewinds
    if rewinds == weights.trial.recipe.guard.rewinds:
        raise DivergedError(f"{reason}; this is after {rewinds} rewinds - lower the learning rate or clip")
    saver.take_back(weights, world)
    if journal:
        journal.append(
            "rewound", **{"from": broken_at}, to=weights.step, target=target, rewinds=rewinds + 1, reason=reason
        )


def _attention() -> str:
    from transvae.layers.attention import attention_backend

    return str(attention_backend())
