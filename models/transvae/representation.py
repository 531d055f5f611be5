"""Layouts of autoencoders on a frozen vision network: S-VAE, PS-VAE and RAE. Does not import torch.

S-VAE keeps the network frozen and compresses its features to a latent from which they are regressed; PS-VAE trains the
network on, with a decoder to pixels beside (arXiv 2512.17909, and the guide that this project follows: called "guide"
below). RAE takes the features themselves as the latent, with a decoder to pixels and no KL (arXiv 2510.11690).

What the guide leaves open has a key here, with the source of its default. What belongs to the loss: losses/semantic.py.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from transvae.checks import check_types, choice, require


class MicroViT(NamedTuple):
    """A vision transformer of this project's own, for two CPU cores: nobody publishes weights of it."""

    depth: int
    width: int
    patch: int


# The sizes of the micro ladder of ViT-VAE; all numbers are assumptions of this project.
MICRO_SIZES = {"T": (2, 32), "B": (3, 48), "L": (6, 64), "H": (6, 96), "G": (6, 144)}
MICRO_NETWORKS = {
    f"vit_micro_{size}_patch{patch}": MicroViT(depth, width, patch)
    for patch in (4, 8)
    for size, (depth, width) in MICRO_SIZES.items()
}
DINOV2 = {"T": "small", "B": "base", "L": "large", "G": "giant"}
"""DINOv2's four sizes by ours."""
NETWORKS = {
    **{f"vit_{DINOV2[size]}_patch14_dinov2.lvd142m": c for size, c in zip("TBLG", (384, 768, 1024, 1536), strict=True)},
    **{
        f"vit_{DINOV2[size]}_patch14_reg4_dinov2.lvd142m": c
        for size, c in zip("TBLG", (384, 768, 1024, 1536), strict=True)
    },
    # SigLIP2 without its pooling head, which nothing here reads
    "vit_base_patch16_siglip_gap_256.v2_webli": 768,
    "vit_large_patch16_siglip_gap_256.v2_webli": 1024,
    "vit_so400m_patch16_siglip_gap_256.v2_webli": 1152,
    "vit_giantopt_patch16_siglip_gap_256.v2_webli": 1536,
    **{name: network.width for name, network in MICRO_NETWORKS.items()},
}
"""Frozen networks by timm's name, with their channels; micro networks are this project's."""
RESIZES = ("bicubic", "bilinear")
NORMALISATIONS = ("network", "none")


def dinov2(size: str) -> str:
    """timm's name of DINOv2 at one of our sizes."""
    return f"vit_{DINOV2[size]}_patch14_dinov2.lvd142m"


@dataclass(frozen=True, kw_only=True)
class RepresentationEncoder:
    """A vision transformer that sees the image resized to one of its patches per latent position.

    DINOv2 has patches of 14: a 256-pixel image becomes 224 pixels for the 16x16 grid of f = 16 (the guide does not say
    how 256 pixels and patches of 14 meet; RAE and VA-VAE do this). SigLIP2 has patches of 16 and sees the image itself.
    """

    network: str
    """One of NETWORKS. The guide's is DINOv2-L; the paper has DINOv2 and SigLIP2."""
    cell: int = 16
    """Image pixels per latent position: the compression f."""
    resize: str = "bicubic"
    """The guide does not say; "bicubic" as RAE, "bilinear" as VA-VAE."""
    normalise: str = "network"
    """The guide does not say; "network": by the mean and deviation that it was published with, as RAE; "none": as
    VA-VAE, the image in [-1, 1] itself."""

    def __post_init__(self) -> None:
        check_types(self)
        check_network(self.network)
        require(self.cell >= 1, f"cell={self.cell} must be positive")
        choice("resize", self.resize, RESIZES)
        choice("normalise", self.normalise, NORMALISATIONS)

    @property
    def channels(self) -> int:
        """Of the features."""
        return NETWORKS[self.network]

    @property
    def compression(self) -> int:
        return self.cell


@dataclass(frozen=True, kw_only=True)
class SVAEEncoder(RepresentationEncoder):
    """The frozen network and a trained projector to the posterior's moments."""

    family: ClassVar[str] = "s-vae"
    hidden: tuple[int, ...] = (512, 256)
    """Widths of the projector between the features and the moments (guide)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_widths("hidden", self.hidden)


@dataclass(frozen=True, kw_only=True)
class PSVAEEncoder(SVAEEncoder):
    """The same, with the network trained (in the first of two phases it is frozen, too)."""

    family: ClassVar[str] = "ps-vae"


@dataclass(frozen=True, kw_only=True)
class RAEEncoder(RepresentationEncoder):
    """The frozen network alone: its features are the latent."""

    family: ClassVar[str] = "rae"


@dataclass(frozen=True, kw_only=True)
class SVAEDecoder:
    """From latents to the features of the frozen network, position by position."""

    family: ClassVar[str] = "s-vae"
    network: str
    cell: int = 16
    semantic: tuple[int, ...] = (256, 512)
    """Widths between the latent and the features (guide)."""
    residual: int = 2
    """Residual blocks at the features' width (guide)."""

    def __post_init__(self) -> None:
        check_types(self)
        check_network(self.network)
        check_widths("semantic", self.semantic)
        require(self.residual >= 0, f"residual={self.residual} must not be negative")

    @property
    def channels(self) -> int:
        """Of the features."""
        return NETWORKS[self.network]

    @property
    def compression(self) -> int:
        return self.cell


@dataclass(frozen=True, kw_only=True)
class PSVAEDecoder(SVAEDecoder):
    """The semantic decoder, and beside it one to pixels: ResBlocks and a doubling per level."""

    family: ClassVar[str] = "ps-vae"
    widths: tuple[int, ...] = (512, 512, 256, 128)
    """Of the levels, from the latent up (guide): each doubles the resolution, so there are log2 f of them."""
    blocks: int = 2
    """ResBlocks per level (guide)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_levels(self.widths, self.blocks, self.cell)


@dataclass(frozen=True, kw_only=True)
class RAEDecoder:
    """PS-VAE's decoder to pixels (RAE's own is a ViT; the same one makes the three comparable)."""

    family: ClassVar[str] = "rae"
    cell: int = 16
    widths: tuple[int, ...] = (512, 512, 256, 128)
    blocks: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        check_levels(self.widths, self.blocks, self.cell)

    @property
    def compression(self) -> int:
        return self.cell


def check_network(name: str) -> None:
    """Raises ValueError for a name that is none of NETWORKS."""
    require(name in NETWORKS, f"network={name!r} is not known; choose one of {', '.join(NETWORKS)}")


def check_widths(key: str, widths: tuple[int, ...]) -> None:
    """Raises ValueError for widths that are not positive, or none."""
    require(len(widths) >= 1 and min(widths) >= 1, f"{key}={widths} must be positive widths, at least one")


def check_levels(widths: tuple[int, ...], blocks: int, cell: int) -> None:
    """Raises ValueError for levels that do not double a latent up to the image."""
    check_widths("widths", widths)
    require(blocks >= 1, f"blocks={blocks} must be positive")
    require(
        2 ** len(widths) == cell, f"{len(widths)} levels {widths} enlarge by {2 ** len(widths)}, not by cell={cell}"
    )
