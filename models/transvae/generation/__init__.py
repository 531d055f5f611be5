"""Generators of latents: LightningDiT, its objective and its sampling; importable without torch until used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transvae.generation.config import DiTConfig, dit_config
from transvae.generation.text_config import TextDiTConfig, text_dit_config

if TYPE_CHECKING:
    from transvae.generation.folder import LatentSpace as LatentSpace
    from transvae.generation.lightning_dit import LightningDiT as LightningDiT
    from transvae.generation.lightning_dit import create_dit as create_dit
    from transvae.generation.text_dit import TextDiT as TextDiT
    from transvae.generation.text_dit import create_text_dit as create_text_dit

_HOMES = {  # where each public name lives; imported on first use (PEP 562)
    "LatentSpace": "transvae.generation.folder",
    "LightningDiT": "transvae.generation.lightning_dit",
    "create_dit": "transvae.generation.lightning_dit",
    "TextDiT": "transvae.generation.text_dit",
    "create_text_dit": "transvae.generation.text_dit",
}

__all__ = [
    "DiTConfig", "LatentSpace", "LightningDiT", "TextDiT", "TextDiTConfig", "create_dit", "create_text_dit",
    "dit_config", "text_dit_config",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'transvae.generation' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
