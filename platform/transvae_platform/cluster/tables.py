"""Tables 1 and 2 of a study: its registered models are measured once all trials have ended.

Protocol
1. Every measurement is found by what it depends on, or continued: evaluations by their key (`evaluation/evaluate.py`),
   latents by their fingerprint, probes and densities by theirs. So the same submission again continues a killed one,
   and a changed `tables` section measures what is new.
2. A model is measured as the registry keeps it. One that is not registered waits for the submission that registers it.
3. The study's journal says what was `measured` and what was not, and why; the others go on, and the next submission
   tries again what failed. Whatever can be refused is refused before anything trains.
4. Each result is told to MLflow below its model's run, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from transvae_platform.cluster.mapping import ray_mapper
from transvae_platform.cluster.sources import find_source
from transvae_platform.cluster.table_inputs import Frozen
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.making.work import Mapper
from transvae_platform.data.sets.catalogue import DataSet, at_home, find_data_set
from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.evaluation.evaluate import evaluate, plan_evaluation
from transvae_platform.evaluation.latent_space.measuring import measure_piece, measurement_key
from transvae_platform.evaluation.latent_space.records import Kind, LatentRecord, kept
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.evaluation.records import Record
from transvae_platform.study.journal import Journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState, TrialState
from transvae_platform.study.tables_spec import OWN
from transvae_platform.tracking.evaluations import log_evaluation
from transvae_platform.tracking.registry import local_model, trained_images

Made = TypeVar("Made")
Say = Callable[[str], None]
CONTENT: dict[Kind, str] = {"probe": "mean", "density": "sample", "manifold": "sample"}
"""Of the latents: a probe reads means (reference), the others are of samples (LightningDiT's latents)."""


def measure_models(
    spec: StudySpec, frozen: Frozen, home: Path, tracking_uri: str, address: str | None, journal: Journal,
    state: StudyState, say: Say,
) -> None:  # fmt: skip
    """Measure every registered model of a study as its `tables` section says; see the protocol above.

    Raises:
        UnreachableError: the registry, the tracking server or Ray does not answer.
    """
    models = [
        trial
        for trial in state.in_state("finished")
        if trial.registered and trial.unregistered is None and trial.trial.generator is None
    ]
    if spec.tables is None or not models:
        return
    gpus = max(trial.trial.workers.workers if trial.trial.workers.device == "gpu" else 0 for trial in models)
    with ray_mapper(address, models=True, gpus=gpus) as mapper:
        measuring = _Measuring(spec, frozen, home, tracking_uri, mapper, "cuda" if gpus else "cpu", journal, state, say)
        for trial in models:
            measuring.reconstruct(trial)
        measuring.latents(models)
    state.refresh()


class _Piece(NamedTuple):
    """A measurement of latents that is to be made."""

    trial: TrialState
    what: str
    key: str
    work: dict[str, Any]


class _Measuring:
    """The measurements of one submission."""

    def __init__(
        self, spec: StudySpec, frozen: Frozen, home: Path, tracking_uri: str, mapper: Mapper, device: str,
        journal: Journal, state: StudyState, say: Say,
    ) -> None:  # fmt: skip
        assert spec.tables is not None
        self._spec, self._asked, self._frozen, self._home, self._uri = spec, spec.tables, frozen, home, tracking_uri
        self._mapper, self._device, self._journal, self._state, self._say = mapper, device, journal, state, say

    def reconstruct(self, trial: TrialState) -> None:
        """Evaluate one model on every data set under every preset."""
        asked = self._asked.reconstruction
        for reference in asked.data if asked else ():
            for preset in asked.presets if asked else ():
                what = f"{preset} on {reference}"
                self._say(f"evaluating {trial.trial.label}, {what}")
                self._attempt(trial, what, partial(self._records, trial, reference, preset))

    def _records(self, trial: TrialState, reference: str, preset: str) -> Iterator[Record]:
        asked = self._asked.reconstruction
        assert asked
        uri, folder = self._model(trial)
        for images in self._images(reference):
            plan = plan_evaluation(
                folder, images, PRESETS[preset], model_name=uri, split=asked.split, frozen=self._frozen[preset],
                seed=asked.seed, images=trained_images(uri, self._home, self._uri),
            )  # fmt: skip
            tell = partial(self._tell, f"evaluating {trial.trial.label}, {preset} on {reference}")
            yield evaluate(
                plan, self._home, self._mapper, batch_size=asked.batch_size, device=self._device, listen=tell
            )

    def latents(self, models: Sequence[TrialState]) -> None:
        """Probe and map the latents of all models; the measurements of different models run beside each other."""
        sections: dict[Kind, Any] = {
            "probe": self._asked.probe, "density": self._asked.density, "manifold": self._asked.manifold,
        }  # fmt: skip
        pieces: list[_Piece] = []
        for kind, section in sections.items():
            for trial in models if section else ():
                make = partial(self._pieces, trial, kind, section.model_dump(mode="json"))
                pieces += self._guarded(trial, kind, make)
        new = [piece.work for piece in pieces if kept(self._home, piece.key) is None]
        if new:
            self._say(f"measuring {len(new)} sets of latents")
            for done, _ in enumerate(self._mapper(measure_piece, new), 1):
                self._tell("measuring sets of latents", done, len(new))
        for piece in pieces:
            self._attempt(piece.trial, piece.what, partial(_result, self._home, piece))

    def _pieces(self, trial: TrialState, kind: Kind, settings: dict[str, Any]) -> Iterator[_Piece]:
        uri, folder = self._model(trial)
        for images in self._images(OWN):
            plan = plan_extraction(
                images.manifest, images.location, folder, model_name=uri, content=CONTENT[kind], dtype="float16"
            )
            tell = partial(self._tell, f"latents of {trial.trial.label}")
            made = extract_latents(plan, self._home, self._mapper, device=self._device, listen=tell)
            key = measurement_key(kind, made, settings)
            refusal = self._state.folder / f"not-measured-{key}.txt"
            refusal.unlink(missing_ok=True)
            work = {
                "kind": kind, "name": uri.removeprefix("models:/"), "settings": settings, "home": str(self._home),
                "location": at_home(self._home, made).location, "refusal": str(refusal),
            }  # fmt: skip
            yield _Piece(trial, kind, key, work)

    def _model(self, trial: TrialState) -> tuple[str, Path]:
        assert trial.registered
        uri = str(trial.registered["uri"])
        return uri, local_model(uri, self._home, self._uri)[0].resolve()

    def _images(self, reference: str) -> Iterator[DataSet]:
        """The data sets behind a name; those of the study bear the study's name, or the set's."""
        if reference != OWN and reference not in self._spec.evaluation.sets:
            yield find_data_set(self._home, reference)
            return
        own = reference == OWN
        section = self._spec.data if own else self._spec.evaluation.sets[reference]
        made = find_source(section, self._home, "data" if own else f"evaluation.sets.{reference}").made
        if made is None:
            raise UserError(f"the data set of {reference} is no longer in {self._home / 'data'} - submit again")
        for part, _ in made.parts:
            yield DataSet(part.manifest, part.location, part.names or (self._spec.study if own else reference,))

    def _attempt(self, trial: TrialState, what: str, make: Callable[[], Iterator[Record | LatentRecord]]) -> None:
        """Make records and tell of them; journal why there are none."""
        for record in self._guarded(trial, what, make):
            assert trial.registered
            log_evaluation(str(trial.registered["uri"]), record, self._home, self._uri)
            if record.key not in self._state.measured or (trial.trial.id, what) in self._state.not_measured:
                self._journal.append("measured", trial=trial.trial.id, what=what, key=record.key)
        self._state.refresh()

    def _guarded(self, trial: TrialState, what: str, make: Callable[[], Iterator[Made]]) -> list[Made]:
        try:
            return list(make())
        except UnreachableError:
            raise
        except UserError as error:  # of this model; the others are measured
            if self._state.not_measured.get((trial.trial.id, what)) != str(error):
                self._journal.append("not_measured", trial=trial.trial.id, what=what, reason=str(error))
            return []

    def _tell(self, what: str, done: int, of: int) -> None:
        self._say(f"{what}, {done} of {of}")


def _result(home: Path, piece: _Piece) -> Iterator[LatentRecord]:
    record, refusal = kept(home, piece.key), Path(piece.work["refusal"])
    if record is None:
        reason = refusal.read_text() if refusal.exists() else "its measurement left no record"
        refusal.unlink(missing_ok=True)
        raise UserError(reason)
    yield record
