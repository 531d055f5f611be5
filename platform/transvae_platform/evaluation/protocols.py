"""What a reconstruction number means: named presets that fix all that peers do differently, each value with its source.

A record carries the identity of its protocol, a hash of every value below; numbers of different identities never share
a column. Sources: VA-VAE = LightningDiT's `evaluate_tokenizer.py`, DC-AE = efficientvit's `aecore/evaluator.py`, RAE =
its `src/eval`, DeTok = its evaluation loop. "Assumption" where the source was not read or leaves it open.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, replace
from typing import Literal

from transvae_platform.errors import SpecError
from transvae_platform.study.data_spec import Geometry
from transvae_platform.study.trial import stable_hash

ORIGINALS = "8-bit levels, rounded once after the resize"
"""What outputs are compared with, under every protocol, as data sets hold 8-bit images; part of every record.
ADM's crop (DC-AE, RAE, DeTok) rounds so, too; VA-VAE resizes tensors, so that its SSIM and LPIPS see floats."""
Latent = Literal["sample", "mean"]
Values = Literal["levels", "clamped", "unclamped"]
"""Of both images: 8-bit levels, floats cut to [-1, 1], or floats as the decoder gives them."""


@dataclass(frozen=True)
class Protocol:
    """How images become the five numbers. Means are always over images, each counted once."""

    name: str
    geometry: Geometry | str
    """How a photograph became a square, as the data set's manifest names it."""
    latent: Latent
    """What is decoded of a posterior; a tokenizer without one has one latent only."""
    psnr: Values
    """Values whose mean squared error over C, H, W is taken per image."""
    identical: Literal["infinite", "left out"]
    """The PSNR of an image without any error: infinite, and so is the mean; or counted and not averaged."""
    ssim: Values | None
    """Values of SSIM with an 11 x 11 Gaussian window, sigma 1.5; its range is that of the values (255 or 2)."""
    lpips: Values | None
    trunk: Literal["vgg", "alex"] | None
    """The network of LPIPS."""
    extractor: Literal["torch-fidelity", "pytorch-fid"]
    """Of FID's features, always of 8-bit levels."""

    @property
    def identity(self) -> str:
        """Of everything but the name."""
        return stable_hash({key: value for key, value in asdict(self).items() if key != "name"})[:12]

    def on(self, geometry: str) -> Protocol:
        """This protocol on images that were cut in another way: another protocol, with another name."""
        if geometry == self.geometry:
            return self
        return replace(self, name=f"{self.name} on {geometry}", geometry=geometry)


PRESETS = {
    preset.name: preset
    for preset in (
        # TransVAE says that it follows VA-VAE, and its row of VA-VAE agrees with VA-VAE's own numbers.
        Protocol(
            name="vavae",
            geometry="shorter_side_bilinear",  # VA-VAE: ToTensor, Resize, CenterCrop
            latent="sample",  # VA-VAE: posterior.sample()
            psnr="levels",  # VA-VAE: from the PNGs, per image, then the mean
            identical="infinite",  # VA-VAE: 20 log10(255 / 0)
            ssim="clamped",  # VA-VAE: torchmetrics with data_range=(-1, 1), which cuts to it
            lpips="unclamped",  # VA-VAE: the decoder's floats against the input in [-1, 1]
            trunk="vgg",  # VA-VAE
            extractor="pytorch-fid",  # VA-VAE: folder against folder
        ),
        Protocol(
            name="dcae",
            geometry="adm",  # DC-AE: DMCrop
            latent="mean",  # DC-AE: deterministic
            psnr="levels",  # DC-AE: uint8
            identical="infinite",  # assumption: torchmetrics' PSNR bounds nothing
            ssim="levels",  # DC-AE: torchmetrics on uint8, data_range (0, 255)
            lpips="levels",  # DC-AE: uint8 / 255 with normalize=True
            trunk="alex",  # DC-AE: torchmetrics' default
            extractor="pytorch-fid",  # assumption: its own FIDStats; the network was not compared
        ),
        Protocol(
            name="rae",
            geometry="adm",  # RAE: ADM's crop, kept as npz
            latent="mean",  # RAE: deterministic
            psnr="levels",  # RAE: [0, 1] from uint8
            identical="infinite",  # assumption
            ssim="levels",  # RAE: torchmetrics with data_range 1 of uint8 / 255, the same number
            lpips="levels",  # RAE: VGG, from the same npz
            trunk="vgg",  # RAE
            extractor="torch-fidelity",  # RAE
        ),
        Protocol(
            name="detok",
            geometry="adm",  # DeTok: ADM's crop
            latent="mean",  # DeTok: the posterior's mean
            psnr="clamped",  # DeTok: floats in [0, 1]
            identical="infinite",  # assumption
            ssim=None,  # DeTok reports none
            lpips=None,  # DeTok reports none
            trunk=None,
            extractor="torch-fidelity",  # DeTok: against val_fid_statistics_file.npz
        ),
    )
}


def preset(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        SpecError: there is none; names those there are.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(PRESETS)}"
        raise SpecError(f"--preset: no protocol {name!r} - {hint}")
    return PRESETS[name]
