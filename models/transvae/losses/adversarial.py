"""The adversarial loss of VA-VAE: taming-transformers' PatchGAN discriminator under the hinge loss.

Legend: B batch, C channels, H, W pixels, h, w logits.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from transvae.losses.adaptive import BalancedConfig
from transvae.losses.sizes import logits_side


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(BalancedConfig):
    """Weight of the adversarial loss: TransVAE's 0.1 (appendix D), times VA-VAE's adaptive ratio of at most 1e4."""

    weight: float = 0.1
    largest: float = 1e4


class PatchDiscriminator(nn.Module):
    """Images (B, 3, H, W) -> logits (B, 1, h, w), h = H / 2^layers - 2: 2,765,633 parameters, 30x30 at 256 pixels.

    `layers` stride-2 convolutions, then two of stride 1; fewer layers for smaller images. Initialised with torch's
    global generator. BatchNorm keeps no running statistics: a discriminator never works outside of training, where
    they are not read. Raises ValueError for images that leave no logits.
    """

    def __init__(self, layers: int = 3, width: int = 64) -> None:
        super().__init__()
        if layers < 1 or width < 1:
            raise ValueError(f"a discriminator of layers={layers} and width={width} cannot be built")
        self.layers = layers
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            parts += [
                nn.Conv2d(widths[i - 1], widths[i], 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(widths[i], track_running_stats=False),
                nn.LeakyReLU(0.2),
            ]
        self.parts = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.parts.apply(_initialise)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        for side in x_B3HW.shape[2:]:
            logits_side(side, self.layers)
        # a reconstruction under autocast is bfloat16; the discriminator, as all losses, works in fp32
        logits_B1hw: Tensor = self.parts(x_B3HW.float())
        return logits_B1hw


def generator_loss(logits_fake_B1hw: Tensor) -> Tensor:
    """-mean D(reconstruction), a scalar in fp32."""
    return -logits_fake_B1hw.float().mean()


def hinge_loss(logits_real_B1hw: Tensor, logits_fake_B1hw: Tensor) -> Tensor:
    """0.5 x (mean relu(1 - D(x)) + mean relu(1 + D(reconstruction))): what the discriminator minimises, in fp32."""
    real, fake = logits_real_B1hw.float(), logits_fake_B1hw.float()
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def _initialise(module: nn.Module) -> None:
    """taming-transformers' weights_init; the two biases of convolutions stay at torch's default, as there."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
