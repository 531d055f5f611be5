"""Tokenizers that others published: where their files are, what they are, and what the paper measured with them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published tokenizer: f and d, and where its files are."""

    title: str
    """Its row in table 1 of the paper, or what its authors call it: of these weights alone."""
    format: str | None = None
    """What any network of its configuration is called, where others published that, too; None: as the title."""
    sha256: str | None = None
    """Of its file of weights, where it is known (several public lists agree)."""
    repository: str
    """Of the Hugging Face hub; empty if its weights were never published."""
    compression: int
    channels: int
    licence: str
    subfolder: str | None = None
    """Of diffusers' files; None: the repository itself."""
    file: str | None = None
    """The one file, where it is not a folder of diffusers."""
    parameters: int | None = None
    """Of encoder and decoder together, where their configuration was counted."""
    scale: float | None = None
    """That its generators apply: tells formats of one class apart."""
    gated: bool = False
    no_adapter: str | None = None
    """Why it cannot be opened here."""


def _kl(title: str, repository: str, channels: int, scale: float, licence: str, **more: Any) -> Published:
    """An AutoencoderKL of diffusers with the widths (128, 256, 512, 512).

    The formats of SD's own VAE and of its two fine-tuned decoders are one.
    """
    count = {4: 83_653_863, 16: 83_819_683}[channels]
    return Published(
        title=title, repository=repository, compression=8, channels=channels, licence=licence, parameters=count,
        scale=scale, **more,
    )  # fmt: skip


def _dc(f: int, d: int, scale: float, parameters: int) -> Published:
    return Published(
        title=f"DC-AE f{f}d{d}", repository=f"mit-han-lab/dc-ae-f{f}c{d}-in-1.0-diffusers", compression=f, channels=d,
        licence="MIT", scale=scale, parameters=parameters,
    )  # fmt: skip


PUBLISHED = {
    "sd-vae-ft-ema": _kl("SD-VAE ft-EMA", "stabilityai/sd-vae-ft-ema", 4, 0.18215, "MIT", format="SD-VAE"),
    "sd-vae-ft-mse": _kl(
        "SD-VAE ft-MSE", "stabilityai/sd-vae-ft-mse", 4, 0.18215, "MIT", format="SD-VAE",
        sha256="a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
    ),
    "sd3.5-vae": _kl(
        "SD3.5-VAE", "stabilityai/stable-diffusion-3.5-large", 16, 1.5305, "Stability Community", subfolder="vae",
        gated=True,
    ),
    "flux-vae": _kl(
        "FLUX-VAE", "black-forest-labs/FLUX.1-schnell", 16, 0.3611, "Apache-2.0", subfolder="vae",
        sha256="f5b59a26851551b67ae1fe58d32e76486e1e812def4696a4bea97f16604d40a3",
    ),
    "va-vae": Published(
        title="VA-VAE", repository="hustvl/vavae-imagenet256-f16d32-dinov2", compression=16, channels=32, licence="MIT",
        file="vavae-imagenet256-f16d32-dinov2.pt", format="LDM-VAE",
    ),
    "dc-ae-f32c32-in": _dc(32, 32, 0.3189, 323_356_460),
    "dc-ae-f64c128-in": _dc(64, 128, 0.2889, 676_896_140),
    "dc-ae-f128c512-in": _dc(128, 512, 0.4883, 1_120_682_252),
    "rae-dinov2-b": Published(
        title="RAE DINOv2-B", repository="nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08", compression=16, channels=768,
        licence="MIT", scale=1.0, parameters=501_638_656,
    ),
    "detok-bb-ft": Published(
        title="DeTok-BB-FT", repository="jjiaweiyang/l-DeTok", compression=16, channels=16, licence="MIT",
        file="detok-BB-gamm3.0-m0.7-decoder_tuned.pth",
        no_adapter="it is a class of its own, whose absolute position embedding is sized for 256 x 256; at 512 and "
        "1024 it needs interpolated embeddings, and table 1 shows it failing there. Its numbers are cited",
    ),
    "vitok-s-b-16": Published(
        title="ViTok S-B/16", repository="", compression=16, channels=16, licence="none",
        no_adapter="its weights were never published; its numbers are cited",
    ),
}  # fmt: skip
"""Name -> tokenizer."""


def title_of(compression: int, channels: int, scale: float | None, parameters: int) -> str | None:
    """The title of the published format with these numbers, None if there is none."""
    found = (compression, channels, scale, parameters)
    for entry in PUBLISHED.values():
        if (entry.compression, entry.channels, entry.scale, entry.parameters) == found:
            return entry.format or entry.title
    return None


def known_by(sha256: str) -> str | None:
    """The name of the published tokenizer whose file of weights has this SHA-256, None if there is none."""
    return next((name for name, entry in PUBLISHED.items() if entry.sha256 == sha256), None)
