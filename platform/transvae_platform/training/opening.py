"""What a generator's trial needs, opened: latents and their identity, their decoder, a meter, a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transvae.generation.text import open_text_encoder
from transvae.generation.text_shapes import TextEncoderError
from transvae.tokenizers import TokenizerError, open_tokenizer
from transvae_platform.data.sets.mixture import Samples, open_training_data
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.stream.latents import latent_space
from transvae_platform.errors import UserError
from transvae_platform.evaluation.curve import Meter
from transvae_platform.study.trial import Trial
from transvae_platform.training.generating import Generating
from transvae_platform.training.text_generating import TextGenerating
from transvae_platform.world import World


def open_generating(
    trial: Trial, world: World, latents: tuple[Samples, Samples], autoencoder: str, weights_sha256: str,
    images: Sequence[tuple[str, float]], home: str,
) -> Generating:  # fmt: skip
    """The task of a generator's trial on stored latents, those of both splits.

    Args:
        autoencoder: the folder of what made them.
        weights_sha256: of its weights.
        images: places of the data set that they were made of.
        home: keeps the moments of originals.

    Raises:
        UserError: the latents are another autoencoder's, a caption is missing, or a file is missing or damaged.
    """
    assert trial.generator is not None
    space, of = latent_space(latents[0]), trial.generator
    try:
        tokenizer = open_tokenizer(autoencoder, world.device).eval()
    except TokenizerError as error:
        raise UserError(f"{trial.id}: {error}") from None
    known = {"the latents are": space.tokenizer["weights_sha256"], f"{autoencoder} is": tokenizer.facts.weights_sha256}
    for what, found in known.items():
        if found != weights_sha256:
            raise UserError(
                f"{trial.id}: {what} of weights {found[:12]}, its autoencoder has {weights_sha256[:12]} - submit the "
                "study again, or delete what differs"
            )
    meter = None
    if of.curve is not None:
        train, validation = open_training_data(images, default_cache(), CACHE_BYTES)
        originals = train if of.curve.against == "train" else validation
        meter = Meter(
            of.curve, of.sampler, originals, tokenizer.decode, world, Path(home), trial.frozen.get("inception")
        )
    if of.text is None:
        return Generating(trial, world, space, tokenizer.decode, meter)
    try:
        encoder = open_text_encoder(trial.frozen.get("text", of.text.encoder), world.device)
    except TextEncoderError as error:
        raise UserError(f"{trial.id}: downstream.text.encoder: {error}") from None
    return TextGenerating(trial, world, space, tokenizer.decode, encoder, latents[1], meter)
