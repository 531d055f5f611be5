"""The size tables: every ladder of models as data, each beside the table it comes from. Does not import torch.

A ladder is one family at one compression; its rungs are the sizes. A size missing here does not exist: look it up in
the named table before adding it.
"""

from dataclasses import dataclass, replace

from transvae.config import CNNLayout, Layout, SwinLayout, TransVAELayout, ViTLayout
from transvae.representation import (
    DINOV2,
    NETWORKS,
    PSVAEDecoder,
    PSVAEEncoder,
    RAEDecoder,
    RAEEncoder,
    SVAEDecoder,
    SVAEEncoder,
    dinov2,
)

FAMILIES = ("transvae", "cnn", "vit", "swin")
"""The families of the TransVAE paper; their sides may be mixed."""
REPRESENTATIONS = ("s-vae", "ps-vae", "rae")
"""The families on a frozen vision network."""
SIZES = ("T", "B", "L", "H", "G")
WORDS = {"T": "tiny", "B": "base", "L": "large", "H": "huge", "G": "giant"}

Rung = tuple[Layout, Layout]  # encoder, decoder


@dataclass(frozen=True)
class Ladder:
    """One family at one compression: its sizes, and what they share. Names are `<prefix>-<size>/<latent>`."""

    prefix: str  # the family, with "-micro" behind it on the micro ladders
    latent_dim: int
    compression: int
    resolution: int  # training resolution in pixels
    posterior_init: str
    source: str
    rungs: dict[str, Rung]

    @property
    def latent(self) -> str:
        return f"f{self.compression}d{self.latent_dim}"

    def name(self, size: str) -> str:
        return f"{self.prefix}-{size}/{self.latent}"


def _both(layouts: dict[str, Layout]) -> dict[str, Rung]:
    return {size: (layout, layout) for size, layout in layouts.items()}


def _paper(family: str, source: str, rungs: dict[str, Rung], latent_dim: int = 32, compression: int = 16) -> Ladder:
    return Ladder(family, latent_dim, compression, 256, "standard", source, rungs)


# ---- Paper: TransVAE, table 3. Giant is printed with depth [3,3,4,8,10], which has 2.51B parameters against the
# printed 2.3B; [3,3,4,8,9] has 2.31B and is the only change of one digit that fits, so it is G. The printed depth
# stays available as giant_printed.
TRANSVAE_F16 = _both(
    {
        "T": TransVAELayout(widths=(128, 128, 256, 256, 512), depths=(3, 3, 3, 3, 3)),
        "B": TransVAELayout(widths=(128, 128, 256, 512, 1024), depths=(3, 3, 3, 3, 3)),
        "L": TransVAELayout(widths=(192, 192, 384, 768, 1536), depths=(3, 3, 3, 4, 6)),
        "H": TransVAELayout(widths=(256, 256, 512, 1024, 2048), depths=(3, 3, 4, 6, 8)),
        "G": TransVAELayout(widths=(320, 320, 640, 1280, 2560), depths=(3, 3, 4, 8, 9)),
        "giant_printed": TransVAELayout(widths=(320, 320, 640, 1280, 2560), depths=(3, 3, 4, 8, 10)),
    }
)
TRANSVAE_F8 = _both({"L": TransVAELayout(widths=(192, 384, 768, 1536), depths=(3, 3, 6, 8))})


# ---- Paper: CNN, table 4. Base channels times (1, 1, 2, 2, 4). Two ResBlocks per encoder stage and three per decoder
# stage; the printed parameters of Large are those of three encoder ResBlocks (332M; two give 254M).
def _cnn(base: int, multipliers: tuple[int, ...], encoder_blocks: int, decoder_blocks: int) -> Rung:
    encoder = CNNLayout(widths=tuple(base * m for m in multipliers), blocks=encoder_blocks)
    return encoder, replace(encoder, blocks=decoder_blocks)


CNN_F16 = {
    size: _cnn(base, (1, 1, 2, 2, 4), encoder_blocks, 3)
    for size, base, encoder_blocks in (("T", 128, 2), ("B", 192, 2), ("L", 384, 3), ("H", 512, 2), ("G", 768, 2))
}

# ---- Paper: ViT, table 5.
VIT_F16 = _both(
    {
        "T": ViTLayout(depth=8, width=512),
        "B": ViTLayout(depth=12, width=768),
        "L": ViTLayout(depth=24, width=1024),
        "H": ViTLayout(depth=24, width=1536),
        "G": ViTLayout(depth=24, width=2048),
    }
)

# ---- Paper: Swin, table 6. The parameters printed for Base repeat the CNN row; its configuration has 106M.
SWIN_F16 = _both(
    {
        "T": SwinLayout(widths=(96, 192, 384, 768), depths=(3, 3, 3, 3)),
        "B": SwinLayout(widths=(128, 256, 512, 1024), depths=(3, 3, 3, 3)),
        "L": SwinLayout(widths=(256, 512, 1024, 2048), depths=(3, 3, 4, 6)),
        "H": SwinLayout(widths=(320, 640, 1280, 2560), depths=(3, 4, 6, 8)),
        "G": SwinLayout(widths=(384, 768, 1536, 3072), depths=(3, 4, 6, 8)),
    }
)


# ---- Micro ladders: the same builders at 32x32 pixels, small enough to train on two CPU cores. All numbers are
# assumptions of this project; the f8 ladder keeps the 24x compression of f16d32, the f4 ladder the 12x of f8d16.
def _micro_transvae(c: int, multipliers: tuple[int, ...], depths: tuple[int, ...], head_dim: int) -> TransVAELayout:
    # One or two convolution stages, so that two attention stages remain.
    widths = tuple(c * m for m in multipliers)
    return TransVAELayout(widths=widths, depths=depths, res_stages=len(widths) - 2, head_dim=head_dim)


def _micro_vit(depth: int, width: int, patch: int) -> Rung:
    encoder = ViTLayout(depth=depth, width=width, patch=patch, head_dim=16)
    return encoder, replace(encoder, patching="linear")


def _micro_swin(c: int, stages: int) -> SwinLayout:
    # Heads 2, 4, 8, so the head dimension is half the first width; window 4 because the deepest map is 4x4 or 8x8.
    widths = tuple(c * 2**stage for stage in range(stages))
    return SwinLayout(widths=widths, depths=(2,) * stages, window=4, head_dim=c // 2)


MICRO_TRANSVAE_F8 = _both(
    {
        "T": _micro_transvae(8, (1, 1, 2, 4), (1, 1, 1, 1), 16),
        "B": _micro_transvae(16, (1, 1, 2, 4), (1, 1, 1, 1), 16),
        "L": _micro_transvae(24, (1, 1, 2, 4), (1, 1, 1, 2), 16),
        "H": _micro_transvae(32, (1, 1, 2, 4), (1, 1, 2, 2), 16),
        "G": _micro_transvae(40, (1, 1, 2, 4), (1, 1, 2, 3), 16),
    }
)
MICRO_CNN_F8 = {size: _cnn(base, (1, 1, 2, 4), 1, 2) for size, base in zip(SIZES, (4, 8, 16, 24, 32), strict=True)}
MICRO_VIT_F8 = {
    size: _micro_vit(depth, width, 8)
    for size, depth, width in zip(SIZES, (2, 3, 6, 6, 6), (32, 48, 64, 96, 144), strict=True)
}
MICRO_SWIN_F8 = _both({size: _micro_swin(c, 3) for size, c in zip(SIZES, (8, 12, 24, 36, 52), strict=True)})

# The f4 rungs lie about a factor 2.5 apart. Few heads: the softmax costs the same for every head, and at 16x16 tokens
# with small heads it takes longer than all convolutions.
MICRO_TRANSVAE_F4 = _both(
    {
        "T": _micro_transvae(8, (1, 2, 4), (1, 1, 1), 16),
        "B": _micro_transvae(12, (1, 2, 4), (1, 1, 1), 24),
        "L": _micro_transvae(16, (1, 2, 4), (1, 1, 2), 16),
        "H": _micro_transvae(24, (1, 2, 4), (1, 2, 2), 24),
        "G": _micro_transvae(32, (1, 2, 4), (1, 2, 4), 32),
    }
)
# Starts at 8 channels: 4 do not train (measured: 16 dB against 21 dB), so this ladder begins higher than the others.
MICRO_CNN_F4 = {size: _cnn(base, (1, 2, 4), 1, 2) for size, base in zip(SIZES, (8, 12, 16, 20, 28), strict=True)}
MICRO_VIT_F4 = {
    size: _micro_vit(depth, width, 4)
    for size, depth, width in zip(SIZES, (2, 2, 3, 4, 6), (32, 48, 64, 96, 128), strict=True)
}
MICRO_SWIN_F4 = _both({size: _micro_swin(c, 2) for size, c in zip(SIZES, (16, 24, 36, 56, 92), strict=True)})


def _micro(family: str, latent_dim: int, compression: int, rungs: dict[str, Rung]) -> Ladder:
    return Ladder(f"{family}-micro", latent_dim, compression, 32, "narrow", "assumption of this project", rungs)


# ---- On a frozen network: the size is that of the network. Projector, semantic and pixel decoder are the guide's at
# every size; the micro ladders scale them down (assumption): 16 latent channels, pixel widths in the guide's proportion
# (4, 4, 2, 1) without the levels that a smaller f lacks.
MICRO_PIXELS = {"T": 8, "B": 12, "L": 16, "H": 24, "G": 32}


def _s_vae(network: str) -> Rung:
    return SVAEEncoder(network=network), SVAEDecoder(network=network)


def _ps_vae(network: str) -> Rung:
    return PSVAEEncoder(network=network), PSVAEDecoder(network=network)


def _micro_representations(cell: int) -> tuple[Ladder, ...]:
    levels = (4, 2, 1)[-(cell.bit_length() - 1) :]
    s_vae: dict[str, Rung] = {}
    ps_vae: dict[str, Rung] = {}
    raes = []
    for size, c in MICRO_PIXELS.items():
        network, widths = f"vit_micro_{size}_patch{cell}", tuple(c * m for m in levels)
        encoder = SVAEEncoder(network=network, cell=cell, hidden=(64, 32))
        s_vae[size] = (encoder, SVAEDecoder(network=network, cell=cell, semantic=(32, 64)))
        ps_vae[size] = (
            PSVAEEncoder(network=network, cell=cell, hidden=(64, 32)),
            PSVAEDecoder(network=network, cell=cell, semantic=(32, 64), widths=widths),
        )
        rae: Rung = (RAEEncoder(network=network, cell=cell), RAEDecoder(cell=cell, widths=widths))
        raes.append(_micro("rae", encoder.channels, cell, {size: rae}))
    return _micro("s-vae", 16, cell, s_vae), _micro("ps-vae", 16, cell, ps_vae), *raes


def _representations() -> tuple[Ladder, ...]:
    s_vae: dict[str, Rung] = {size: _s_vae(dinov2(size)) for size in DINOV2}
    ps_vae: dict[str, Rung] = {size: _ps_vae(dinov2(size)) for size in DINOV2}
    guide = "PS-VAE guide, at the sizes of DINOv2 (it has L alone)"
    raes = [
        Ladder(
            "rae", NETWORKS[dinov2(size)], 16, 256, "standard", "RAE, arXiv 2510.11690, with PS-VAE's pixel decoder",
            {size: (RAEEncoder(network=dinov2(size)), RAEDecoder())},
        )
        for size in DINOV2
    ]  # fmt: skip
    return (
        Ladder("s-vae", 96, 16, 256, "standard", guide, s_vae),
        Ladder("ps-vae", 96, 16, 256, "standard", guide, ps_vae),
        *raes,
    )


LADDERS = (
    _paper("transvae", "TransVAE paper, table 3", TRANSVAE_F16),
    _paper("cnn", "TransVAE paper, table 4", CNN_F16),
    _paper("vit", "TransVAE paper, table 5", VIT_F16),
    _paper("swin", "TransVAE paper, table 6", SWIN_F16),
    _paper("transvae", "TransVAE paper, table 3", TRANSVAE_F8, latent_dim=16, compression=8),
    _micro("transvae", 8, 8, MICRO_TRANSVAE_F8),
    _micro("cnn", 8, 8, MICRO_CNN_F8),
    _micro("vit", 8, 8, MICRO_VIT_F8),
    _micro("swin", 8, 8, MICRO_SWIN_F8),
    _micro("transvae", 4, 4, MICRO_TRANSVAE_F4),
    _micro("cnn", 4, 4, MICRO_CNN_F4),
    _micro("vit", 4, 4, MICRO_VIT_F4),
    _micro("swin", 4, 4, MICRO_SWIN_F4),
    *_representations(),
    *_micro_representations(8),
    *_micro_representations(4),
)
