"""The layouts of text-to-image DiTs, by name: `text_dit-XL/1` is the guide's (width 1152, depth 28, 16 heads).

"guide" is the PS-VAE guide with its companion configuration. Where it leaves a choice open there is a key. Its
`learn_sigma: true` beside a plain squared error has none: nothing would train those channels, and DDIM at sigma 0 reads
no variance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from transvae.generation.config import DiTConfig, parse

FAMILY = "text_dit-"
BLOCKS = ("guide", "lightning")
MODULATIONS = ("zero", "plain")


@dataclass(frozen=True)
class TextDiTConfig:
    """Everything that decides the shape of a network. Raises ValueError where the parts do not fit."""

    depth: int
    width: int
    heads: int
    patch: int
    latent_dim: int
    latent_size: int
    text_dim: int
    """E of the text encoder."""
    blocks: str = "guide"
    """"guide": LayerNorm, GELU, learned positions; "lightning": LightningDiT's RMSNorm, SwiGLU, rotation, sin-cos."""
    modulation: str = "zero"
    """"zero": shift, scale and gate, zero at first (DiT; the guide's gated residual); "plain": shift and scale alone
    (the guide's formula gamma LN(x) + beta)."""
    editing: bool = False
    """Whether the latent of a source image comes in beside the noisy one (InstructPix2Pix)."""

    def __post_init__(self) -> None:
        self.as_dit()
        if self.text_dim < 1:
            raise ValueError(f"text_dim={self.text_dim} must be positive: the channels of the text encoder")
        for key, allowed in (("blocks", BLOCKS), ("modulation", MODULATIONS)):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key}={getattr(self, key)!r} does not exist; choose one of {', '.join(allowed)}")

    def as_dit(self) -> DiTConfig:
        """What it shares with a DiT of classes."""
        return DiTConfig(self.depth, self.width, self.heads, self.patch, self.latent_dim, self.latent_size)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def text_dit_config(name: str, latent_dim: int, latent_size: int, text_dim: int, **switches: Any) -> TextDiTConfig:
    """The configuration of `text_dit-SIZE/PATCH` for latents (latent_dim, latent_size, latent_size).

    Raises ValueError for an unknown name, with those that exist, or parts that do not fit.
    """
    layout, patch = parse(name, FAMILY)
    return TextDiTConfig(layout.depth, layout.width, layout.heads, patch, latent_dim, latent_size, text_dim, **switches)
