"""The latents between an autoencoder and its generators, as a plan and a schedule see them: slots, time, disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transvae.config import AutoencoderConfig
from transvae_platform.study.downstream_spec import Generator
from transvae_platform.study.model_counts import count_autoencoder
from transvae_platform.study.scheduling import Work
from transvae_platform.study.trial import Trial

TOKENIZER_FLOPS = 137.9e9 / 256**2
"""Of another tokenizer's encoder, per pixel: VA-VAE's (measured; assumption for the others)."""
SIDES = 2  # the image and its mirror image
WIDTH = {"float16": 2, "bfloat16": 2, "float32": 4}  # bytes of a value


@dataclass(frozen=True)
class LatentsPlan:
    """The latents of one autoencoder or tokenizer."""

    name: str
    """`latents_of` its generators."""
    source: str | None
    """The autoencoder's trial; None for a tokenizer that is there."""
    bytes_per_image: int
    """On disk, with the mirrored one."""
    seconds: float
    workers: int
    device: str

    @property
    def work(self) -> Work:
        after = (self.source,) if self.source else ()
        return Work(self.name, self.workers, self.seconds, self.device, after=after)


def latents_of(generator: Generator) -> str:
    """The name of the errand that makes what a generator is trained on."""
    tokenizer = generator.tokenizer
    return f"latents of {generator.autoencoder if tokenizer is None else tokenizer.model}"


def plan_latents(trials: Iterable[Trial], images: int, rates: dict[str, float]) -> tuple[LatentsPlan, ...]:
    """What the generators among these trials wait for, each once.

    Args:
        images: of both splits.
        rates: FLOP/s of a device, by kind.
    """
    known = {trial.id: trial for trial in trials}
    found: dict[str, LatentsPlan] = {}
    for trial in known.values():
        if trial.generator is None or (name := latents_of(trial.generator)) in found:
            continue
        source, workers, shape = trial.generator.autoencoder, trial.workers, trial.model_config_values
        values = int(shape["latent_dim"]) * int(shape["latent_size"]) ** 2
        flops = SIDES * images * _encoder_flops(known.get(str(source)), trial.resolution)
        found[name] = LatentsPlan(
            name=name,
            source=source,
            bytes_per_image=SIDES * values * WIDTH[trial.generator.latents.dtype],
            seconds=flops / (rates[workers.device] * workers.workers),
            workers=workers.workers,
            device=workers.device,
        )
    return tuple(found.values())


def _encoder_flops(autoencoder: Trial | None, resolution: int) -> float:
    if autoencoder is None:
        return TOKENIZER_FLOPS * resolution**2
    return count_autoencoder(AutoencoderConfig.from_dict(autoencoder.model_config_values), resolution).encoder_flops
