"""FLOPs of the losses' networks, against counts that others publish and the layers one by one."""

import pytest
import torch
from torch import nn

from transvae.losses.adversarial import PatchDiscriminator
from transvae.losses.cost import discriminator_flops, features_flops, lpips_flops
from transvae.losses.perceptual import build_trunk


def by_layer(network, side):
    """2 FLOPs per multiply-add of every convolution, from what it puts out."""
    counted = []

    def count(module, _, output):
        counted.append(2 * output.numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.zeros(1, 3, side, side, device="meta"))
    return sum(counted)


@pytest.mark.parametrize("side", [32, 256])
def test_lpips_is_three_passes_of_vgg16_and_a_fourth_for_adaptive_weights(side):
    forward = by_layer(build_trunk(), side)
    assert lpips_flops(side, adaptive=False) == 3 * forward
    assert lpips_flops(side, adaptive=True) == 4 * forward
    if side == 256:  # torchvision: 15.47 G multiply-adds at 224 pixels, of which 0.12 in the classifier
        assert forward == pytest.approx(2 * 15.35e9 * (256 / 224) ** 2, rel=0.01)


def test_dinov2_large_costs_what_its_authors_say():
    # 81 G multiply-adds at 224 pixels, that is 257 tokens (timm's model card: 81.0 without attention's products)
    flops = features_flops("vit_large_patch14_dinov2.lvd142m", 256, 16, "latents")
    assert flops == pytest.approx(2 * 81e9, rel=0.03)
    assert features_flops("vit_tiny_patch16_224", 32, 8, "image") > 3 * features_flops(
        "vit_tiny_patch16_224", 32, 8, "latents"
    )


def test_a_discriminator_learns_from_two_images_and_judges_one():
    with torch.device("meta"):
        forward = by_layer(PatchDiscriminator(), 256)
    assert discriminator_flops(3, 256, adaptive=True) == (6 * forward, 3 * forward)
    assert discriminator_flops(3, 256, adaptive=False) == (6 * forward, 2 * forward)
