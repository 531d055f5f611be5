"""What the networks of the losses cost per training image, in FLOPs, counted on the meta device.

Convention of `transvae.accounting`. Per image and step, in forward passes of the network:
LPIPS: two images forward, the gradient of one of them (its weights get none): 3, and 1 more where adaptive weights
take the reconstruction's gradient on its own. Features: 1, without gradients. Discriminator: as a loss 2 (forward, the
image's gradient) and 1 more if its weight is adaptive; its own update 6 (two images, each forward and backward).
The passes of adaptive weights through the decoder are not counted.
"""

from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from transvae.losses.adversarial import PatchDiscriminator
from transvae.losses.features import build_features
from transvae.losses.perceptual import build_trunk
from transvae.losses.sizes import meeting
from transvae.representation import RepresentationEncoder


@cache
def lpips_flops(side: int, adaptive: bool) -> int:
    """Of LPIPS on images of side x side pixels; its linear layers, a thousandth of it, are not counted."""
    return (4 if adaptive else 3) * _forward(build_trunk(), side)


@cache
def features_flops(name: str, side: int, compression: int, match: str) -> int:
    """Of a feature network beside a model of this compression. Raises ValueError where the two cannot meet."""
    network = build_features(name)
    patch: int = network.patch_embed.patch_size[0]  # type: ignore[union-attr, index, assignment]
    return _forward(network, meeting(side, compression, match, patch).image)


@cache
def twin_flops(encoder: RepresentationEncoder, side: int) -> int:
    """Of the frozen twin of the vision network that a model stands on, once per image."""
    network = build_features(encoder.network)
    patch: int = network.patch_embed.patch_size[0]  # type: ignore[union-attr, index, assignment]
    return _forward(network, side // encoder.cell * patch)


@cache
def discriminator_flops(layers: int, side: int, adaptive: bool) -> tuple[int, int]:
    """(of its own update, of the loss that it is for the autoencoder)."""
    with torch.device("meta"):
        forward = _forward(PatchDiscriminator(layers), side)
    return 6 * forward, (3 if adaptive else 2) * forward


def _forward(network: nn.Module, side: int) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops()
