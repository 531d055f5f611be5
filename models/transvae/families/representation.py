"""S-VAE, PS-VAE and RAE: a vision network's features as, or behind, the latent (`transvae.representation`).

Trained in two phases, which `enter_phase` switches: "semantic" (S-VAE: the network frozen, no pixels), then "pixel"
(PS-VAE: everything trained, a frozen twin of the network as the target). One set of weights goes through both, so a
PS-VAE can be trained from its first step on, or take over an S-VAE (`inherit`). Which weights the network begins with
is decided beside the model, as for every frozen network: `adopt` takes them from the FeatureNetwork that is the twin.

Legend: B batch, H, W pixels, f compression, h = H/f, w = W/f, d latent channels, C feature channels, T = h w positions.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from transvae.layers.convolution import ResBlock, pixel_head
from transvae.layers.initialise import Foreign, as_branch_output
from transvae.layers.normalisation import group_norm
from transvae.layers.resample import NearestUp
from transvae.losses.features import (
    FeatureNetwork,
    View,
    build_features,
    draw_features,
    load_features,
    patch_tokens,
)
from transvae.losses.frozen import FrozenConfig
from transvae.posterior import LOGVAR_RANGE
from transvae.representation import (
    PSVAEDecoder,
    PSVAEEncoder,
    RAEDecoder,
    RAEEncoder,
    RepresentationEncoder,
    SVAEDecoder,
    SVAEEncoder,
)

if TYPE_CHECKING:
    from transvae.autoencoder import Autoencoder
    from transvae.config import AutoencoderConfig

PHASES = ("semantic", "pixel")


class Trunk(Foreign):
    """(B, 3, H, W) -> features (B, C, h, w) of the vision network. While frozen: no gradients, always in eval mode."""

    def __init__(self, layout: RepresentationEncoder) -> None:
        super().__init__()
        self.layout = layout
        self.vit = build_features(layout.network)
        self.frozen = not isinstance(layout, PSVAEEncoder)
        self.view = View(layout.resize, layout.normalise)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        grid = (x_B3HW.shape[2] // self.layout.cell, x_B3HW.shape[3] // self.layout.cell)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return patch_tokens(self.vit, self.layout.network, x_B3HW, grid, self.view)

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.frozen)

    @torch.no_grad()
    def draw(self) -> None:
        """timm's initialisation."""
        self.vit.load_state_dict(draw_features(self.layout.network).state_dict())

    def checkpoint(self, enabled: bool) -> None:
        """Recompute each block's activations in the backward pass."""
        self.vit.set_grad_checkpointing(enabled)  # type: ignore[operator]


class _Encoder(nn.Module):
    """What the three encoders share: the trunk, which stays frozen where it is, whatever is asked for."""

    def __init__(self, layout: RepresentationEncoder) -> None:
        super().__init__()
        self.trunk = Trunk(layout)
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        super().requires_grad_(requires_grad)
        self.trunk.vit.requires_grad_(requires_grad and not self.trunk.frozen)
        return self


class Encoder(_Encoder):
    """Of S-VAE and PS-VAE: (B, 3, H, W) -> moments (B, 2d, h, w) by the guide's projector.

    Linear, LayerNorm, GELU per width of `hidden`, then both heads as one 1x1 convolution.
    """

    def __init__(self, layout: SVAEEncoder, latent_dim: int) -> None:
        super().__init__(layout)
        self.projector = _token_mlp((layout.channels, *layout.hidden))
        self.moments = nn.Conv2d(layout.hidden[-1], 2 * latent_dim, 1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        return self.project(self.trunk(x_B3HW))

    def project(self, features_BChw: Tensor) -> Tensor:
        """The vision network's features (B, C, h, w) -> moments."""
        hidden_BhwE = self.projector(features_BChw.permute(0, 2, 3, 1))
        moments: Tensor = self.moments(hidden_BhwE.permute(0, 3, 1, 2))
        return moments


class FeatureEncoder(_Encoder):
    """Of RAE: the features as the mean, and the least log-variance there is (e^-30: a deviation of 3e-7)."""

    def __init__(self, layout: RAEEncoder) -> None:
        super().__init__(layout)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        features_BChw = self.trunk(x_B3HW)
        return torch.cat([features_BChw, torch.full_like(features_BChw, LOGVAR_RANGE[0])], dim=1)


class TokenResidual(nn.Module):
    """x + linear(GELU(linear(LayerNorm(x)))), all of width C; in and out (B, h, w, C), 2C^2 + 4C parameters.

    (The guide names a residual block of this width without its inside: an assumption.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.GELU(),
            as_branch_output(nn.Linear(channels, channels)),
        )

    def forward(self, x_BhwC: Tensor) -> Tensor:
        out: Tensor = x_BhwC + self.inside(x_BhwC)
        return out


class SemanticDecoder(nn.Module):
    """(B, d, h, w) -> features (B, C, h, w), position by position (guide)."""

    def __init__(self, layout: SVAEDecoder, latent_dim: int) -> None:
        super().__init__()
        self.widen = _token_mlp((latent_dim, *layout.semantic))
        self.out = nn.Linear(layout.semantic[-1], layout.channels)
        self.residual = nn.Sequential(*(TokenResidual(layout.channels) for _ in range(layout.residual)))

    def forward(self, z_Bdhw: Tensor) -> Tensor:
        features_BhwC: Tensor = self.residual(self.out(self.widen(z_Bdhw.permute(0, 2, 3, 1))))
        return features_BhwC.permute(0, 3, 1, 2)


class PixelDecoder(nn.Module):
    """(B, d, h, w) -> (B, 3, H, W): conv3x3, GroupNorm, SiLU; ResBlocks, a doubling per level; pixel head (guide)."""

    def __init__(self, layout: PSVAEDecoder | RAEDecoder, latent_dim: int) -> None:
        super().__init__()
        widths = layout.widths
        self.stem = nn.Sequential(nn.Conv2d(latent_dim, widths[0], 3, padding=1), group_norm(widths[0]), nn.SiLU())
        levels: list[nn.Module] = []
        for a, b in zip((widths[0], *widths), widths, strict=False):
            blocks = (ResBlock(a if block == 0 else b, b) for block in range(layout.blocks))
            levels.append(nn.Sequential(*blocks, NearestUp(b)))
        self.levels = nn.Sequential(*levels)
        self.head = pixel_head(group_norm(widths[-1]), widths[-1])

    def forward(self, z_Bdhw: Tensor) -> Tensor:
        image: Tensor = self.head(self.levels(self.stem(z_Bdhw)))
        return image


class Decoder(nn.Module):
    """Of S-VAE: `semantic` alone; of PS-VAE with `pixels` beside it; of RAE `pixels` alone. Called, it makes pixels."""

    def __init__(self, layout: SVAEDecoder | RAEDecoder, latent_dim: int) -> None:
        super().__init__()
        self.semantic = SemanticDecoder(layout, latent_dim) if isinstance(layout, SVAEDecoder) else None
        self.pixels = PixelDecoder(layout, latent_dim) if isinstance(layout, PSVAEDecoder | RAEDecoder) else None

    def forward(self, z_Bdhw: Tensor) -> Tensor:
        assert self.pixels is not None, "Autoencoder.decode asks the configuration before"
        image: Tensor = self.pixels(z_Bdhw)
        return image


def enter_phase(model: Autoencoder, phase: str) -> None:
    """Decide what learns: "semantic" projector and semantic decoder, "pixel" everything that the family trains.

    Raises ValueError for another phase, or one that the model does not have.
    """
    encoder, decoder = _sides(model)
    if phase not in PHASES:
        raise ValueError(f"phase={phase!r} does not exist; choose one of {', '.join(PHASES)}")
    lacking = decoder.semantic if phase == "semantic" else decoder.pixels
    if lacking is None:
        raise ValueError(f"{model.config.name} has no {phase} decoder and so no phase {phase!r}")
    encoder.trunk.frozen = phase == "semantic" or not isinstance(encoder.trunk.layout, PSVAEEncoder)
    encoder.trunk.train(encoder.training)
    encoder.requires_grad_(True)
    if decoder.pixels is not None:
        decoder.pixels.requires_grad_(phase == "pixel")


def load_twin(
    config: AutoencoderConfig, weights: FrozenConfig | None = None, device: torch.device | str = "cpu"
) -> FeatureNetwork:
    """The frozen network that a model stands on, seeing images as the model does: the target of its features.

    Raises ValueError for another family, and FrozenWeightsError where there are no weights, with the ways out.
    """
    layout = config.encoder
    if not isinstance(layout, RepresentationEncoder):
        raise ValueError(f"{config.name} does not stand on a vision network; s-vae, ps-vae and rae do")
    return load_features(layout.network, weights, device, View(layout.resize, layout.normalise))


@torch.no_grad()
def adopt(model: Autoencoder, network: FeatureNetwork) -> None:
    """Give the model's vision network the weights of `network`, its frozen twin.

    Raises ValueError where that is another network or sees images in another way.
    """
    trunk = _sides(model)[0].trunk
    if (network.name, network.view) != (trunk.layout.network, trunk.view):
        raise ValueError(
            f"{model.config.name} stands on {trunk.layout.network} seen with {trunk.view}, the twin is {network.name} "
            f"seen with {network.view}"
        )
    trunk.vit.load_state_dict(network.vit.state_dict())


@torch.no_grad()
def inherit(model: Autoencoder, stage1: Autoencoder) -> None:
    """Begin a PS-VAE from a trained S-VAE: vision network, projector and semantic decoder; the rest stays fresh.

    (That stage 2 begins so is implied by the guide, not said.) Raises ValueError where the two differ, naming the key.
    """
    refuse_to_inherit(model.config, stage1.config)
    model.load_state_dict(stage1.state_dict(), strict=False)


def refuse_to_inherit(config: AutoencoderConfig, stage1: AutoencoderConfig) -> None:
    """Raises ValueError where a PS-VAE cannot begin from this S-VAE, naming the key in which they differ."""
    for side, ours, theirs in zip(("encoder", "decoder"), _shared(config), _shared(stage1), strict=True):
        for key, value in ours.items():
            if theirs.get(key) != value:
                raise ValueError(
                    f"{config.name} cannot begin from {stage1.name}: {side}.{key} is {value!r} here, "
                    f"{theirs.get(key)!r} there; take the s-vae of the same size, network and latent"
                )


def _shared(config: AutoencoderConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the encoder and the semantic decoder of an S-VAE or PS-VAE are made of."""
    encoder, decoder = config.encoder, config.decoder
    if not isinstance(encoder, SVAEEncoder) or not isinstance(decoder, SVAEDecoder):
        raise ValueError(f"{config.name} is neither s-vae nor ps-vae")
    parts = {field.name: getattr(decoder, field.name) for field in fields(SVAEDecoder)}
    return asdict(encoder), {**parts, "latent_dim": config.latent_dim}


def _sides(model: Autoencoder) -> tuple[_Encoder, Decoder]:
    encoder, decoder = model.encoder, model.decoder
    if not isinstance(encoder, _Encoder) or not isinstance(decoder, Decoder):
        raise ValueError(f"{model.config.name} does not stand on a vision network; s-vae, ps-vae and rae do")
    return encoder, decoder


def _token_mlp(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear, LayerNorm, GELU from each width to the next; over the last dimension."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()]
    return nn.Sequential(*layers)
