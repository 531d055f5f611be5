"""Tokenizers that others published: where their files are, what they are, and what the paper measured with them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published tokenizer. `parameters` counts encoder and decoder."""

    name: str
    title: str
    """Its row in table 1 of the paper, or what its authors call it."""
    repository: str
    """Of the Hugging Face hub."""
    subfolder: str | None
    """Of diffusers' files; None: the repository itself."""
    file: str | None
    """The one file, where it is not a folder of diffusers."""
    compression: int
    channels: int
    parameters: int | None
    licence: str
    gated: bool = False
    no_adapter: str | None = None
    """Why it cannot be opened here."""


_SD3 = "stabilityai/stable-diffusion-3.5-large"
_DETOK = (
    "it is a class of its own, whose absolute position embedding is sized for 256 x 256; at 512 and 1024 it needs "
    "interpolated embeddings, and table 1 shows it failing there. Its numbers are cited"
)
PUBLISHED = {
    entry.name: entry
    for entry in (
        Published("sd-vae-ft-ema", "SD-VAE ft-EMA", "stabilityai/sd-vae-ft-ema", None, None, 8, 4, 83_653_863, "MIT"),
        Published("sd-vae-ft-mse", "SD-VAE ft-MSE", "stabilityai/sd-vae-ft-mse", None, None, 8, 4, 83_653_863, "MIT"),
        Published("sd3.5-vae", "SD3.5-VAE", _SD3, "vae", None, 8, 16, 83_819_683, "Stability Community", gated=True),
        Published("flux-vae", "FLUX-VAE", "black-forest-labs/FLUX.1-schnell", "vae", None, 8, 16, 83_819_683, "Apache-2.0"),
        Published(
            "va-vae", "VA-VAE", "hustvl/vavae-imagenet256-f16d32-dinov2", None, "vavae-imagenet256-f16d32-dinov2.pt",
            16, 32, None, "MIT",
        ),
        Published("dc-ae-f32c32-in", "DC-AE f32c32", "mit-han-lab/dc-ae-f32c32-in-1.0-diffusers", None, None, 32, 32, None, "MIT"),
        Published("dc-ae-f64c128-in", "DC-AE f64c128", "mit-han-lab/dc-ae-f64c128-in-1.0-diffusers", None, None, 64, 128, None, "MIT"),
        Published(
            "rae-dinov2-b", "RAE DINOv2-B", "nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08", None, None, 16, 768, None, "MIT"
        ),
        Published(
            "detok-bb-ft", "DeTok-BB-FT", "jjiaweiyang/l-DeTok", None, "detok-BB-gamm3.0-m0.7-decoder_tuned.pth", 16, 16,
            None, "MIT", no_adapter=_DETOK,
        ),
        Published(
            "vitok-s-b-16", "ViTok S-B/16", "", None, None, 16, 16, None, "none",
            no_adapter="its weights were never published; its numbers are cited",
        ),
    )
}  # fmt: skip
