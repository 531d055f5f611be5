"""Everything that runs studies: specification, data, training, evaluation, fits, tracking, scheduling, command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transvae_platform.tracking.registry import load_generator as load_generator
    from transvae_platform.tracking.registry import load_model as load_model

__all__ = ["load_generator", "load_model"]


def __getattr__(name: str) -> Any:
    # imported on first use: MLflow and torch take seconds, and most modules of this package need neither
    if name in __all__:
        from transvae_platform.tracking import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
