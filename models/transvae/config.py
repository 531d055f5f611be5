"""What an autoencoder is, as frozen values: one layout per side, joined by the latent.

A layout describes ONE side (encoder or decoder) of one family. Only the latent ties the two sides together (its
channels `latent_dim` and the compression f), so any encoder may meet any decoder of the same f.

Everything is checked when the value is built: a combination that cannot exist raises ValueError, never a crash in
the middle of a forward pass. This file does not import torch.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar

from transvae.checks import check_types, choice, require
from transvae.representation import (
    PSVAEDecoder,
    PSVAEEncoder,
    RAEDecoder,
    RAEEncoder,
    RepresentationEncoder,
    SVAEDecoder,
    SVAEEncoder,
)

POSITIONS = ("rope", "learned", "none")  # TransVAE paper, section 3.2.1
FFNS = ("standard", "dwconv", "fullconv")  # TransVAE paper, section 3.3.1
NORMS = ("rms", "layer")  # TransVAE paper, section 3.3.2
PATCHINGS = ("patch", "linear", "seqconv")  # TransVAE paper, section 3.2.2; "linear" see ViTLayout
FFN_RATIOS = {"standard": 4.0, "dwconv": 4.0, "fullconv": 1.0}  # paper, section 3.3.1 and appendix C

# The log-variance every posterior starts from. "standard" is the usual unit noise. "narrow" starts with almost no
# noise: with a KL weight of 1e-8 nothing else quiets the noise of a small model, and in runs of a few hundred steps
# the noise drowns the means (measured on 32x32 photographs: 14.9 dB against 18.5 dB for the smallest TransVAE).
POSTERIOR_INITS = {"standard": 0.0, "narrow": -8.0}


def _check_transformer(width: int, head_dim: int, position: str, ffn: str, ffn_ratio: float, norm: str) -> None:
    """The rules that TransVAE's attention stages and the ViT share."""
    choice("position", position, POSITIONS)
    choice("ffn", ffn, FFNS)
    choice("norm", norm, NORMS)
    require(width % head_dim == 0, f"width {width} is not a multiple of the head dimension {head_dim}")
    require(
        position != "rope" or head_dim % 4 == 0,
        f"position='rope' rotates y and x pairs and needs a head dimension divisible by 4, not {head_dim}",
    )
    hidden = width * ffn_ratio
    require(
        ffn_ratio > 0 and hidden == int(hidden),
        f"ffn_ratio={ffn_ratio} gives width {width} a hidden width of {hidden}, which is not a positive whole number",
    )


def _check_stages(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    require(len(widths) >= 1, "a layout needs at least one stage")
    require(len(widths) == len(depths), f"{len(widths)} widths {widths} but {len(depths)} depths {depths}")
    require(min(*widths, *depths) >= 1, f"widths {widths} and depths {depths} must be positive")


@dataclass(frozen=True, kw_only=True)
class TransVAELayout:
    """Convolution stages at high resolution, then attention stages (TransVAE paper, section 3.2 and table 3).

    The first stage runs at the image's resolution, each later one at half the previous; f = 2^(stages - 1).
    """

    family: ClassVar[str] = "transvae"
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    res_stages: int = 2  # section 3.2.2: two convolution stages, pinned by the parameter counts of table 3
    head_dim: int = 64  # appendix B
    position: str = "rope"
    ffn: str = "fullconv"
    ffn_ratio: float = 1.0  # appendix B
    norm: str = "rms"
    qk_norm: bool = True
    dc_path: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        _check_stages(self.widths, self.depths)
        stages = len(self.widths)
        require(0 <= self.res_stages <= stages, f"res_stages={self.res_stages} of {stages} stages")
        for width in self.widths[self.res_stages :]:
            _check_transformer(width, self.head_dim, self.position, self.ffn, self.ffn_ratio, self.norm)
        require(
            self.position != "learned" or self.res_stages < stages,
            f"position='learned' has no attention stage to act on: res_stages={self.res_stages} of {stages}",
        )
        if self.dc_path:
            for a, b in pairwise(self.widths):
                require(
                    4 * a % b == 0 and 4 * a >= b and 4 * b % a == 0,
                    f"dc_path=True cannot average {a} channels into {b} and duplicate them back; "
                    f"neighbouring widths need 4a % b == 0 and 4b % a == 0, or dc_path=False",
                )

    @property
    def compression(self) -> int:
        return int(2 ** (len(self.widths) - 1))


@dataclass(frozen=True, kw_only=True)
class CNNLayout:
    """The LDM/VQGAN autoencoder (TransVAE paper, table 4; CompVis latent-diffusion, AutoencoderKL)."""

    family: ClassVar[str] = "cnn"
    widths: tuple[int, ...]
    blocks: int  # ResBlocks per stage: 2 in the encoder and 3 in the decoder, except where table 4 counts otherwise
    stage_attention: bool = True
    mid_attention: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        _check_stages(self.widths, (self.blocks,) * len(self.widths))

    @property
    def compression(self) -> int:
        return int(2 ** (len(self.widths) - 1))


@dataclass(frozen=True, kw_only=True)
class ViTLayout:
    """A plain pre-norm ViT at one resolution (TransVAE paper, table 5).

    `patching` is the stem in the encoder and the pixel head in the decoder: "patch" is one strided convolution, or
    PixelShuffle and a 3x3 convolution; "seqconv" is a chain of overlapping convolutions (section 3.2.2). "linear"
    exists for the decoder only: a 1x1 convolution to 3 x patch^2 channels, then PixelShuffle, for widths that are
    not multiples of patch^2 (the micro ladder).
    """

    family: ClassVar[str] = "vit"
    width: int
    depth: int
    patch: int = 16
    head_dim: int = 64  # table 5: heads = width / 64
    position: str = "rope"
    ffn: str = "standard"
    ffn_ratio: float = 4.0  # appendix C
    norm: str = "layer"
    qk_norm: bool = True
    patching: str = "patch"

    def __post_init__(self) -> None:
        check_types(self)
        require(self.width >= 1 and self.depth >= 1, f"width {self.width} and depth {self.depth} must be positive")
        require(
            self.patch >= 2 and self.patch & (self.patch - 1) == 0, f"patch={self.patch} must be a power of two >= 2"
        )
        _check_transformer(self.width, self.head_dim, self.position, self.ffn, self.ffn_ratio, self.norm)
        choice("patching", self.patching, PATCHINGS)
        halvings = self.patch.bit_length() - 1
        require(
            self.patching != "seqconv" or self.width % 2 ** (halvings - 1) == 0,
            f"seqconv halves the width {halvings - 1} times; {self.width} is not a multiple of {2 ** (halvings - 1)}",
        )

    @property
    def compression(self) -> int:
        return self.patch


@dataclass(frozen=True, kw_only=True)
class SwinLayout:
    """Shifted-window attention in every stage (TransVAE paper, table 6); f = patch x 2^(stages - 1)."""

    family: ClassVar[str] = "swin"
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    patch: int = 2  # appendix C
    window: int = 8  # assumption: not stated in the paper; 8 divides every 256x256 stage
    head_dim: int = 32  # table 6: heads = width / 32
    ffn_ratio: float = 4.0  # pinned by the counts of table 6

    def __post_init__(self) -> None:
        check_types(self)
        _check_stages(self.widths, self.depths)
        require(self.patch >= 1 and self.window >= 2, f"patch={self.patch} and window={self.window} are too small")
        for width in self.widths:
            _check_transformer(width, self.head_dim, "none", "standard", self.ffn_ratio, "layer")
        for a, b in pairwise(self.widths):
            require(b == 2 * a, f"patch merging doubles the width, but {b} follows {a} in {self.widths}")

    @property
    def compression(self) -> int:
        return int(self.patch * 2 ** (len(self.widths) - 1))


Symmetric = TransVAELayout | CNNLayout | ViTLayout | SwinLayout
"""Layouts of either side."""
Layout = Symmetric | SVAEEncoder | PSVAEEncoder | RAEEncoder | SVAEDecoder | PSVAEDecoder | RAEDecoder
_SYMMETRIC: tuple[type[Layout], ...] = (TransVAELayout, CNNLayout, ViTLayout, SwinLayout)
LAYOUTS: dict[str, dict[str, type[Layout]]] = {
    "encoder": {layout.family: layout for layout in (*_SYMMETRIC, SVAEEncoder, PSVAEEncoder, RAEEncoder)},
    "decoder": {layout.family: layout for layout in (*_SYMMETRIC, SVAEDecoder, PSVAEDecoder, RAEDecoder)},
}
"""The layouts of each side by their family."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """An encoder, a decoder and the latent between them.

    `resolution` is the training resolution in pixels; it sizes learned position grids and is the default of the
    accounting, and it does not restrict what the model accepts. `posterior_init` names the width the posterior starts
    with (POSTERIOR_INITS). Raises ValueError for a combination that cannot be built.
    """

    name: str
    encoder: Layout
    decoder: Layout
    latent_dim: int
    compression: int
    resolution: int = 256
    posterior_init: str = "standard"

    def __post_init__(self) -> None:
        check_types(self)
        for side, layout in (("encoder", self.encoder), ("decoder", self.decoder)):
            require(
                layout.compression == self.compression,
                f"{self.name}: the {layout.family} {side} compresses by {layout.compression}, "
                f"not by the model's {self.compression}",
            )
        require(self.latent_dim >= 1, f"{self.name}: latent_dim={self.latent_dim} must be positive")
        require(
            self.resolution > 0 and self.resolution % self.compression == 0,
            f"{self.name}: resolution={self.resolution} is not a multiple of the compression {self.compression}",
        )
        choice("posterior_init", self.posterior_init, tuple(POSTERIOR_INITS))
        if isinstance(self.encoder, ViTLayout):
            require(
                self.encoder.patching != "linear",
                f"{self.name}: patching='linear' is a decoder head; an encoder stem is 'patch' or 'seqconv'",
            )
        if isinstance(self.decoder, ViTLayout) and self.decoder.patching == "patch":
            pixels = self.decoder.patch**2
            require(
                self.decoder.width % pixels == 0,
                f"{self.name}: the pixel-shuffle head needs a width divisible by patch^2 = {pixels}, "
                f"not {self.decoder.width}; use head='linear' or head='seqconv'",
            )
        self._check_representation()

    def _check_representation(self) -> None:
        encoder, decoder = self.encoder, self.decoder
        if isinstance(encoder, RAEEncoder):
            require(
                self.latent_dim == encoder.channels,
                f"{self.name}: its latent is the features of {encoder.network}, so latent_dim is {encoder.channels}, "
                f"not {self.latent_dim}",
            )
        if isinstance(encoder, RepresentationEncoder) and isinstance(decoder, SVAEDecoder):
            require(
                encoder.network == decoder.network,
                f"{self.name}: the encoder begins as {encoder.network}, but the semantic decoder answers features of "
                f"{decoder.network}; both are the override network",
            )

    @property
    def has_pixels(self) -> bool:
        """Whether the decoder answers images; S-VAE's answers features alone."""
        return self.decoder.family != SVAEDecoder.family

    @property
    def has_semantics(self) -> bool:
        """Whether the decoder answers features of a frozen network, alone or beside images."""
        return isinstance(self.decoder, SVAEDecoder)

    @property
    def family(self) -> str:
        """The family of both sides, or 'transvae+cnn' where they differ."""
        sides = (self.encoder.family, self.decoder.family)
        return sides[0] if sides[0] == sides[1] else "+".join(sides)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; each side carries its family. Inverse: `from_dict`."""
        values = asdict(self)
        for side in ("encoder", "decoder"):
            layout: Layout = getattr(self, side)
            values[side] = {"family": layout.family, **_jsonable(asdict(layout))}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AutoencoderConfig":
        """Inverse of `to_dict`. Raises ValueError for a missing or unknown key, naming it."""
        sides = {side: _layout_from_dict(side, values.get(side)) for side in ("encoder", "decoder")}
        return cls(**_checked_keys(cls, "model", {**values, **sides}))


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _layout_from_dict(side: str, values: object) -> Layout:
    require(isinstance(values, Mapping), f"{side} must be a mapping with the key 'family', not {values!r}")
    assert isinstance(values, Mapping)
    rest = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    family = rest.pop("family", None)
    choice(f"{side}.family", family, tuple(LAYOUTS[side]))
    layout = LAYOUTS[side][str(family)]
    return layout(**_checked_keys(layout, side, rest))


def _checked_keys(cls: type, where: str, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(values) - set(known))
    require(not unknown, f"{where}: unknown keys {', '.join(unknown)}; the keys are {', '.join(known)}")
    missing = [key for key, f in known.items() if key not in values and f.default is MISSING]
    require(not missing, f"{where}: missing keys {', '.join(missing)}")
    return dict(values)
