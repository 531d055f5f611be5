"""A model of this project as LightningDiT's tokenizer: the methods of its class `VA_VAE`, on tensors of any device.

LightningDiT's `extract_features.py` and `inference.py` call `img_transform`, `encode_images` and `decode_to_images`;
its training normalises latents by `latents_stats.pt` (of `transvae data export --layout lightningdit`).

Legend: B batch, H, W pixels, d latent channels, h, w latent map.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from transvae import Autoencoder
from transvae_platform.data.pixels.geometry import adm


class LightningDiTTokenizer:
    """Where LightningDiT writes `VA_VAE(config)`."""

    def __init__(self, model: Autoencoder, img_size: int = 256) -> None:
        self.model, self.img_size = model.eval(), img_size

    @classmethod
    def from_pretrained(
        cls, source: str | Path, img_size: int = 256, device: torch.device | str = "cpu"
    ) -> LightningDiTTokenizer:
        """What `save_pretrained` wrote; errors are those of `Autoencoder.from_pretrained`."""
        return cls(Autoencoder.from_pretrained(source, device), img_size)

    def img_transform(self, p_hflip: float = 0.0, img_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        """A function of a PIL image that gives (3, H, W) in [-1, 1]: ADM's crop, mirrored with this probability."""
        side = img_size or self.img_size

        def transform(image: Image.Image) -> Tensor:
            pixels_HW3 = adm(np.asarray(image.convert("RGB")), side)
            x_3HW = torch.from_numpy(pixels_HW3).permute(2, 0, 1).float() / 127.5 - 1
            return x_3HW.flip(2) if torch.rand(()) < p_hflip else x_3HW

        return transform

    @torch.no_grad()
    def encode_images(self, images_B3HW: Tensor) -> Tensor:
        """A sample of the posterior, (B, d, h, w), on the model's device."""
        return self.model.encode(images_B3HW.to(self.model.device), sample=True)

    @torch.no_grad()
    def decode_to_images(self, z_Bdhw: Tensor) -> NDArray[np.uint8]:
        """(B, H, W, 3) 8-bit images."""
        images = self.model.decode(z_Bdhw.to(self.model.device))
        levels = torch.clamp(127.5 * images + 128.0, 0, 255)  # VA-VAE's rounding: half up
        array: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).to("cpu", torch.uint8).numpy()
        return array
