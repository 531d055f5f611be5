"""The training of an autoencoder on a vision network: S-VAE, PS-VAE and RAE, in their two phases.

What travels: x_B3HW -> the vision network's features -> (mu, logvar) -> latent -> decoded features, and pixels beside.
In the phase "semantic" the network is frozen and nothing is decoded to pixels (S-VAE; the first stage of PS-VAE); in
the phase "pixel" everything that the family trains learns (the second stage of PS-VAE; RAE). Which phase a step belongs
to follows from the step alone (`recipe.semantic.pixel_stage`).

Legend: B batch, H, W pixels, d latent channels, C feature channels, h, w latent map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from transvae import create_model
from transvae.autoencoder import Autoencoder
from transvae.families.representation import Encoder, Trunk, adopt, enter_phase, inherit, load_twin
from transvae.losses.frozen import Origin
from transvae.losses.perceptual import load_lpips
from transvae.losses.semantic import SemanticConfig, SemanticObjective
from transvae.posterior import DiagonalGaussian
from transvae_platform.data.sets.mixture import Samples
from transvae_platform.evaluation.semantics import evaluate_semantics, save_features
from transvae_platform.study.semantic_spec import Semantic
from transvae_platform.study.trial import Trial
from transvae_platform.training.autoencoding import VALIDATION, Autoencoding
from transvae_platform.training.criterion import frozen_config
from transvae_platform.training.parts import Stateful
from transvae_platform.world import World


class Decoded(NamedTuple):
    """What a forward pass leaves for the objective."""

    target: Tensor | None
    """(B, C, h, w): the frozen network's features, where they are by the way; else the twin is asked."""
    features: Tensor | None
    """(B, C, h, w) of the semantic decoder; None without one."""
    mu: Tensor
    logvar: Tensor
    """Both (B, d, h, w) in fp32."""
    reconstruction: Tensor | None
    """(B, 3, H, W) in the pixel phase."""


class SemanticNetwork(nn.Module):
    """One module, because the gradients of one module are averaged over workers (`World.wrap`)."""

    def __init__(self, model: Autoencoder, own_target: bool) -> None:
        """`own_target`: while the model's network is frozen, its features are the target."""
        super().__init__()
        self.model, self._own_target = model, own_target
        self.phase = "semantic"

    def forward(self, x_B3HW: Tensor, noise_Bdhw: Tensor) -> Decoded:
        encoder, config = self.model.encoder, self.model.config
        own = None
        if isinstance(encoder, Encoder):
            features_BChw = encoder.trunk(x_B3HW)
            posterior = DiagonalGaussian(encoder.project(features_BChw))
            own = features_BChw if self.phase == "semantic" and self._own_target else None
        else:
            posterior = self.model.posterior(x_B3HW)
        z_Bdhw = posterior.sample(noise_Bdhw)
        return Decoded(
            own,
            self.model.semantics(z_Bdhw) if config.has_semantics else None,
            posterior.mean,
            posterior.logvar,
            self.model.decode(z_Bdhw) if self.phase == "pixel" else None,
        )


class Representing(Autoencoding):
    """An autoencoder that stands on a vision network."""

    def __init__(self, trial: Trial, world: World) -> None:
        assert trial.recipe.semantic is not None
        self._semantic = trial.recipe.semantic
        self._frozen = frozen_config(self._semantic.network, trial.frozen.get("representation"))
        super().__init__(trial, world)

    def make_network(self) -> SemanticNetwork:
        self._twin = load_twin(self.config, self._frozen, self.world.device)
        return SemanticNetwork(self.model, own_target=self.trial.initial is None)

    @property
    def origins(self) -> list[Origin]:
        lpips = self._objective.lpips
        return [self._twin.origin, *([lpips.origin] if lpips else [])]

    def initial_model(self) -> Autoencoder:
        """Its vision network begins as the frozen twin; a PS-VAE may start from a registered S-VAE."""
        model = super().initial_model()
        if self.trial.initial is None:
            adopt(model, load_twin(self.config, self._frozen))
        elif model.config.family != self.config.family:
            stage1, model = model, create_model(self.config)
            inherit(model, stage1)
        return model

    def blocks(self) -> Iterator[nn.Module]:
        for part in self.network.modules():
            if isinstance(part, Trunk):
                yield from part.vit.blocks  # type: ignore[misc]

    def companions(self, skip: Tensor) -> dict[str, Stateful]:
        keys = self._semantic.lpips
        vgg16 = self.trial.frozen.get("vgg16")
        has_pixels = self.config.has_pixels
        lpips = load_lpips(frozen_config(keys.network, vgg16), self.world.device) if keys and has_pixels else None
        self._objective = SemanticObjective(objective_config(self._semantic, has_pixels), self._twin, lpips)
        return {}

    def begin_again(self) -> None:
        """Nothing learns beside the model."""

    def enter_stage(self, second: bool) -> None:
        network = self.network
        assert isinstance(network, SemanticNetwork)
        pixels = second or (self.config.has_pixels and self._semantic.pixel_stage is None)
        network.phase = "pixel" if pixels else "semantic"
        enter_phase(self.model, network.phase)

    def backward(
        self, wrapped: nn.Module, piece: tuple[Tensor, ...], step: int, pieces: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x_B3HW, noise_Bdhw = piece
        with self.autocast():
            made: Decoded = wrapped(x_B3HW, noise_Bdhw)
            target = made.target
            if target is None and made.features is not None:
                target = self._target(x_B3HW)
        pixels = None if made.reconstruction is None else (x_B3HW, made.reconstruction)
        if made.features is None:
            assert pixels is not None, "a model without features has pixels"
            total, terms = self._objective.pixels(*pixels)
        else:
            assert target is not None
            total, terms = self._objective(made.features, target, made.mu, made.logvar, pixels)
        (total / pieces).backward()
        terms = {name: value.detach() for name, value in terms.items() if name != "total"}
        return total.detach(), {"loss": total.detach(), **terms}

    def validate(self, averaged: nn.Module, held_out: Mapping[str, Samples]) -> dict[str, float]:
        assert isinstance(averaged, Autoencoder)
        metrics = super().validate(averaged, held_out) if self.config.has_pixels else {}
        if self.config.has_semantics:
            for name, samples in held_out.items():
                with self.autocast():
                    found = evaluate_semantics(
                        averaged, self._target, self._twin, samples, self.trial.evaluation.images,
                        self.held_out_batch(samples), self.world,
                    )  # fmt: skip
                metrics |= {key.replace(VALIDATION, name, 1): value for key, value in found.items()}
        return metrics

    def draw(self, averaged: nn.Module, samples: Samples, path: Path) -> list[float]:
        """As any autoencoder; of an S-VAE features instead of reconstructions, with nothing under them."""
        if self.config.has_pixels:
            return super().draw(averaged, samples, path)
        assert isinstance(averaged, Autoencoder)
        save_features(averaged, self._target, samples, self.trial.evaluation.pictures, self.world.device, path)
        return []

    def _target(self, x_B3HW: Tensor) -> Tensor:
        """(B, C, h, w): what the frozen twin sees."""
        cell = self.config.compression
        features: Tensor = self._twin(x_B3HW, (x_B3HW.shape[2] // cell, x_B3HW.shape[3] // cell))
        return features


def objective_config(semantic: Semantic, has_pixels: bool) -> SemanticConfig:
    """The section of a study as the objective takes it."""
    return SemanticConfig(
        semantic=semantic.semantic,
        cosine=semantic.cosine,
        l1=semantic.l1,
        mse=semantic.mse,
        lpips=semantic.lpips.weight if semantic.lpips and has_pixels else 0.0,
        kl=semantic.kl,
        kl_reduction=semantic.kl_reduction,
        semantic_reduction=semantic.semantic_reduction,
    )
