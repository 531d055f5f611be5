"""Table 1 of the TransVAE paper, as printed: what our numbers stand beside. Nothing here was measured by us.

Each row: pixels, tokenizer, variant, then rFID, PSNR, LPIPS, SSIM on ImageNet val (50,000) and on COCO val2017 (5,000).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.evaluation.records import Record

SOURCE = "TransVAE paper, table 1"
PROTOCOL = "vavae"
"""The setting is not named in the paper; it says that it follows VA-VAE, whose row agrees with VA-VAE's own rFID."""
METRICS = ("rfid", "psnr", "lpips", "ssim")
SETS = ("ImageNet val", "COCO val")
KNOWN = {("imagenet", "validation", 50_000): "ImageNet val", ("coco", "validation", 5_000): "COCO val"}
"""Layout, split and number of images -> the paper's name of the set: other images have other numbers."""

OURS = {
    "transvae-T/f16d32": "TransVAE-T",
    "transvae-L/f16d32": "TransVAE-L",
    "transvae-L/f8d16": "TransVAE-L +",
}
"""Names of our configurations -> the paper's rows."""
TRAINED_ON = {"TransVAE-T": 110 * 1_281_167, "TransVAE-L": 110 * 1_281_167}
"""Images that their training saw (appendix D: 100 epochs of ImageNet, and 10 of the decoder); not said of f8d16."""
TRAINED_AT = 256
"""Pixels of the training of all of them (section 4.2)."""

Values = tuple[float, float, float | None, float]


@dataclass(frozen=True)
class PaperRow:
    """One printed row."""

    pixels: int
    title: str
    variant: str
    values: tuple[Values, Values]
    """On ImageNet val and on COCO val, in the order of METRICS."""
    doubt: str = ""
    """What is probably misprinted, and why."""

    def value(self, data: str, metric: str) -> float | None:
        """One printed cell."""
        return self.values[SETS.index(data)][METRICS.index(metric)]


_REPEATED = "repeats its row at 256 pixels but for one rFID (0.18)"
TABLE1 = (
    PaperRow(256, "SD3.5-VAE", "f8d16", ((0.19, 31.29, 0.060, 0.88), (1.67, 31.17, 0.056, 0.89))),
    PaperRow(256, "FLUX-VAE", "f8d16", ((0.18, 32.80, 0.044, 0.91), (1.35, 32.74, 0.042, 0.92))),
    PaperRow(256, "TransVAE-L +", "f8d16", ((0.68, 32.89, 0.042, 0.92), (2.68, 32.85, 0.039, 0.92))),
    PaperRow(256, "DeTok-BB-FT", "f16d16", ((0.54, 25.24, 0.137, 0.71), (3.94, 24.94, 0.135, 0.717))),
    PaperRow(256, "ViTok S-B/16", "f16d16", ((0.50, 24.36, None, 0.75), (3.94, 24.45, None, 0.76))),
    PaperRow(256, "ViTok S-L/16", "f16d16", ((0.56, 24.74, None, 0.76), (3.97, 24.82, None, 0.77))),
    PaperRow(
        256, "VA-VAE", "f16d32", ((0.28, 27.64, 0.098, 0.78), (2.72, 27.43, 0.094, 0.79)),
        "table 2c prints 27.96 / 0.096 / 0.79 for the same model",
    ),
    PaperRow(256, "TransVAE-T", "f16d32", ((0.40, 28.38, 0.091, 0.81), (3.06, 28.11, 0.089, 0.82))),
    PaperRow(256, "TransVAE-L", "f16d32", ((0.66, 28.92, 0.086, 0.82), (3.51, 28.69, 0.083, 0.83))),
    PaperRow(512, "SD3.5-VAE", "f8d16", ((0.11, 33.54, 0.060, 0.91), (0.93, 32.56, 0.063, 0.90))),
    PaperRow(512, "FLUX-VAE", "f8d16", ((0.05, 35.40, 0.042, 0.94), (0.58, 34.30, 0.045, 0.93))),
    PaperRow(512, "TransVAE-L +", "f8d16", ((0.09, 34.54, 0.053, 0.93), (0.85, 33.85, 0.053, 0.93))),
    PaperRow(512, "DeTok-BB-FT", "f16d16", ((3.43, 25.22, 0.262, 0.70), (10.50, 24.69, 0.254, 0.69))),
    PaperRow(512, "ViTok S-B/16", "f16d16", ((0.18, 24.36, None, 0.75), (3.94, 24.45, None, 0.76)), _REPEATED),
    PaperRow(512, "VA-VAE", "f16d32", ((0.24, 29.38, 0.119, 0.80), (2.40, 28.49, 0.120, 0.79))),
    PaperRow(512, "TransVAE-T", "f16d32", ((0.27, 29.66, 0.115, 0.82), (3.04, 27.63, 0.146, 0.79))),
    PaperRow(512, "TransVAE-L", "f16d32", ((0.32, 30.12, 0.110, 0.83), (2.27, 29.07, 0.113, 0.82))),
    PaperRow(1024, "SD3.5-VAE", "f8d16", ((0.03, 37.61, 0.034, 0.97), (0.31, 36.80, 0.038, 0.97))),
    PaperRow(1024, "FLUX-VAE", "f8d16", ((0.01, 39.84, 0.023, 0.98), (0.16, 39.13, 0.025, 0.98))),
    PaperRow(
        1024, "TransVAE-L +", "f8d16", ((0.02, 39.65, 0.30, 0.98), (0.28, 38.90, 0.045, 0.97)),
        "LPIPS 0.30 beside PSNR 39.65 is surely 0.030",
    ),
    PaperRow(1024, "DeTok-BB-FT", "f16d16", ((8.86, 25.06, 0.371, 0.73), (18.53, 24.87, 0.357, 0.72))),
    PaperRow(1024, "VA-VAE", "f16d32", ((0.37, 33.61, 0.116, 0.89), (2.10, 32.66, 0.121, 0.88))),
    PaperRow(1024, "TransVAE-T", "f16d32", ((0.27, 32.20, 0.124, 0.88), (1.87, 31.35, 0.131, 0.87))),
    PaperRow(
        1024, "TransVAE-L", "f16d32", ((0.11, 34.06, 0.091, 0.91), (1.15, 33.07, 0.100, 0.87)),
        "SSIM on COCO equals T's although PSNR is 1.7 dB higher",
    ),
)  # fmt: skip


def printed(record: Record) -> tuple[PaperRow, str] | None:
    """The paper's row and set that a record may stand beside; None if protocol, data or model differ.

    A model is the paper's if it is a registered one of a study's base variant, of the paper's configuration, trained at
    its resolution, or if its files are the published ones. A format alone says nothing of the weights.
    """
    data = KNOWN.get((record.data["layout"], record.data["split"], record.n))
    if data is None or record.protocol["identity"] != PRESETS[PROTOCOL].identity:
        return None
    title, variant = _title(record.model), f"f{record.model['compression']}d{record.model['channels']}"
    for row in TABLE1:
        if (row.pixels, row.title, row.variant) == (record.data["resolution"], title, variant):
            return row, data
    return None


def _title(model: Mapping[str, Any]) -> str | None:
    """The paper's name of a model, None if it is none of the paper's."""
    if model.get("published"):
        return str(model["title"])
    ours = OURS.get(model["title"])
    name = model["name"].removeprefix("models:/").replace("@", "/").partition("/")[0]
    family_and_size = model["title"].partition("/")[0]  # a registered name ends with the variant, except the base's
    is_base = model["name"].startswith("models:/") and name.endswith(f"-{family_and_size}")
    return ours if is_base and model.get("trained_at") == TRAINED_AT else None


PROBES = {
    "TransVAE-T without alignment, f16d32": 10.91,
    "VA-VAE, f16d32": 45.03,
    "TransVAE-T, f16d32": 46.61,
    "TransVAE-L, f16d32": 58.77,
    "SD3.5-VAE, f8d16": 10.48,
    "FLUX-VAE, f8d16": 7.82,
    "TransVAE-L, f8d16": 14.87,
}
"""Table 2a: accuracy of a linear probe in %; the paper does not state its protocol."""
DENSITIES = {
    "SD3.5-VAE": (0.22, 0.9970, 0.122),
    "FLUX-VAE": (0.22, 0.9970, 0.126),
    "TransVAE-L f8d16": (0.20, 0.9976, 0.112),
}
"""Table 2b: density CV, normalised entropy, Gini."""
GENERATION = {"SD3.5-VAE": 33.52, "FLUX-VAE": 37.45, "TransVAE-L f8d16": 28.72}
"""Table 2b: FID-10k of LightningDiT-B/2 on these latents after 160 epochs, without guidance."""
ALIGNMENT = (
    ("VA-VAE", 256, (0.28, 27.96, 0.096, 0.79), (0.26, 28.59, 0.089, 0.80)),
    ("TransVAE-T", 256, (0.40, 28.38, 0.091, 0.81), (0.34, 28.94, 0.091, 0.82)),
    ("TransVAE-L", 256, (0.66, 28.92, 0.086, 0.82), (0.58, 29.36, 0.087, 0.82)),
    ("TransVAE-L", 512, (0.32, 30.12, 0.110, 0.83), (0.17, 31.05, 0.090, 0.85)),
    ("TransVAE-L", 1024, (0.11, 34.06, 0.091, 0.91), (0.07, 36.38, 0.063, 0.93)),
)
"""Table 2c: model, pixels, and METRICS with and without alignment."""
