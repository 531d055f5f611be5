"""TransVAE and its three comparison families, their losses and their cost: importable without torch until used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transvae.accounting import ModelCost as ModelCost
    from transvae.accounting import count_model as count_model
    from transvae.autoencoder import Autoencoder as Autoencoder
    from transvae.config import AutoencoderConfig as AutoencoderConfig
    from transvae.losses.objective import Objective as Objective
    from transvae.losses.objective import ObjectiveConfig as ObjectiveConfig
    from transvae.registry import create_model as create_model
    from transvae.registry import list_models as list_models
    from transvae.registry import model_config as model_config
    from transvae.transvae_model import TransVAE as TransVAE

_HOMES = {  # where each public name lives; imported on first use (PEP 562)
    "TransVAE": "transvae.transvae_model",
    "Autoencoder": "transvae.autoencoder",
    "AutoencoderConfig": "transvae.config",
    "create_model": "transvae.registry",
    "list_models": "transvae.registry",
    "model_config": "transvae.registry",
    "count_model": "transvae.accounting",
    "ModelCost": "transvae.accounting",
    "Objective": "transvae.losses.objective",
    "ObjectiveConfig": "transvae.losses.objective",
}

__all__ = [
    "Autoencoder", "AutoencoderConfig", "ModelCost", "Objective", "ObjectiveConfig", "TransVAE", "count_model",
    "create_model", "list_models", "model_config",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'transvae' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
