"""From a name to a configuration, and from a configuration to a model.

    "transvae-T/f16d32" -> model_config -> AutoencoderConfig -> create_model -> Autoencoder

Overrides are flat keys (`OVERRIDES`), so that a study file can name its variants. Only `create_model` imports torch,
and only when it is called.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from transvae.config import FFN_RATIOS, AutoencoderConfig, Layout, TransVAELayout, ViTLayout
from transvae.representation import RAEEncoder
from transvae.sizes import FAMILIES, LADDERS, REPRESENTATIONS, SIZES, WORDS, Ladder

if TYPE_CHECKING:
    import torch

    from transvae.autoencoder import Autoencoder

# Every switch of the paper's ablations, with the section it comes from.
OVERRIDES = {
    "encoder": "family of the encoder, at the same size and latent (appendix G)",
    "decoder": "family of the decoder, at the same size and latent (appendix G)",
    "stages": "'single' or 'multi': ViT blocks at one resolution or in TransVAE's stages (section 3.2.2)",
    "position": "'rope', 'learned' or 'none' (section 3.2.1)",
    "stem": "'patch' or 'seqconv': patch embedding of a ViT encoder (section 3.2.2)",
    "head": "'patch', 'linear' or 'seqconv': pixel head of a ViT decoder (section 3.2.2)",
    "res_stages": "number of convolution stages before the attention stages (section 3.2.2)",
    "ffn": "'standard', 'dwconv' or 'fullconv' (section 3.3.1)",
    "ffn_ratio": "hidden width of the FFN over its width; 4, 4 and 1 for the three forms (section 3.3.1)",
    "dc_path": "shortcuts around the resamplers, true or false (section 3.3.2)",
    "norm": "'rms' or 'layer' (section 3.3.2)",
    "qk_norm": "normalise queries and keys per head, true or false (section 3.3.2)",
    "stage_attention": "attention in the last CNN stage, true or false (appendix E)",
    "mid_attention": "attention in the CNN MidBlock, true or false (appendix E)",
    "encoder_blocks": "ResBlocks per stage of a CNN encoder (table 4)",
    "decoder_blocks": "ResBlocks per stage of a CNN decoder (table 4)",
    "network": "frozen network that S-VAE, PS-VAE and RAE stand on, by timm's name (`transvae.representation`)",
    "resize": "'bicubic' or 'bilinear': how the image comes to that network's size",
    "normalise": "'network' or 'none': whether the image gets the mean and deviation the network was published with",
    "latent_dim": "channels of the latent",
    "resolution": "training resolution in pixels",
    "posterior_init": "'standard' or 'narrow': width the posterior starts with",
}
_MODEL_KEYS = ("latent_dim", "resolution", "posterior_init")
_BOTH_SIDES = (
    "network", "position", "res_stages", "ffn", "ffn_ratio", "dc_path", "norm", "qk_norm", "stage_attention",
    "mid_attention",
)  # fmt: skip
_ONE_SIDE = {
    "stem": ("encoder", "patching"),
    "head": ("decoder", "patching"),
    "encoder_blocks": ("encoder", "blocks"),
    "decoder_blocks": ("decoder", "blocks"),
    "resize": ("encoder", "resize"),
    "normalise": ("encoder", "normalise"),
}
_BLOCK_KEYS = ("position", "ffn", "ffn_ratio", "norm", "qk_norm")  # what a transformer block is, in any skeleton


def list_models(pattern: str = "*") -> list[str]:
    """Names of all registered models that match a shell pattern, in ladder order: `list_models("cnn-*/f16d32")`."""
    return [name for name in _names() if fnmatchcase(name, pattern)]


def model_config(name: str, /, **overrides: Any) -> AutoencoderConfig:
    """The configuration behind a name, with overrides (`OVERRIDES` lists them).

    Accepts the registered names ("transvae-L/f16d32") and README-style spellings ("transvae-large-f16d32"). Raises
    ValueError for a name, key or value that does not exist, with the ones that do; and for a key that nothing in the
    model reads, because an ablation that changes nothing is a mistake.
    """
    ladder, size = _resolve(name)
    for key in overrides:
        if key not in OVERRIDES:
            raise ValueError(f"unknown override {key!r}{_nearest(key, OVERRIDES)}; the keys are {', '.join(OVERRIDES)}")
    sides = dict(zip(("encoder", "decoder"), ladder.rungs[size], strict=True))
    for index, side in enumerate(("encoder", "decoder")):
        if side in overrides:
            sides[side] = _rung_of(str(overrides[side]), ladder, size, key=side)[index]
    if "stages" in overrides:
        sides = _restage(sides, overrides["stages"], ladder, size)
    sides = _override_sides(sides, overrides, ladder.name(size))
    if "posterior_init" in overrides and isinstance(sides["encoder"], RAEEncoder):
        raise ValueError(f"posterior_init has nothing to act on in {ladder.name(size)}: its latent is the features")
    values: dict[str, Any] = {
        "latent_dim": ladder.latent_dim,
        "resolution": ladder.resolution,
        "posterior_init": ladder.posterior_init,
        **{key: overrides[key] for key in _MODEL_KEYS if key in overrides},
    }
    return AutoencoderConfig(
        name=ladder.name(size),
        encoder=sides["encoder"],
        decoder=sides["decoder"],
        compression=ladder.compression,
        **values,
    )


def create_model(
    name_or_config: str | AutoencoderConfig,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **overrides: Any,
) -> Autoencoder:
    """Builds a freshly initialised model from a name (with overrides) or from a configuration.

    `device` defaults to torch's default device; on "meta" nothing is allocated. Random numbers come from torch's
    global generator of that device: seed it before for a repeatable start. Raises ValueError as `model_config` does.
    """
    from transvae.autoencoder import Autoencoder

    if isinstance(name_or_config, AutoencoderConfig):
        if overrides:
            raise ValueError("overrides apply to a name; change the configuration itself with dataclasses.replace")
        return Autoencoder(name_or_config, device=device, dtype=dtype)
    return Autoencoder(model_config(name_or_config, **overrides), device=device, dtype=dtype)


def _names() -> dict[str, tuple[Ladder, str]]:
    return {ladder.name(size): (ladder, size) for ladder in LADDERS for size in ladder.rungs}


def _resolve(name: str) -> tuple[Ladder, str]:
    names = _names()
    if name in names:
        return names[name]
    spellings = {spelling: entry for full, entry in names.items() for spelling in _spellings(full, entry[1])}
    entry = spellings.get(_plain(name))
    if entry is not None:
        return entry
    raise ValueError(f"no model is named {name!r}: {_explain(name)}{_nearest(_plain(name), spellings)}")


def _plain(name: str) -> str:
    return re.sub(r"[/_\s]+", "-", name.strip().lower())


def _spellings(full: str, size: str) -> tuple[str, str]:
    """The plain form with the letter and with the word: transvae-l-f16d32, transvae-large-f16d32."""
    plain = _plain(full)
    return plain, plain.replace(f"-{size.lower()}-", f"-{WORDS.get(size, size)}-").replace("_", "-")


def _explain(name: str) -> str:
    """Names the part that does not exist, and what does exist in its place."""
    plain = _plain(name)
    prefixes = sorted({ladder.prefix for ladder in LADDERS}, key=len, reverse=True)
    prefix = next((p for p in prefixes if plain == p or plain.startswith(f"{p}-")), None)
    if prefix is None:
        return f"the families are {', '.join((*FAMILIES, *REPRESENTATIONS))}, each also as <family>-micro"
    ladders = [ladder for ladder in LADDERS if ladder.prefix == prefix]
    latent = plain.rsplit("-", 1)[-1]
    at_latent = [ladder for ladder in ladders if ladder.latent == latent]
    if not at_latent:
        latents = "; ".join(f"{ladder.latent} with sizes {', '.join(ladder.rungs)}" for ladder in ladders)
        return f"{prefix} exists at {latents}"
    return f"the sizes of {prefix} at {latent} are {', '.join(at_latent[0].rungs)}"


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _rung_of(family: str, like: Ladder, size: str, key: str) -> tuple[Layout, Layout]:
    """The same size and latent in another family."""
    if family not in FAMILIES:
        raise ValueError(f"{key}={family!r} is not a family{_nearest(family, FAMILIES)}; it is {', '.join(FAMILIES)}")
    prefix = family + ("-micro" if like.prefix.endswith("-micro") else "")
    for ladder in LADDERS:
        if (ladder.prefix, ladder.latent) == (prefix, like.latent) and size in ladder.rungs:
            return ladder.rungs[size]
    existing = [ladder.name(s) for ladder in LADDERS if ladder.prefix == prefix for s in ladder.rungs]
    raise ValueError(f"{key}={family!r}: no {prefix}-{size}/{like.latent}; there are {', '.join(existing)}")


def _restage(sides: dict[str, Layout], stages: object, ladder: Ladder, size: str) -> dict[str, Layout]:
    """Moves the transformer blocks of both sides into the other skeleton, at the same size."""
    if stages not in ("single", "multi"):
        raise ValueError(f"stages={stages!r} does not exist; choose 'single' or 'multi'")
    if size not in SIZES or not all(isinstance(layout, TransVAELayout | ViTLayout) for layout in sides.values()):
        raise ValueError(f"stages={stages!r} moves transformer blocks; {ladder.name(size)} is no transvae or vit size")
    skeletons = _rung_of("vit" if stages == "single" else "transvae", ladder, size, key="stages")
    moved: dict[str, Layout] = {}
    for (side, layout), skeleton in zip(sides.items(), skeletons, strict=True):
        if layout.family == skeleton.family:
            raise ValueError(f"stages={stages!r}: the {side} of {ladder.name(size)} has {stages} stages already")
        block = {key: getattr(layout, key) for key in _BLOCK_KEYS}
        # Section 3.3.2 adds the DC path as a later step, so a multi-stage ViT starts without it.
        added = {"dc_path": False} if isinstance(skeleton, TransVAELayout) else {}
        moved[side] = replace(skeleton, **block, **added)  # type: ignore[arg-type]
    return moved


def _override_sides(sides: dict[str, Layout], overrides: dict[str, Any], name: str) -> dict[str, Layout]:
    changes: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}}
    for key, value in overrides.items():
        if key in _ONE_SIDE:
            side, field = _ONE_SIDE[key]
            targets = [side] if field in _fields(sides[side]) else []
        elif key in _BOTH_SIDES:
            field = key
            targets = [side for side, layout in sides.items() if field in _layout_switches(layout)]
        else:
            continue
        if not targets:
            families = " + ".join(layout.family for layout in sides.values())
            raise ValueError(f"{key}={value!r} has nothing to act on in {name} ({families})")
        for side in targets:
            changes[side][field] = value
            if key == "ffn" and "ffn_ratio" not in overrides and value in FFN_RATIOS:
                changes[side]["ffn_ratio"] = FFN_RATIOS[value]
    return {side: replace(layout, **changes[side]) for side, layout in sides.items()}


def _fields(layout: Layout) -> set[str]:
    return {f.name for f in fields(layout)}


def _layout_switches(layout: Layout) -> set[str]:
    """Fields that an override may change. Swin's ffn_ratio is part of its size, not a switch of the paper."""
    return _fields(layout) if layout.family != "swin" else set()
