"""The generators of a study: once its autoencoders are registered, their latents are made and generators train on them.

Protocol
1. Autoencoders first, all of them; then, for each that generators wait for, the latents; then the generators. What
   stands before a kill is found again: finished trials by their journals, versions by the registry, latents by their
   fingerprint and, half made, by their finished pieces (`data/making/work.py`).
2. Latents are made of the version that the registry keeps of the autoencoder's trial, with its images; the study's
   journal says which (`latents`).
3. Generators of an autoencoder that failed fail with that reason, and wait again when a submission tries it again.
   Those of one that is not registered (the tracking server is silent, it may not be registered) stay queued.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from transvae_platform.cluster.schedule import cluster_devices
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.making.on_ray import run_on_ray
from transvae_platform.data.sets.catalogue import TrainingData
from transvae_platform.data.sets.mixture import open_training_data
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.sets.samples import manifest_at
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.downstream_spec import Latents
from transvae_platform.study.grid import Trial
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import Fence
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState, TrialState
from transvae_platform.tracking.registry import local_model

Places = Mapping[str, dict[str, Any]]
"""By trial: where its workers find what they train on."""
Say = Callable[[str], None]


def refuse_labels(spec: StudySpec, made: TrainingData) -> None:
    """Images without labels, or with labels beyond the classes that generators are told: before anything is trained.

    Data sets on an object store are not read for this; a training refuses such a label when it comes.

    Raises:
        SpecError: names the key and the label.
    """
    if spec.downstream is None or spec.downstream.classes == 1:
        return
    classes = spec.downstream.classes
    places = [(part.location, share) for part, share in made.parts if "://" not in part.location]
    for samples in open_training_data(places, default_cache(), CACHE_BYTES) if places else ():
        try:
            labels = samples.labels(np.arange(len(samples)))
        except UserError as error:
            raise SpecError(f"downstream.classes: {error} - or set 1, which reads no labels") from None
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise SpecError(
                f"downstream.classes: {classes}, but the images have labels from {labels.min()} to {labels.max()} - "
                f"set {int(labels.max()) + 1} or more"
            )


def make_latents(
    vae: TrialState, latents: Latents, device: str, made: TrainingData, home: Path, tracking_uri: str,
    journal: Journal, state: StudyState, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """The latents of a registered autoencoder, made or found; where a generator's workers find all that they need.

    Args:
        device: what encodes: `cpu` cores, or a `gpu` each.

    Raises:
        UserError: the registered model or the latents cannot be used.
        UnreachableError: the registry does not answer.
    """
    assert vae.registered is not None
    uri = str(vae.registered["uri"])
    folder, weights = local_model(uri, home, tracking_uri)
    cpus, gpus = cluster_devices()
    count = gpus if device == "gpu" else cpus
    mapper = partial(run_on_ray, actors=count, gpus=1 if device == "gpu" else 0)
    places = []
    for part, share in made.parts:
        manifest = extract_latents(
            plan_extraction(
                manifest_at(part.location), part.location, folder, model_name=uri, content=latents.content,
                dtype=latents.dtype, seed=latents.seed,
            ),
            home,
            mapper,
            device="cuda" if device == "gpu" else "cpu",
            listen=lambda done, images: say(f"latents of {vae.trial.label}, {done} of {images} images"),
        )  # fmt: skip
        places.append((str(home / "data" / manifest.fingerprint), share))
    kept = {"trial": vae.trial.id, "model": uri, "weights_sha256": weights, "locations": [at for at, _ in places]}
    if state.latents.get(vae.trial.id) != kept:
        journal.append("latents", **kept)
        state.refresh()
    return {
        "data": places,
        "sets": {},
        "generator": {
            "autoencoder": str(folder),
            "weights_sha256": weights,
            "images": [(part.location, share) for part, share in made.parts],
            "home": str(home),
        },
    }


def open_generators(
    waiting: Sequence[Trial], made: TrainingData, home: Path, tracking_uri: str, journal: Journal, state: StudyState,
    fence: Fence, say: Say,
) -> Places:  # fmt: skip
    """Those of the waiting generators that can be trained now, by id, with what `make_latents` says of each.

    Those of failed autoencoders have failed. Raises as `make_latents`.
    """
    ready: dict[str, dict[str, Any]] = {}
    for trial in waiting:
        assert trial.generator is not None
        vae = state.trials[trial.generator.autoencoder]
        if vae.state in ("failed", "stopped"):
            own = Journal(state.trials[trial.id].folder / "journal.jsonl", fence)
            own.append("failed", reason=f"its autoencoder {vae.trial.label} {vae.state}: {vae.reason}")
            own.close()
        elif vae.state == "finished" and vae.registered is not None and vae.unregistered is None:
            device = trial.workers.device
            ready[trial.id] = make_latents(
                vae, trial.generator.latents, device, made, home, tracking_uri, journal, state, say
            )
    state.refresh()
    return ready
