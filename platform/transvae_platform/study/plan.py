"""What a study will cost, before anything is launched: per trial and in total. Changes nothing.

Times come from trials of the same model, batch and device that earlier studies in the same home measured; where there
are none, from counted FLOPs and an assumed rate, and the plan says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from transvae.accounting import count_model
from transvae.config import AutoencoderConfig
from transvae.losses import cost
from transvae.memory import CAST_BYTES, STATE_BYTES, WEIGHT_BYTES, count_activations
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.data_spec import training_sizes
from transvae_platform.study.generator_plan import generator_activations, generator_cost, sampling_flops
from transvae_platform.study.grid import Trial, stable_hash
from transvae_platform.study.ordering import good_order
from transvae_platform.study.scheduling import Agenda, Work
from transvae_platform.study.simulation import makespan
from transvae_platform.study.state import OVER, StudyState

# Sustained training rates, FLOP/s, where nothing was measured. CPU: one core on the micro ladder reaches 4 to 50
# GFLOP/s (measured on a 2-core server CPU); GPU: 30 % of an H100's 990 TFLOP/s dense bf16 peak (assumption; published
# VAE and DiT trainings reach 12 to 50 %).
ASSUMED_RATE = {"cpu": 2e10, "gpu": 3e14}
START_SECONDS = {"cpu": 20.0, "gpu": 40.0}
"""From a free slot to the first step: processes, imports, model (cpu: measured on 2 cores; gpu: assumption)."""
RUNTIME_BYTES = {"cpu": 600 * 10**6, "gpu": 1500 * 10**6}
"""A process with torch and Ray (cpu: measured); CUDA's context and libraries (gpu: assumption)."""
SLACK = 1.1  # of activations: what kernels need while they run, and gaps between tensors (assumption)
LPIPS_BYTES_PER_PIXEL = 2200  # VGG16's activations in fp32 for one image, and its normalised features (counted)
FROZEN_BYTES = 1_217_000_000  # DINOv2 ViT-L/14 in fp32: 304 M parameters; others are smaller
GATHERED_SHARE = (
    0.15  # of the weights, gathered at a time by FSDP: what lies outside of blocks, two blocks (assumption)
)
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

    @property
    def device_seconds(self) -> float:
        """Device time of what is left: a trial on 8 GPUs for an hour counts 8 hours."""
        return sum(row.seconds_left * row.trial.workers.workers for row in self._left())

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
            for row in self._left()
        )
        order: list[str] = []
        for kind, slots in self.slots.items():
            order += good_order([work for work in works if work.kind == kind], slots)
        return Agenda(works, self.slots, tuple(order))

    @property
    def disk_bytes(self) -> int:
        """Checkpoints of all trials."""
        return sum(row.disk_bytes for row in self.rows)

    def _left(self) -> list[TrialPlan]:
        return [row for row in self.rows if row.state not in OVER]


def model_cost(trial: Trial) -> dict[str, float]:
    """Parameters of a trial's model, and FLOPs per image, by name: forward at its resolution, training as it trains.

    With buckets of several sizes, `training_flops` is the mean over their shares of the steps.

    Raises ValueError for a size that the model cannot see.
    """
    if trial.generator is not None:
        return generator_cost(trial)
    config = AutoencoderConfig.from_dict(trial.model_config_values)
    counted = count_model(config, trial.resolution)
    sizes = training_sizes(trial.sampling, trial.resolution)
    return {
        "parameters": counted.parameters,
        "encoder_parameters": counted.encoder_parameters,
        "decoder_parameters": counted.decoder_parameters,
        "forward_flops": counted.forward_flops,
        "training_flops": sum(share * count_model(config, size).training_flops for size, share in sizes),
    }


def losses_flops(trial: Trial, until: int | None = None) -> float:
    """FLOPs of the networks of a trial's losses for all its images, or those of the steps `until` one.

    `transvae/losses/cost.py` says what counts. Of a generator: those of the samples that are drawn and measured.
    """
    if trial.generator is not None:
        return sampling_flops(trial, until)
    recipe, losses = trial.recipe, trial.recipe.losses
    vf, gan, steps, total = losses.vf, losses.gan, recipe.steps if until is None else until, 0.0
    edge = min(recipe.stage_edge, steps)
    compression = AutoencoderConfig.from_dict(trial.model_config_values).compression
    for size, share in training_sizes(trial.sampling, trial.resolution):
        images = share * recipe.batch_size
        if losses.lpips:
            aligned = edge if vf and vf.adaptive else 0  # the first steps; the GAN acts in the last ones
            told = min(recipe.gan_start + gan.alone, steps) if gan and gan.adaptive else steps
            adaptive = aligned + steps - max(told, aligned)
            total += images * (steps - adaptive) * cost.lpips_flops(size, False)
            total += images * adaptive * cost.lpips_flops(size, True)
        if vf:  # while the encoder is frozen it is looked at only where it is logged
            looks = edge + (steps - edge) // trial.evaluation.log_every
            total += images * looks * cost.features_flops(vf.features, size, compression, vf.match)
        if gan:
            update, loss = cost.discriminator_flops(gan.layers, size, gan.adaptive)
            learning = max(0, steps - recipe.gan_start)
            total += images * (learning * update + max(0, learning - gan.alone) * loss)
    return total


def memory_bytes(trial: Trial, parameters: int) -> int:
    """What a training needs of each device's memory, estimated: state, activations, losses, the runtime.

    An estimate from counted tensors; on a GPU it has not been compared with a measurement yet.
    """
    recipe, bf16 = trial.recipe, trial.recipe.precision == "bf16"
    images = recipe.batch_size // (trial.workers.workers * trial.workers.accumulate)
    size = max(size for size, _ in training_sizes(trial.sampling, trial.resolution))
    if trial.generator is not None:
        kept = generator_activations(trial)
    else:
        config = AutoencoderConfig.from_dict(trial.model_config_values)
        kept = _activations(config, size, bf16, recipe.gradient_checkpointing)
    if recipe.losses.lpips:
        kept += LPIPS_BYTES_PER_PIXEL * size * size
    networks = FROZEN_BYTES if recipe.losses.vf and recipe.losses.vf.network == "pretrained" else 0
    activations = int(images * kept * SLACK)
    if trial.workers.sharding == "fsdp":
        width = CAST_BYTES if bf16 else WEIGHT_BYTES
        # the average is whole while it is measured, when nothing is kept for a backward pass
        used = max(activations + int(parameters * GATHERED_SHARE * width), parameters * WEIGHT_BYTES)
        used += parameters * STATE_BYTES // trial.workers.workers
    else:
        used = activations + parameters * (STATE_BYTES + (CAST_BYTES if bf16 else 0))
    return used + networks + RUNTIME_BYTES[trial.workers.device]


_activations = lru_cache(maxsize=None)(
    lambda config, size, bf16, checkpointing: count_activations(config, size, bf16=bf16, checkpointing=checkpointing)
)


def build_plan(trials: Sequence[Trial], slots: Mapping[str, int], home: Path, current: StudyState | None) -> Plan:
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
    return Plan(tuple(rows), dict(slots))


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
