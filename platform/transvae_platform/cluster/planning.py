"""From a study file to its plan: what can be checked and computed before anything runs. Starts nothing, writes nothing.

What is heavy is imported where it is needed: a plan needs neither Ray nor MLflow, and torch only for what was never
counted (`study/counts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transvae.losses.sizes import SMALLEST, logits_side, meeting
from transvae_platform.cluster.devices import check_devices, local_devices, local_gpu_bytes
from transvae_platform.cluster.source import Source, assume_source
from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.study.calibration import find_rates
from transvae_platform.study.folders import study_folder
from transvae_platform.study.grid import build_grid
from transvae_platform.study.plan import Plan, build_plan, refuse_too_big
from transvae_platform.study.rates import Rate
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import OVER, StudyState
from transvae_platform.study.trial import PIXELLESS, Initial, Trial

NOT_MADE = "not-made-yet"
"""Stands for the fingerprint of a data set in plans made before it."""


@dataclass(frozen=True)
class Prepared:
    """A study that passed every check which needs no cluster."""

    spec: StudySpec
    source: Source
    """What is trained on."""
    sets: Mapping[str, Source]
    """What is measured on besides, by the name in `evaluation.sets`."""
    trials: tuple[Trial, ...]
    """Their ids are final once the data set is made."""
    initial: Mapping[str, Initial]
    """What they start from, by `family-size`, of generators by `label`, if not from random weights."""
    rates: Mapping[str, float]
    """Their learning rates, by `family-size`, if a calibration study found them."""

    @property
    def fingerprint(self) -> str | None:
        """Of the data set; None while it is not made."""
        return self.source.fingerprint


def prepare(spec: StudySpec, home: Path, tracking_uri: str | None = None) -> Prepared:
    """List the images, or find the data sets, and build the grid.

    Raises:
        SpecError: anything in the study file that cannot work.
        UnreachableError: the registry that it starts from does not answer.
    """
    from transvae_platform.cluster.sources import find_source

    source = find_source(spec.data, home)
    sets = {name: find_source(data, home, f"evaluation.sets.{name}") for name, data in spec.evaluation.sets.items()}
    begun = open_study(study_folder(home, spec.study))
    rates = find_rates(spec, home, begun)
    initial = _find_initial(spec, begun, home, tracking_uri, rates)
    known = {name: other.fingerprint for name, other in sets.items() if other.fingerprint}
    trials = build_grid(spec, source.fingerprint or NOT_MADE, initial, known, rates)
    refuse_too_few(source.train, trials)
    _refuse_missing_files(spec, trials)
    refuse_impossible_losses(trials)
    if spec.tables is not None:
        from transvae_platform.cluster.table_inputs import refuse_impossible_tables

        refuse_impossible_tables(spec, source, home)
    return Prepared(spec, source, sets, trials, initial, rates)


def prepare_elsewhere(spec: StudySpec, home: Path) -> Prepared:
    """The same for a plan of another machine: neither images nor registered models nor files are looked for.

    Args:
        home: of the calibration study that the rates come from, if the study names one.

    Raises:
        SpecError: anything else in the study file that cannot work.
    """
    rates = find_rates(spec, home)
    trials = build_grid(spec, NOT_MADE, rates=rates)
    refuse_impossible_losses(trials)
    sets = {name: assume_source(data) for name, data in spec.evaluation.sets.items()}
    return Prepared(spec, assume_source(spec.data), sets, trials, {}, rates)


def gpus_that_are_missing(spec: StudySpec, home: Path) -> int | None:
    """How many GPUs the largest trial takes, if it takes any and this machine has none at all.

    Raises: as `prepare_elsewhere`.
    """
    if local_devices()[1]:
        return None
    workers = [trial.workers for trial in prepare_elsewhere(spec, home).trials]
    return max((asked.workers for asked in workers if asked.device == "gpu"), default=None)


def refuse_impossible_losses(trials: Sequence[Trial]) -> None:
    """Losses that the images of a trial are too small for, or that do not fit its latents.

    Raises:
        SpecError: names the key.
    """
    for trial in (trial for trial in trials if trial.generator is None):
        losses, compression = trial.recipe.losses, int(trial.model_config_values["compression"])
        semantic = trial.recipe.semantic
        lpips = losses.lpips or (semantic.lpips if semantic and trial.family != PIXELLESS else None)
        for side in {trial.resolution, *(bucket.size for bucket in trial.sampling.buckets or ())}:
            try:
                if lpips and side < SMALLEST:
                    raise ValueError(f"VGG16 needs images of at least {SMALLEST} x {SMALLEST} pixels, not {side}")
                if losses.vf:
                    meeting(side, compression, losses.vf.match, patch=1)
                if losses.gan:
                    logits_side(side, losses.gan.layers)
            except ValueError as error:
                raise SpecError(f"{trial.study}: {trial.label}: recipe.losses: {error}") from None


def _refuse_missing_files(spec: StudySpec, trials: Sequence[Trial]) -> None:
    if spec.resources.frozen or any(trial.recipe.losses.vf or trial.recipe.semantic for trial in trials):
        from transvae_platform.cluster.frozen import refuse_missing_files

        refuse_missing_files(spec, trials)


def _find_initial(
    spec: StudySpec, begun: StudyState | None, home: Path, tracking_uri: str | None, rates: Mapping[str, float]
) -> Mapping[str, Initial]:
    if spec.recipe.start_from is None and (spec.downstream is None or spec.downstream.start_from is None):
        return {}
    from transvae_platform.cluster.initial import find_initial

    return find_initial(spec, begun, home, tracking_uri, rates)


def refuse_too_few(samples: int, trials: Sequence[Trial]) -> None:
    largest = max(trials, key=lambda trial: trial.recipe.batch_size)
    batch, key = largest.recipe.batch_size, "downstream.recipe" if largest.generator else "recipe"
    if samples < batch:
        raise SpecError(
            f"data: {samples} training samples are fewer than one batch of {batch} - add images, cut "
            f"more crops (data.view.per_photograph) or lower {key}.batch_size"
        )


def plan_study(
    prepared: Prepared,
    home: Path,
    address: str | None = None,
    gpus_elsewhere: int | None = None,
    told: Callable[[], Mapping[str, Rate]] = dict,
) -> Plan:
    """The plan against this machine, a running cluster, or so many GPUs elsewhere; starts nothing, writes nothing.

    Args:
        told: gives what a tracking server knows of rates (`tracking/rates.py`); called last.
    """
    current = open_study(study_folder(home, prepared.spec.study))
    left = unfinished(prepared.trials, current, OVER)
    memory: float | None = None
    if gpus_elsewhere is not None:
        cpus, gpus = local_devices()[0], gpus_elsewhere
        check_devices(left, cpus, gpus, "that cluster")
        memory = local_gpu_bytes() if address is None else None
    elif address is None:
        cpus, gpus = local_devices()
        check_devices(left, cpus, gpus, "this machine")
        memory = local_gpu_bytes()
    else:
        from transvae_platform.cluster.schedule import cluster_devices, cluster_gpu_bytes, ray_session

        with ray_session(address):
            cpus, gpus = cluster_devices(prepared.spec.resources.accelerator)
            memory = cluster_gpu_bytes()
        check_devices(left, cpus, gpus, f"the cluster at {address}")
    plan = build_plan(prepared.trials, {"cpu": cpus, "gpu": gpus}, home, current, prepared.source.images, told())
    said = prepared.spec.resources.gpu_memory
    refuse_too_big(plan, said * 1e9 if said else memory)
    return plan


def unfinished(trials: Sequence[Trial], state: StudyState | None, ended: Sequence[str]) -> list[Trial]:
    return [trial for trial in trials if state_of(state, trial) not in ended]


def open_study(folder: Path) -> StudyState | None:
    try:
        return StudyState(folder) if folder.exists() else None
    except OSError as error:
        raise UnreachableError(f"--home: {folder} cannot be read ({error}) - choose another folder") from None


def state_of(state: StudyState | None, trial: Trial) -> str | None:
    """The trial's state; None where the journals do not tell it."""
    known = state.trials.get(trial.id) if state else None
    return known.state if known and not known.doubtful else None
