"""The generators of a study: each begins when its autoencoder is registered and the latents of it are made.

Protocol
1. All trials of a study are one schedule. Between an autoencoder and its generators stands an errand
   (`study/latents_plan.py`): it registers the autoencoder's trial and makes the latents, in the submitting process,
   while other trials train. So a generator of the first autoencoder trains beside the later autoencoders.
2. What stands before a kill is found again: finished trials by their journals, versions by the registry, latents by
   their fingerprint and, half made, by their finished pieces (`data/making/work.py`). What generators learn depends on
   their latents alone, not on who came first.
3. Latents are made of the version that the registry keeps of the autoencoder's trial, with its images; the study's
   journal says which (`latents`).
4. Generators of an autoencoder that failed fail with that reason, and wait again when a submission tries it again; so
   do those whose latents cannot be made. Those of one that is not registered (the tracking server is silent, it may not
   be registered) stay queued. No other trial notices.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transvae.tokenizers import TokenizerError, open_tokenizer
from transvae.tokenizers.opening import locate
from transvae_platform.cluster.queue import Errand
from transvae_platform.cluster.registering import Registrar
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.making.on_ray import run_on_ray
from transvae_platform.data.sets.catalogue import TrainingData
from transvae_platform.data.sets.mixture import Samples, open_training_data
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.sets.samples import manifest_at
from transvae_platform.data.stream.latents import captions_of
from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.study.journal import Journal
from transvae_platform.study.latents_plan import latents_of
from transvae_platform.study.lease import Fence
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.study.stopping import asked_to_stop
from transvae_platform.study.trial import Trial
from transvae_platform.tracking.registry import local_model

CAPTIONS_AT_ONCE = 10_000


class Maker(NamedTuple):
    """What makes latents."""

    model: str
    """As people name it."""
    folder: Path
    weights_sha256: str


def refuse_labels(spec: StudySpec, made: TrainingData) -> None:
    """Images without the labels or captions that generators are told, or with labels beyond the classes: before

    anything is trained. Data sets on an object store are not read for this; a training refuses such a sample when it
    comes.

    Raises:
        SpecError: names the key and the label, or the sample.
    """
    if spec.downstream is None:
        return
    if spec.downstream.text:
        _refuse_captions(made)
        if spec.downstream.text.editing:
            _refuse_no_edits(made)
        return
    if spec.downstream.classes == 1:
        return
    classes = spec.downstream.classes
    for samples in _near(made):
        try:
            labels = samples.labels(np.arange(len(samples)))
        except UserError as error:
            raise SpecError(f"downstream.classes: {error} - or set 1, which reads no labels") from None
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise SpecError(
                f"downstream.classes: {classes}, but the images have labels from {labels.min()} to {labels.max()} - "
                f"set {int(labels.max()) + 1} or more"
            )


def _refuse_captions(made: TrainingData) -> None:
    for samples in _near(made):
        for start in range(0, len(samples), CAPTIONS_AT_ONCE):
            try:
                captions_of(samples, np.arange(start, min(start + CAPTIONS_AT_ONCE, len(samples))))
            except UserError as error:
                raise SpecError(f"downstream.text: {error}; give them with data.captions, or in the source") from None


def _refuse_no_edits(made: TrainingData) -> None:
    for samples in _near(made):
        try:
            edits = int((samples.sources() >= 0).sum())
        except UserError as error:
            raise SpecError(f"downstream.text.editing: {error}") from None
        if not edits:
            raise SpecError(
                "downstream.text.editing: none of the training images is an edit, or none of those held out - give "
                "lines of data.captions a source, name columns in data.edits, or remove the key"
            )


def _near(made: TrainingData) -> Sequence[Samples]:
    """Both splits of what lies on no object store."""
    places = [(part.location, share) for part, share in made.parts if "://" not in part.location]
    return open_training_data(places, default_cache(), CACHE_BYTES) if places else ()


def find_tokenizers(trials: Sequence[Trial], home: Path, tracking_uri: str) -> dict[str, Maker]:
    """What the study does not train and some of these generators need, by its `model`: found, and of its code.

    Raises:
        SpecError: there is none, or it has another code.
        UnreachableError: the registry does not answer.
    """
    found: dict[str, Maker] = {}
    for source in (trial.generator.tokenizer for trial in trials if trial.generator):
        if source is None or source.model in found:
            continue
        try:
            if source.model.startswith("models:/"):
                folder, _ = local_model(source.model, home, tracking_uri)
            else:
                folder = locate(source.model)
            facts = open_tokenizer(folder).facts
        except (TokenizerError, UserError) as error:
            raise SpecError(f"downstream.tokenizers: {source.model}: {error}") from None
        if (code := f"f{facts.compression}d{facts.channels}") != source.code:
            raise SpecError(f"downstream.tokenizers: {source.model} is {code}, not {source.code} - correct its code")
        found[source.model] = Maker(source.model, _in_home(folder, home, facts.weights_sha256), facts.weights_sha256)
    return found


def _in_home(path: Path, home: Path, weights: str) -> Path:
    """A copy that all nodes see; hubs keep theirs in one machine's cache."""
    if path.resolve().is_relative_to(home.resolve()):
        return path
    target = home / "models" / f"tokenizer-{weights[:16]}"
    if not target.exists():
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        if path.is_dir():
            shutil.copytree(path, draft)
        else:
            draft.mkdir(parents=True)
            shutil.copyfile(path, draft / path.name)
        draft.rename(target)
    return target if path.is_dir() else target / path.name


class _StoppedError(Exception):
    """Somebody wants the study to stop while latents are made."""


class Generators:
    """The generators of one submission; see the protocol above."""

    def __init__(
        self, made: TrainingData, tokenizers: Mapping[str, Maker], home: Path, tracking_uri: str, journal: Journal,
        state: StudyState, fence: Fence, registrar: Registrar,
    ) -> None:  # fmt: skip
        """`tokenizers` as `find_tokenizers` found them."""
        self._made, self._tokenizers, self._home, self._uri = made, tokenizers, home, tracking_uri
        self._journal, self._state, self._fence, self._registrar = journal, state, fence, registrar
        self._places: dict[str, dict[str, Any]] = {}
        self._note = ""
        self.lock = threading.Lock()
        """Held while state, tracker and the study's journal are used."""

    def doing(self) -> str:
        """What the user is told."""
        return self._note or "training"

    def errands(self, trials: Sequence[Trial]) -> dict[str, Errand]:
        """What is to be done before some generators begin, by the name of their latents."""
        waiting: dict[str, list[Trial]] = {}
        for trial in trials:
            if trial.generator:
                waiting.setdefault(latents_of(trial.generator), []).append(trial)
        return {name: partial(self._open, name, of) for name, of in waiting.items()}

    def places(self, trial: Trial) -> dict[str, Any]:
        """Where the workers of a trial find what only generators need; of other trials nothing."""
        return self._places[latents_of(trial.generator)] if trial.generator else {}

    def late(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that have not begun because their finished autoencoder found no registry."""
        waiting = []
        for trial in trials:
            vae = self._state.trials.get(str(trial.generator and trial.generator.autoencoder))
            missing = vae is not None and vae.state == "finished" and vae.registered is None and not vae.unregistered
            if missing and self._state.trials[trial.id].state == "queued":
                waiting.append(trial)
        return waiting

    def lose(self, trial: Trial) -> None:
        """A generator will not begin: if its autoencoder failed, it has failed, too."""
        with self.lock:
            self._state.refresh()
            vae = self._state.trials.get(str(trial.generator and trial.generator.autoencoder))
            if vae is not None and vae.state in ("failed", "stopped"):
                self._fail([trial], f"its autoencoder {vae.trial.label} {vae.state}: {vae.reason}")

    def _open(self, name: str, waiting: Sequence[Trial]) -> bool:
        """Register what some generators wait for, and make the latents; whether they may begin."""
        try:
            maker = self._maker(waiting[0])
            if maker is None:
                return False
            self._places[name] = self._made_latents(waiting[0], maker)
        except _StoppedError:  # done pieces are kept
            return False
        except UnreachableError as error:
            with self.lock:
                self._journal.append("not_tracked", reason=str(error))
            return False
        except UserError as error:  # another submission may find it mended
            with self.lock:
                self._fail(waiting, f"its latents cannot be made: {error}")
            return False
        finally:
            self._note = ""
        return True

    def _fail(self, trials: Sequence[Trial], reason: str) -> None:
        for trial in trials:
            own = Journal(self._state.trials[trial.id].folder / "journal.jsonl", self._fence)
            own.append("failed", reason=reason)
            own.close()

    def _maker(self, trial: Trial) -> Maker | None:
        """What makes the latents of a generator; None while there is nothing."""
        of = trial.generator
        assert of is not None
        if of.tokenizer is not None:
            return self._tokenizers[of.tokenizer.model]
        with self.lock:
            self._state.refresh()
            vae = self._state.trials[str(of.autoencoder)]
            if vae.state != "finished" or not self._registrar.one(vae):
                return None
            assert vae.registered is not None
            uri = str(vae.registered["uri"])
        return Maker(uri, *local_model(uri, self._home, self._uri))

    def _made_latents(self, trial: Trial, maker: Maker) -> dict[str, Any]:
        of = trial.generator
        assert of is not None
        gpu = trial.workers.device == "gpu"
        mapper = partial(run_on_ray, actors=trial.workers.workers, gpus=1 if gpu else 0)
        latents = []
        for part, share in self._made.parts:
            plan = plan_extraction(
                manifest_at(part.location), part.location, maker.folder, model_name=maker.model,
                content=of.latents.content, dtype=of.latents.dtype, seed=of.latents.seed,
            )  # fmt: skip
            device, tell = "cuda" if gpu else "cpu", partial(self._tell, maker.model)
            manifest = extract_latents(plan, self._home, mapper, device=device, listen=tell)
            latents.append((str(self._home / "data" / manifest.fingerprint), share))
        self._record(maker, [location for location, _ in latents])
        images = [(part.location, share) for part, share in self._made.parts]
        own = {"autoencoder": str(maker.folder), "weights_sha256": maker.weights_sha256, "images": images}
        return {"data": latents, "sets": {}, "generator": {**own, "home": str(self._home)}}

    def _tell(self, model: str, done: int, images: int) -> None:
        if asked_to_stop(self._fence):
            raise _StoppedError
        self._note = f"latents of {model}, {done} of {images} images"

    def _record(self, maker: Maker, locations: list[str]) -> None:
        kept = {"model": maker.model, "weights_sha256": maker.weights_sha256, "locations": locations}
        with self.lock:
            if self._state.latents.get(maker.model) != kept:
                self._journal.append("latents", **kept)
