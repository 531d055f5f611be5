"""Which of the paper's rows of table 2 a measurement of latents may stand beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transvae_platform.evaluation.latent_space.records import LatentRecord
from transvae_platform.evaluation.paper import DENSITIES, PROBES, TRAINED_AT
from transvae_platform.study.state import StudyState, TrialState

OURS = {
    ("transvae-T/f16d32", True): "TransVAE-T, f16d32", ("transvae-L/f16d32", True): "TransVAE-L, f16d32",
    ("transvae-T/f16d32", False): "TransVAE-T without alignment, f16d32",
    ("transvae-L/f8d16", True): "TransVAE-L, f8d16", ("transvae-L/f8d16", False): "TransVAE-L, f8d16",
}  # fmt: skip
"""Our configuration, and whether it was aligned -> the paper's name; of f8d16 it does not say whether it was."""
PUBLISHED = {"sd3.5-vae": "SD3.5-VAE, f8d16", "flux-vae": "FLUX-VAE, f8d16", "va-vae": "VA-VAE, f16d32"}
"""Names under which published weights are fetched -> the paper's."""
UNALIGNED = "no-alignment"
"""The variant of this project's studies that changes nothing but the alignment."""
CLASSES, HELD_OUT = 1000, 50_000
"""Of ImageNet, on which the paper's probes were."""
VECTORS, RUNS = 10_000, 10
"""Of VA-VAE's density, which the paper follows; it does not state its own."""


def makers(study: StudyState, records: Iterable[LatentRecord]) -> dict[str, TrialState]:
    """By a record's key the trial whose registered weights made its latents."""
    known = {str(t.registered["sha256"]): t for t in study.trials.values() if t.registered}
    found = ((record.key, known.get(str(record.latents["model"].get("weights_sha256")))) for record in records)
    return {key: trial for key, trial in found if trial is not None}


def printed_probe(record: LatentRecord, studies: Sequence[StudyState]) -> float | None:
    """The paper's accuracy in %, where model and images are the paper's (its protocol it does not state)."""
    result = record.result
    if result["classes"] != CLASSES or result["images"].get("validation") != HELD_OUT:
        return None
    return PROBES.get(_title(record, studies) or "")


def printed_density(record: LatentRecord, studies: Sequence[StudyState]) -> tuple[float, float, float] | None:
    """The paper's density CV, normalised entropy and Gini, where model, vectors and runs are the paper's."""
    if (record.result["n"], record.result["runs"]) != (VECTORS, RUNS):
        return None
    return DENSITIES.get((_title(record, studies) or "").replace(", f8d16", "" if _is_published(record) else " f8d16"))


def _is_published(record: LatentRecord) -> bool:
    return str(record.latents["model"]["name"]) in PUBLISHED


def _title(record: LatentRecord, studies: Sequence[StudyState]) -> str | None:
    """The paper's name of the model that made the latents; None if it is none of the paper's."""
    if _is_published(record):
        return PUBLISHED[str(record.latents["model"]["name"])]
    for study in studies:
        if (maker := makers(study, [record]).get(record.key)) is not None:
            trial, losses = maker.trial, maker.trial.recipe.losses
            aligned = losses.vf is not None
            if trial.resolution == TRAINED_AT and trial.variant == ("base" if aligned else UNALIGNED):
                return OURS.get((trial.model, aligned))
    return None
