"""VA-VAE's published file: the LDM autoencoder, which is this project's CNN-T/f16 under other names.

Legend: f = 16, d = 32 (or another number that the file has).
"""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from transvae.autoencoder import Autoencoder
from transvae.losses.frozen import UNREADABLE
from transvae.registry import create_model
from transvae.tokenizers.contract import Facts, TokenizerError
from transvae.tokenizers.files import config_hash, file_sha256
from transvae.tokenizers.ours import OurTokenizer
from transvae.tokenizers.published import PUBLISHED

PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
"""Of an autoencoder: files of training runs also hold the loss, the foundation model and its projection."""
OTHERS = "other tokenizers are read from folders of diffusers: give the one that holds config.json and the weights"
DEEPEST = 4  # (1, 1, 2, 2, 4): the stage with attention
RENAMED = (
    (r"^quant_conv", "encoder.moments"),
    (r"^post_quant_conv", "decoder.post_quant"),
    (r"\.conv_in\.", ".stem."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid\.block_1\.", ".mid.blocks.0."),
    (r"\.mid\.attn_1\.", ".mid.blocks.1."),
    (r"\.mid\.block_2\.", ".mid.blocks.2."),
    (r"\.nin_shortcut\.", ".shortcut."),
    (r"\.proj_out\.", ".attention.out."),
    (r"\.(?:down|up)\.(\d)\.(?:down|up)sample\.", r".steps.\1."),
    (r"\.(?:down|up)\.(\d)\.block\.(\d)\.", r".stages.\1.blocks.\2."),
    (r"\.(?:down|up)\.(\d)\.attn\.(\d)\.", r".stages.\1.blocks.\2.1."),
)


def open_vavae(file: Path) -> OurTokenizer:
    """The tokenizer in a file `vavae-imagenet256-f16d32-dinov2.pt`, or of the same network.

    Raises TokenizerError for a file that cannot be read as weights, or is of another network.
    """
    state = _read(file)
    kept = {key: value for key, value in state.items() if key.startswith(PARTS) and "loss" not in key}
    if "post_quant_conv.weight" not in kept:
        raise TokenizerError(f"{file} is no LDM autoencoder with post_quant_conv.weight, as VA-VAE's is; {OTHERS}")
    try:
        with torch.device("meta"):
            model: Autoencoder = create_model("cnn-T/f16d32", latent_dim=kept["post_quant_conv.weight"].shape[0])
        model.load_state_dict(_ours(kept), strict=True, assign=True)
    except (RuntimeError, ValueError, IndexError) as error:  # IndexError: a weight with too few dimensions
        raise TokenizerError(f"{file} is not VA-VAE's network: {error}; {OTHERS}") from None
    facts = Facts(
        kind="VA-VAE",
        title=str(PUBLISHED["va-vae"].format),
        compression=model.config.compression,
        channels=model.config.latent_dim,
        deterministic=False,
        weights_sha256=file_sha256(file),
        config=config_hash(model.config.to_dict()),
    )
    return OurTokenizer(facts, model.float())


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (*UNREADABLE, SafetensorError) as error:
        raise TokenizerError(f"{file} cannot be read as weights ({error})") from None
    for key in ("state_dict", "model"):  # Lightning's checkpoints; MAR's
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise TokenizerError(f"{file} holds a {type(state).__name__}, not named weights")
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """LDM's names and shapes as ours: stages of the decoder from the deepest up, 1x1 convolutions as linear maps."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, ours in RENAMED:
            key = re.sub(pattern, ours, key)
        if key.startswith("decoder."):
            key = re.sub(r"\.(stages|steps)\.(\d)\.", lambda found: f".{found[1]}.{DEEPEST - int(found[2])}.", key)
        deepest = DEEPEST if key.startswith("encoder.") else 0
        key = re.sub(rf"(\.stages\.{deepest}\.blocks\.\d\.)(?!1\.)", r"\g<1>0.", key)
        key = key.replace(".steps.", ".downs." if key.startswith("encoder.") else ".ups.")
        named[key] = value.flatten(1) if ".attention.out.weight" in key else value
    for key in [key for key in named if key.endswith((".q.weight", ".q.bias"))]:
        stem, kind = key.removesuffix(f".q.{key.rpartition('.')[2]}"), key.rpartition(".")[2]
        if any(f"{stem}.{part}.{kind}" not in named for part in "kv"):
            continue  # strict loading names what is left over and what is missing
        parts = [named.pop(f"{stem}.{part}.{kind}") for part in "qkv"]
        named[f"{stem}.attention.qkv.{kind}"] = torch.cat(
            [part.flatten(1) if kind == "weight" else part for part in parts]
        )
    return named
