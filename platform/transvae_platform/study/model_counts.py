"""Counts of autoencoders, from the tables of `counts.py`."""

from __future__ import annotations

from typing import NamedTuple

from transvae.config import AutoencoderConfig
from transvae_platform.study.counts import Count, counts


class ModelCount(NamedTuple):
    """Parameters, and FLOPs per image at one size."""

    encoder_parameters: int
    decoder_parameters: int
    encoder_flops: int
    """Forward, as the next."""
    decoder_flops: int
    training_flops: int


def count_autoencoder(config: AutoencoderConfig, size: int) -> ModelCount:
    """At images of size x size. Raises ValueError for a size that the model cannot see."""

    def count() -> Count:
        from transvae.accounting import count_model

        found = count_model(config, size)
        return (
            found.encoder_parameters, found.decoder_parameters, found.encoder_forward_flops,
            found.decoder_forward_flops, found.training_flops,
        )  # fmt: skip

    return ModelCount(*counts().get("model", [config.to_dict(), size], count))


def count_semantic_training(config: AutoencoderConfig, size: int) -> int:
    """FLOPs per image of the phase in which the vision network is frozen and nothing is decoded to pixels."""

    def count() -> Count:
        from transvae.accounting import semantic_training_flops

        return (semantic_training_flops(config, size),)

    return counts().get("semantic training", [config.to_dict(), size], count)[0]
