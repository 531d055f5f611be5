"""What a study will cost, before anything is launched: per trial and in total. Changes nothing.

Times come from trials of the same model, batch and device that earlier studies in the same home measured; where there
are none, from counted FLOPs and an assumed rate, and the plan says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.costs import losses_flops, memory_bytes, model_cost
from transvae_platform.study.data_spec import training_sizes
from transvae_platform.study.generator_plan import latents_bytes, latents_key
from transvae_platform.study.grid import Trial, stable_hash
from transvae_platform.study.ordering import good_order
from transvae_platform.study.scheduling import Agenda, Work
from transvae_platform.study.simulation import makespan
from transvae_platform.study.state import OVER, StudyState

# Sustained training rates, FLOP/s, where nothing was measured. CPU: one core on the micro ladder reaches 4 to 50
# GFLOP/s (measured on a 2-core server CPU); GPU: 30 % of PEAK_RATE (an MFU of 0.3:
# assumption; published VAE and DiT trainings reach 12 to 50 %).
PEAK_RATE = 989e12  # of an H100 in dense bf16, FLOP/s (NVIDIA's data sheet, SXM)
ASSUMED_RATE = {"cpu": 2e10, "gpu": 3e14}
START_SECONDS = {"cpu": 20.0, "gpu": 40.0}
"""From a free slot to the first step: processes, imports, model (cpu: measured on 2 cores; gpu: assumption)."""
BYTES_PER_PARAMETER = 16  # a checkpoint: fp32 weights, their average and AdamW's two moments


@dataclass(frozen=True)
class TrialPlan:
    """One row of a plan. FLOPs are 2 per multiply-add, forward and backward, of encoder and decoder."""

    trial: Trial
    parameters: int
    forward_flops: int
    """Per image."""
    training_flops: float
    """Of the whole trial."""
    losses_flops: float
    """Of the networks of its losses: VGG16, the feature network, the discriminator. Of the whole trial, too. Of a
    generator: of the samples that are drawn and measured along its training."""
    steps: int
    devices: str
    seconds: float
    """From the first step to the last."""
    step: int
    """That it has reached already."""
    measured: bool
    """Whether the time comes from a measured rate rather than an assumed one."""
    memory_bytes: int
    """Of one device, estimated; see `memory_bytes`."""
    disk_bytes: int
    state: str
    """What the journal says of this trial: one of `STATES`."""

    @property
    def images(self) -> int:
        """That the trial trains on, repeated ones counted again."""
        return self.steps * self.trial.recipe.batch_size

    @property
    def seconds_left(self) -> float:
        """From the step that it has reached."""
        return self.seconds * (1 - self.step / self.steps)


@dataclass(frozen=True)
class Plan:
    """All trials of a study with their cost; times count only what is left to do, disk counts everything."""

    rows: tuple[TrialPlan, ...]
    slots: Mapping[str, int]
    """Devices that can be used at once, by kind."""
    images: int | None = None
    """Of the data set, of both splits; None where they were not looked for, or are not made yet."""

    @property
    def device_seconds(self) -> float:
        """Device time of what is left: a trial on 8 GPUs for an hour counts 8 hours."""
        return sum(row.seconds_left * row.trial.workers.workers for row in self.rows_left)

    @property
    def seconds_by_trial(self) -> dict[str, float]:
        """Device-seconds of each whole trial, by its id."""
        return {row.trial.id: round(row.seconds * row.trial.workers.workers, 1) for row in self.rows}

    @property
    def wall_seconds(self) -> float:
        """Makespan of what is left, in the order in which it will run."""
        return makespan(self.agenda.works, self.slots, self.agenda.order)

    @cached_property
    def agenda(self) -> Agenda:
        """What is left, with the slots for it and the order by which it ends soonest."""
        works = tuple(
            Work(
                id=row.trial.id,
                slots=row.trial.workers.workers,
                seconds=row.seconds_left,
                kind=row.trial.workers.device,
                priority=row.trial.priority,
            )
            for row in self.rows_left
        )
        order: list[str] = []
        for kind, slots in self.slots.items():
            order += good_order([work for work in works if work.kind == kind], slots)
        return Agenda(works, self.slots, tuple(order))

    @property
    def latents_bytes_per_image(self) -> int:
        """Of all latents that generators train on: one set per tokenizer."""
        sets = {latents_key(row.trial): latents_bytes(row.trial) for row in self.rows if row.trial.generator}
        return sum(sets.values())

    @property
    def disk_bytes(self) -> int:
        """Checkpoints of all trials."""
        return sum(row.disk_bytes for row in self.rows)

    @property
    def rows_left(self) -> list[TrialPlan]:
        """Trials that are not over."""
        return [row for row in self.rows if row.state not in OVER]


def build_plan(
    trials: Sequence[Trial],
    slots: Mapping[str, int],
    home: Path,
    current: StudyState | None,
    images: int | None = None,
) -> Plan:
    """The plan of a study's trials; `current` is the study's own state if it was submitted before."""
    measured = _measured_step_seconds(_studies(home))
    costs: dict[str, dict[str, float]] = {}
    rows = []
    for trial in trials:
        key = stable_hash(trial.model_config_values)
        counts = costs.setdefault(key, model_cost(trial))
        training = counts["training_flops"] * trial.recipe.batch_size * trial.recipe.steps
        losses = losses_flops(trial)
        device, workers = trial.workers.device, trial.workers.workers
        step_seconds = measured.get(_rate_key(trial))
        busy = (
            step_seconds * trial.recipe.steps
            if step_seconds
            else (training + losses) / (ASSUMED_RATE[device] * workers)
        )
        known = current.trials.get(trial.id) if current else None
        kept = trial.evaluation.keep_checkpoints + trial.evaluation.keep_best
        rows.append(
            TrialPlan(
                trial=trial,
                parameters=int(counts["parameters"]),
                forward_flops=int(counts["forward_flops"]),
                training_flops=training,
                losses_flops=losses,
                steps=trial.recipe.steps,
                devices=f"{workers} x {device}",
                seconds=busy + START_SECONDS[device],
                step=known.step if known else 0,
                measured=step_seconds is not None,
                memory_bytes=memory_bytes(trial, int(counts["parameters"])),
                disk_bytes=int(counts["parameters"]) * BYTES_PER_PARAMETER * kept,
                state=known.state if known else "queued",
            )
        )
    return Plan(tuple(rows), dict(slots), images)


def refuse_too_big(plan: Plan, gpu_bytes: float | None) -> None:
    """Trials that are estimated to need more than a GPU has, before any GPU time is spent.

    Raises:
        SpecError: names all of them, what each needs, and what needs less.
    """
    if gpu_bytes is None:
        return
    lines = [
        f"{row.trial.label} needs about {row.memory_bytes / 1e9:.0f} GB per GPU of {gpu_bytes / 1e9:.0f} GB"
        for row in plan.rows
        if row.trial.workers.device == "gpu" and row.state not in OVER and row.memory_bytes > gpu_bytes
    ]
    if lines:
        raise SpecError(
            "\n".join(lines) + "\nuse recipe.gradient_checkpointing, recipe.precision=bf16, more `workers`, a larger "
            "`accumulate` or `sharding: fsdp` in `resources`; if the estimate is wrong, a larger resources.gpu_memory"
        )


def _studies(home: Path) -> Iterator[StudyState]:
    for journal in sorted(home.glob("studies/*/journal.jsonl")):
        with suppress(UserError):  # a study of another version: only its timings would be used
            yield StudyState(journal.parent)


def _rate_key(trial: Trial) -> tuple[object, ...]:
    recipe = trial.recipe
    return (
        stable_hash(trial.model_config_values),
        training_sizes(trial.sampling, trial.resolution),
        recipe.batch_size,
        recipe.precision,
        recipe.gradient_checkpointing,
        recipe.compile,
        recipe.channels_last,
        trial.workers,
    )


def _measured_step_seconds(studies: Iterable[StudyState]) -> dict[tuple[object, ...], float]:
    """Median seconds per step, validation and checkpoints included, of the trials that ran in one piece."""
    found: dict[tuple[object, ...], list[float]] = {}
    for study in studies:
        for state in study.in_state("finished"):
            if state.attempts == 1:
                found.setdefault(_rate_key(state.trial), []).append(state.seconds / state.trial.recipe.steps)
    return {key: statistics.median(values) for key, values in found.items()}
