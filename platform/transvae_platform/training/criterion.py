"""What a trial minimises in either stage, with the frozen networks that it needs.

Legend: B batch, H, W pixels, C feature channels, h, w feature map.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from transvae.autoencoder import Autoencoder
from transvae.losses.adversarial import AdversarialConfig
from transvae.losses.alignment import AlignmentConfig, Projection, meet
from transvae.losses.features import FeatureNetwork, load_features
from transvae.losses.frozen import FrozenConfig, Origin
from transvae.losses.objective import Objective, ObjectiveConfig, Terms
from transvae.losses.perceptual import load_lpips
from transvae.losses.sizes import meeting
from transvae_platform.study.losses_spec import Losses
from transvae_platform.study.trial import Trial
from transvae_platform.training.network import Passed
from transvae_platform.world import World


class Criterion:
    """The objectives of a trial's two stages; frozen networks are loaded once per process."""

    def __init__(self, trial: Trial, compression: int, world: World) -> None:
        losses = trial.recipe.losses
        self._losses, self._compression, self._world = losses, compression, world
        self._vision = load_vision(losses, trial.frozen, world.device)
        lpips = (
            load_lpips(frozen_config(losses.lpips.network, trial.frozen.get("vgg16")), world.device)
            if losses.lpips
            else None
        )
        self.origins: list[Origin] = [network.origin for network in (lpips, self._vision) if network is not None]
        """Which frozen networks these are, for the lineage."""
        self._objectives = {
            encoder_frozen: Objective(_objective_config(losses, encoder_frozen), lpips, self._vision)
            for encoder_frozen in (False, True)
        }

    @torch.no_grad()
    def features(self, x_B3HW: Tensor) -> Tensor | None:
        """What the vision network sees in images: (B, C, h, w); None without alignment."""
        if self._vision is None or self._losses.vf is None:
            return None
        side = meeting(x_B3HW.shape[-1], self._compression, self._losses.vf.match, self._vision.patch).features
        features: Tensor = self._vision(x_B3HW, (side, side))
        return features

    def generator(
        self, model: Autoencoder, x_B3HW: Tensor, passed: Passed, features_BChw: Tensor | None,
        discriminator: nn.Module | None, encoder_frozen: bool,
    ) -> tuple[Tensor, Tensor, Terms]:  # fmt: skip
        """(total, the part of it that tells a divergence, terms) of a forward pass.

        Args:
            discriminator: None until the decoder is told of it.
        """
        projected = passed.projected
        if projected is not None and features_BChw is not None and self._losses.vf is not None:
            # pooling and projecting are linear, so their order makes no difference
            projected, features_BChw = meet(projected, features_BChw, self._losses.vf.match)
        total, judged, terms = self._objectives[encoder_frozen].generator(
            x_B3HW,
            passed.reconstruction,
            passed.mu,
            passed.logvar,
            projected=projected,
            features=features_BChw,
            discriminator=discriminator,
            layers=(model.last_encoder_layer, model.last_decoder_layer),
            mean_over_workers=lambda tensor: self._world.sum(tensor) / self._world.size,
        )
        return total, judged, {"loss" if name == "total" else name: value for name, value in terms.items()}

    def discriminator(self, network: nn.Module, x_B3HW: Tensor, reconstruction_B3HW: Tensor) -> tuple[Tensor, Terms]:
        """(loss, terms) of the discriminator; nothing flows into the reconstruction."""
        return self._objectives[False].discriminator(network, x_B3HW, reconstruction_B3HW)


def make_projection(
    losses: Losses, frozen: Mapping[str, str], latent_dim: int, device: torch.device
) -> nn.Module | None:
    """From a latent to the vision network's channels, drawn from the global generator; None without alignment."""
    vision = load_vision(losses, frozen, device)
    return None if vision is None else Projection(latent_dim, vision.channels)


def load_vision(losses: Losses, frozen: Mapping[str, str], device: torch.device) -> FeatureNetwork | None:
    """The vision network of the alignment; None without alignment."""
    if losses.vf is None:
        return None
    return load_features(losses.vf.features, frozen_config(losses.vf.network, frozen.get("features")), device)


def frozen_config(origin: str, file: str | None) -> FrozenConfig:
    """Where a frozen network's weights come from: a file that a study named, or the hub's cache, or nowhere."""
    return FrozenConfig(weights=origin, path=None if origin == "random" else file)


def _objective_config(losses: Losses, encoder_frozen: bool) -> ObjectiveConfig:
    vf, gan = losses.vf, losses.gan
    return ObjectiveConfig(
        l1=losses.l1,
        lpips=losses.lpips.weight if losses.lpips else 0.0,
        kl=losses.kl,
        vf=AlignmentConfig(
            weight=vf.weight,
            adaptive=vf.adaptive,
            largest=vf.largest,
            distance_margin=vf.distance_margin,
            cosine_margin=vf.cosine_margin,
        )
        if vf
        else None,
        gan=AdversarialConfig(weight=gan.weight, adaptive=gan.adaptive, largest=gan.largest) if gan else None,
        encoder_frozen=encoder_frozen,
        reduction=losses.reduction,
    )
