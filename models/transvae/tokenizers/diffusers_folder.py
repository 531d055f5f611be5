"""Tokenizers published as folders of diffusers: AutoencoderKL (SD, SD3.5, FLUX), AutoencoderDC, AutoencoderRAE.

The folder's config.json decides the class (`_class_name`) and everything else; weights lie in
`diffusion_pytorch_model.safetensors`. diffusers is an optional extra, imported when such a folder is opened.

Legend: B batch, H, W pixels, f compression, d latent channels, h = H/f, w = W/f.
"""

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from transvae.losses.frozen import drawn_from
from transvae.posterior import DiagonalGaussian
from transvae.tokenizers.contract import Facts, Point, Posterior, Tokenizer, TokenizerError
from transvae.tokenizers.files import config_hash, file_sha256, read_config
from transvae.tokenizers.published import title_of
from transvae.torchvision_cpu import ensure_torchvision

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLASS = "_class_name"
UNBUILT = (
    TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, ImportError, NameError,
)  # fmt: skip
"""What diffusers raises for values that no network has; NameError: RAE without transformers."""
FORMER = re.compile(r"(?<=\.attentions\.\d\.)(query|key|value|proj_attn)(?=\.(?:weight|bias)$)")
NOW = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of attention's layers in files of diffusers' first years, such as Stable Diffusion's VAEs, and today's names,
as diffusers' own `from_pretrained` translates them."""


class KL(Tokenizer):
    """AutoencoderKL: a diagonal Gaussian."""

    def posterior(self, x_B3HW: Tensor) -> Posterior:
        return DiagonalGaussian(self.network.encode(x_B3HW).latent_dist.parameters)  # type: ignore[operator]

    def decode(self, z_Bdhw: Tensor) -> Tensor:
        image: Tensor = self.network.decode(z_Bdhw).sample  # type: ignore[operator]
        return image


class DC(Tokenizer):
    """AutoencoderDC (DC-AE): deterministic."""

    def posterior(self, x_B3HW: Tensor) -> Posterior:
        return Point(self.network.encode(x_B3HW).latent)  # type: ignore[operator]

    def decode(self, z_Bdhw: Tensor) -> Tensor:
        image: Tensor = self.network.decode(z_Bdhw).sample  # type: ignore[operator]
        return image


class RAE(Tokenizer):
    """AutoencoderRAE: images in [0, 1] at both ends, resized inside; the noise of its training is off."""

    def posterior(self, x_B3HW: Tensor) -> Posterior:
        return Point(self.network.encode((x_B3HW + 1) / 2).latent)  # type: ignore[operator]

    def decode(self, z_Bdhw: Tensor) -> Tensor:
        image: Tensor = self.network.decode(z_Bdhw).sample  # type: ignore[operator]
        return image * 2 - 1


ADAPTERS: dict[str, type[Tokenizer]] = {"AutoencoderKL": KL, "AutoencoderDC": DC, "AutoencoderRAE": RAE}


def open_folder(folder: Path) -> Tokenizer:
    """The tokenizer in a folder of diffusers.

    Raises TokenizerError where diffusers is missing, the class is another one, or the weights do not fit it exactly.
    """
    values = read_config(folder)
    name = str(values.get(CLASS))
    if name not in ADAPTERS:
        raise TokenizerError(f"{folder}: config.json names the class {name}; there are: {', '.join(ADAPTERS)}")
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise TokenizerError(f"{folder} holds no {WEIGHTS}, the one file that is read; {_way_to_weights(folder, name)}")
    network = _build(name, values)
    try:
        # strict, in the file's precision lifted to fp32: what is missing must not stay random
        network.load_state_dict(_renamed(load_file(weights)), strict=True, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise TokenizerError(f"{weights} does not fit its config.json: {error}") from None
    return ADAPTERS[name](_facts(name, values, network, file_sha256(weights)), network.float())


def _way_to_weights(folder: Path, name: str) -> str:
    """What to do where the folder holds other forms of the weights (fp16, pieces, pickles), or none."""
    stem = Path(WEIGHTS).stem
    others = sorted(path.name for path in folder.glob(f"{stem}*"))
    if not others:
        return "download the folder again"
    variant = re.search(rf"{stem}\.(fp16|bf16|non_ema)\b", " ".join(others))
    options = f", variant='{variant[1]}'" if variant else ""
    return (
        f'there are {", ".join(others)}: convert them once - python -c "from diffusers import {name}; '
        f"{name}.from_pretrained('{folder}'{options}).save_pretrained('NEW_FOLDER', max_shard_size='100GB')\""
    )


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {FORMER.sub(lambda found: NOW[found[0]], key): value for key, value in state.items()}


def _build(name: str, values: dict[str, Any]) -> Any:
    ensure_torchvision()
    try:
        import diffusers
    except ImportError:
        raise TokenizerError(f"{name} needs diffusers: pip install -e '.[diffusers]'") from None
    options = {key: value for key, value in values.items() if not key.startswith("_")}
    try:
        # not on meta: buffers that the file does not hold, such as RAE's positions, are computed here
        with drawn_from(0):
            return getattr(diffusers, name)(**options)
    except UNBUILT as error:
        raise TokenizerError(
            f"diffusers {diffusers.__version__} builds no {name} of this config.json: {error}"
        ) from None


def _facts(name: str, values: dict[str, Any], network: Any, sha256: str) -> Facts:
    sizes: dict[str, dict[str, Any]] = {
        "AutoencoderKL": {"compression": 2 ** (len(network.config.get("block_out_channels", (0,))) - 1)},
        "AutoencoderDC": {"compression": getattr(network, "spatial_compression_ratio", 0)},
        "AutoencoderRAE": {
            "compression": getattr(network, "decoder_patch_size", 0),
            "only_side": getattr(network, "decoder_image_size", None),
        },
    }
    channels = int(network.config["encoder_hidden_size" if name == "AutoencoderRAE" else "latent_channels"])
    scale = network.config.get("scaling_factor")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Facts(
        kind=name,
        title=title_of(sizes[name]["compression"], channels, scale, parameters) or name,
        channels=channels,
        deterministic=name != "AutoencoderKL",
        weights_sha256=sha256,
        config=config_hash(values),
        scale=scale,
        shift=network.config.get("shift_factor") or 0.0,
        **sizes[name],
    )
