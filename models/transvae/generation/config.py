"""The layouts of LightningDiT, by name: `lightning_dit-B/1` is size B with patches of one latent position."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DiTLayout:
    """Depth, width and heads of one size."""

    depth: int
    width: int
    heads: int


LAYOUTS = {
    # LightningDiT, models/lightningdit.py
    "B": DiTLayout(12, 768, 12),
    "L": DiTLayout(24, 1024, 16),
    "XL": DiTLayout(28, 1152, 16),
    "1p0B": DiTLayout(24, 1536, 24),
    "1p6B": DiTLayout(28, 1792, 28),
    # a ladder for laptop-sized machines (assumption), heads of 32 channels
    "micro-S": DiTLayout(4, 96, 3),
    "micro-B": DiTLayout(6, 160, 5),
    "micro-L": DiTLayout(8, 256, 8),
}
FAMILY = "lightning_dit-"


@dataclass(frozen=True)
class DiTConfig:
    """Everything that decides the shape of a network.

    Raises ValueError where the parts do not fit: a patch that does not divide the latent, a width without whole heads.
    """

    depth: int
    width: int
    heads: int
    patch: int
    """Latent positions per side of a token."""
    latent_dim: int
    latent_size: int
    """Height and width of the latent in positions."""
    classes: int = 1000
    """Labels are 0 to classes - 1; `classes` itself is the null label."""
    qk_norm: bool = False
    """RMSNorm of queries and keys per head, before the rotation (LightningDiT's `use_qknorm`, off by default)."""

    def __post_init__(self) -> None:
        if self.latent_size % self.patch:
            raise ValueError(f"patches of {self.patch} do not divide a latent of {self.latent_size} positions per side")
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width} into multiples of 4 channels")
        if self.classes < 1:
            raise ValueError(f"classes: at least one label is needed, not {self.classes}")

    @property
    def grid(self) -> int:
        """Tokens per side."""
        return self.latent_size // self.patch

    @property
    def hidden(self) -> int:
        """Width of the SwiGLU: two thirds of four times the width (LightningDiT)."""
        return int(2 / 3 * 4 * self.width)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def dit_config(name: str, latent_dim: int, latent_size: int, **switches: Any) -> DiTConfig:
    """The configuration of `lightning_dit-SIZE/PATCH` for latents (latent_dim, latent_size, latent_size).

    Raises ValueError for an unknown name, with those that exist, or parts that do not fit.
    """
    layout, patch = parse(name, FAMILY)
    return DiTConfig(layout.depth, layout.width, layout.heads, patch, latent_dim, latent_size, **switches)


def parse(name: str, family: str) -> tuple[DiTLayout, int]:
    """Layout and patch of `<family>SIZE/PATCH`. Raises ValueError for an unknown name, with those that exist."""
    size, slash, patch = name.removeprefix(family).partition("/")
    if not name.startswith(family) or size not in LAYOUTS or not slash or not patch.isdigit() or int(patch) < 1:
        known = ", ".join(f"{family}{size}/1" for size in LAYOUTS)
        raise ValueError(f"{name!r} is no DiT - the sizes, with any patch: {known}")
    return LAYOUTS[size], int(patch)
