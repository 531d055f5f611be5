"""The one interface of every model: check the input, encode, decode, save, load.

Legend: B batch, H, W pixels, f compression, d latent channels, h = H/f, w = W/f.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from transvae import storage
from transvae.config import AutoencoderConfig
from transvae.families import build_decoder, build_encoder, last_decoder_layer, last_encoder_layer
from transvae.families.representation import Decoder, Trunk
from transvae.layers.initialise import initialise, initialise_posterior
from transvae.layers.stage import Stage
from transvae.posterior import DiagonalGaussian


class Autoencoder(nn.Module):
    """A variational autoencoder for images (B, 3, H, W) in [-1, 1]; H and W any multiples of f.

    Built from a configuration and initialised with torch's global generator. `device` defaults to torch's default
    device; on "meta" only shapes exist.
    """

    def __init__(
        self,
        config: AutoencoderConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        # Built without storage first: a model of billions of parameters is then written once, by our own rules.
        with torch.device("meta"):
            self.encoder = build_encoder(config)
            self.decoder = build_decoder(config)
        self.to(dtype)
        target = torch.device(device) if device is not None else torch.get_default_device()
        if target.type != "meta":
            self.to_empty(device=target)
            initialise(self)
            moments = getattr(self.encoder, "moments", None)  # RAE has none: its latent is the features
            if isinstance(moments, nn.Conv2d):
                initialise_posterior(moments, config.posterior_init)

    @classmethod
    def from_config(
        cls,
        config: AutoencoderConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """The constructor under one signature for all subclasses."""
        return cls(config, device, dtype)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def last_encoder_layer(self) -> nn.Parameter:
        """The weight of the encoder's last layer, at which the alignment loss is balanced (VA-VAE: conv_out)."""
        return last_encoder_layer(self.encoder)

    @property
    def last_decoder_layer(self) -> nn.Parameter:
        """The weight of the decoder's last layer, at which the adversarial loss is balanced (VA-VAE: conv_out).

        Raises ValueError for a model without pixels.
        """
        self._check_pixels()
        return last_decoder_layer(self.decoder)

    def posterior(self, x_B3HW: Tensor) -> DiagonalGaussian:
        """The posterior over the latent, (B, d, h, w). Raises ValueError for an input that does not fit, by name."""
        self._check_image(x_B3HW)
        return DiagonalGaussian(self.encoder(x_B3HW))

    def encode(
        self,
        x_B3HW: Tensor,
        sample: bool = False,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The latent z (B, d, h, w): the posterior's MEAN by default, a sample with `sample=True`.

        (The TransVAE README does not say which of the two `encode` returns; the mean is repeatable.)
        """
        posterior = self.posterior(x_B3HW)
        return posterior.sample(noise, generator) if sample else posterior.mode()

    def decode(self, z_Bdhw: Tensor) -> Tensor:
        """(B, d, h, w) -> images (B, 3, H, W) in about [-1, 1], not clamped.

        Raises ValueError for other shapes, and for a model without pixels (s-vae).
        """
        self._check_latent(z_Bdhw)
        self._check_pixels()
        image: Tensor = self.decoder(z_Bdhw)
        return image

    def semantics(self, z_Bdhw: Tensor) -> Tensor:
        """(B, d, h, w) -> the vision network's features (B, C, h, w), as s-vae and ps-vae answer them.

        Raises ValueError for other shapes, and for a model without a semantic decoder.
        """
        self._check_latent(z_Bdhw)
        if not isinstance(self.decoder, Decoder) or self.decoder.semantic is None:
            raise ValueError(f"{self.config.name} decodes latents to pixels, not to features; s-vae and ps-vae do")
        features: Tensor = self.decoder.semantic(z_Bdhw)
        return features

    def answers(self, z_Bdhw: Tensor) -> list[Tensor]:
        """All that the model decodes a latent to: images, features or both. For counting what it costs."""
        images = [self.decode(z_Bdhw)] if self.config.has_pixels else []
        return [*images, *([self.semantics(z_Bdhw)] if self.config.has_semantics else [])]

    def forward(
        self, x_B3HW: Tensor, noise: Tensor | None = None, sample: bool | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(reconstruction (B, 3, H, W), mu (B, d, h, w), logvar (B, d, h, w)); mu and logvar in fp32.

        The reconstruction is decoded from a sample in training mode and from the mean in eval mode; `sample` overrides
        that. `noise` (B, d, h, w), standard normal, makes the sample repeatable across ranks and restarts.
        """
        posterior = self.posterior(x_B3HW)
        sampled = self.training if sample is None else sample
        z_Bdhw = posterior.sample(noise) if sampled else posterior.mode()
        return self.decode(z_Bdhw), posterior.mean, posterior.logvar

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Recomputes each block's activations in the backward pass: less memory, about a third more compute."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.checkpointing = enabled
            elif isinstance(module, Trunk):
                module.checkpoint(enabled)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and README.md (a model card) into `folder`, made if missing."""
        storage.save(Path(folder), self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls, source: str | Path, device: torch.device | str = "cpu") -> Self:
        """Loads what `save_pretrained` wrote, in eval mode: from a local folder, or from a Hugging Face hub id.

        Raises FileNotFoundError where neither can be reached, naming both, and ValueError for a file that does not fit.
        """
        folder = storage.locate(source)
        model = cls.from_config(storage.load_config(folder), device="meta")
        storage.load_weights(folder, model, device)
        return model.eval()

    def _check_pixels(self) -> None:
        if not self.config.has_pixels:
            raise ValueError(
                f"{self.config.name} has no pixels: it decodes latents to features (semantics); a ps-vae of the same "
                f"size begins from its weights and decodes to images"
            )

    def _check_latent(self, z_Bdhw: Tensor) -> None:
        if z_Bdhw.ndim != 4 or z_Bdhw.shape[1] != self.config.latent_dim:
            raise ValueError(
                f"{self.config.name}: a latent has shape (B, {self.config.latent_dim}, h, w), not {tuple(z_Bdhw.shape)}"
            )

    def _check_image(self, x_B3HW: Tensor) -> None:
        name, f = self.config.name, self.config.compression
        if x_B3HW.ndim != 4 or x_B3HW.shape[1] != 3:
            raise ValueError(f"{name}: images have shape (B, 3, H, W), not {tuple(x_B3HW.shape)}")
        if not x_B3HW.is_floating_point():
            raise ValueError(f"{name}: images are floating point in [-1, 1], not {x_B3HW.dtype}; scale them first")
        for side, size in (("height", x_B3HW.shape[2]), ("width", x_B3HW.shape[3])):
            if size == 0 or size % f:
                below, above = size // f * f, (size // f + 1) * f
                fitting = f"{below} or pad it to {above}" if below else f"at least {above}"
                raise ValueError(
                    f"{name}: {side} {size} is not divisible by the compression {f}; crop or resize it to {fitting}"
                )
