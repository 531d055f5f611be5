"""What a trial starts from instead of random weights, as its workers open it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transvae import storage
from transvae.generation import LatentSpace
from transvae.generation.folder import load_config, load_text_config
from transvae_platform.errors import UserError
from transvae_platform.study.trial import Trial
from transvae_platform.training.manifest import sha256_of


def initial_folder(trial: Trial) -> Path:
    """The folder of the model that a trial starts from. Raises UserError where its weights are others by now."""
    assert trial.initial is not None
    folder, expected = Path(trial.initial.folder), trial.initial.weights_sha256
    if sha256_of(folder / storage.WEIGHTS) != expected:
        raise UserError(
            f"{'downstream' if trial.generator else 'recipe'}.start_from: the weights in {folder} are no longer those "
            f"that the study began with (SHA-256 {expected}) - put them back, or give the study a new name"
        )
    return folder


def initial_space(trial: Trial, given: LatentSpace) -> LatentSpace:
    """The latents that a generator is given, normalised as those that its initial weights were trained on.

    Other images have other means and deviations; to these weights a latent keeps what it was.

    Raises:
        UserError: the initial weights were trained on latents of another tokenizer.
    """
    if trial.initial is None:
        return given
    folder = Path(trial.initial.folder)
    assert trial.generator is not None
    _, kept, *_ = load_text_config(folder) if trial.generator.text else load_config(folder)
    if kept is None or {**kept.tokenizer, "name": ""} != {**given.tokenizer, "name": ""}:
        raise UserError(
            f"{trial.id}: downstream.start_from: {folder} was trained on latents of {kept and kept.tokenizer['name']}, "
            f"these are of {given.tokenizer['name']} - give a generator of this tokenizer"
        )
    return replace(given, mean=kept.mean, std=kept.std)
