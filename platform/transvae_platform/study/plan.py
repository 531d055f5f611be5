"""What a study will cost, before anything is launched: per trial and in total. Changes nothing.

Times come from trials of the same model, batch and device that earlier studies in the same home measured, or that a
tracking server tells of; where there are none, from counted FLOPs and an assumed rate, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transvae_platform.errors import SpecError
from transvae_platform.study.costs import losses_flops, memory_bytes, model_cost
from transvae_platform.study.generator_plan import decoding_flops, sampling_flops
from transvae_platform.study.latents_plan import LatentsPlan, latents_of, plan_latents
from transvae_platform.study.ordering import good_order
from transvae_platform.study.rates import Rate, measured_rates, rate_key
from transvae_platform.study.scheduling import Agenda, Work, among
from transvae_platform.study.simulation import makespan
from transvae_platform.study.state import OVER, StudyState, studies_in
from transvae_platform.study.trial import Trial

# Sustained training rates, FLOP/s, where nothing was measured. CPU: one core on the micro ladder reaches 4 to 50
# GFLOP/s (measured on a 2-core server CPU); GPU: 30 % of PEAK_RATE (an MFU of 0.3:
# assumption; published VAE and DiT trainings reach 12 to 50 %).
PEAK_RATE = 989e12  # of an H100 in dense bf16, FLOP/s (NVIDIA's data sheet, SXM)
ASSUMED_RATE = {"cpu": 2e10, "gpu": 3e14}
START_SECONDS = {"cpu": 20.0, "gpu": 40.0}
"""From a free slot to the first step: processes, imports, model (cpu: measured on 2 cores; gpu: assumption)."""
BYTES_PER_PARAMETER = 16  # a checkpoint: fp32 weights, their average and AdamW's two moments
SPARE_BYTES = 4  # per parameter: the second copy of the best averaged weights


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
    measured: str | None
    """The device on which its rate was measured; None where the rate is assumed."""
    memory_bytes: int
    """Of one device, estimated; see `memory_bytes`."""
    disk_bytes: int
    state: str
    """What the journal says of this trial: one of `STATES`."""
    told: bool = False
    """Whether a tracking server said how long a step takes, not the journals of this home."""

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
    latents: tuple[LatentsPlan, ...] = ()
    """What generators wait for, one for each autoencoder or tokenizer."""

    @property
    def device_seconds(self) -> float:
        """Device time of what is left: a trial on 8 GPUs for an hour counts 8 hours."""
        return sum(work.slot_seconds for work in self.agenda.works)

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
        needed = {latents_of(row.trial.generator) for row in self.rows_left if row.trial.generator}
        works = among([_work(row) for row in self.rows_left] + [one.work for one in self.latents if one.name in needed])
        order: list[str] = []
        for kind, slots in self.slots.items():
            order += good_order([work for work in works if work.kind == kind], slots)
        return Agenda(tuple(works), self.slots, tuple(order))

    @property
    def latents_bytes_per_image(self) -> int:
        """Of all latents that generators train on."""
        return sum(one.bytes_per_image for one in self.latents)

    @property
    def disk_bytes(self) -> int:
        """Checkpoints of all trials."""
        return sum(row.disk_bytes for row in self.rows)

    @property
    def rows_left(self) -> list[TrialPlan]:
        """Trials that are not over."""
        return [row for row in self.rows if row.state not in OVER]


def _work(row: TrialPlan) -> Work:
    trial = row.trial
    return Work(
        id=trial.id,
        slots=trial.workers.workers,
        seconds=row.seconds_left,
        kind=trial.workers.device,
        priority=trial.priority,
        after=(latents_of(trial.generator),) if trial.generator else (),
    )


def build_plan(
    trials: Sequence[Trial],
    slots: Mapping[str, int],
    home: Path,
    current: StudyState | None,
    images: int | None = None,
    told: Mapping[str, Rate] | None = None,
) -> Plan:
    """The plan of a study's trials.

    Args:
        current: the study's own state if it was submitted before.
        images: that latents are made of, of both splits; None where nobody looked.
        told: rates that a tracking server knows, by `rate_key`; those of this home go before.
    """
    measured = {**(told or {}), **measured_rates(studies_in(home))}
    by_id = {trial.id: trial for trial in trials}
    rows = []
    for trial in trials:
        counts = model_cost(trial)
        training = counts["training_flops"] * trial.recipe.batch_size * trial.recipe.steps
        losses = losses_flops(trial)
        if of := trial.generator:
            losses = sampling_flops(trial, decoding=decoding_flops(trial, by_id.get(str(of.autoencoder))))
        device, workers = trial.workers.device, trial.workers.workers
        rate = measured.get(rate_key(trial))
        assumed = (training + losses) / (ASSUMED_RATE[device] * workers)
        busy = rate.seconds_per_step * trial.recipe.steps if rate else assumed
        known = current.trials.get(trial.id) if current else None
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
                measured=rate.device if rate else None,
                memory_bytes=memory_bytes(trial, int(counts["parameters"])),
                disk_bytes=checkpoint_bytes(trial, int(counts["parameters"])),
                state=known.state if known else "queued",
                told=rate is not None and rate.told,
            )
        )
    return Plan(tuple(rows), dict(slots), images, plan_latents(trials, images or 0, ASSUMED_RATE))


def checkpoint_bytes(trial: Trial, parameters: int) -> int:
    """Disk that a trial's checkpoints need at most."""
    kept = trial.evaluation.keep_checkpoints + trial.evaluation.keep_best
    return parameters * (BYTES_PER_PARAMETER * kept + SPARE_BYTES)


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
