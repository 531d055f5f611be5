"""Checks that every frozen value of a configuration makes of itself. Does not import torch."""

import math
from dataclasses import fields
from typing import get_origin, get_type_hints


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message where the condition does not hold."""
    if not condition:
        raise ValueError(message)


def check_types(value: object) -> None:
    """Every field of a dataclass has the type it is annotated with; bool is no number, a word is no switch."""
    hints = get_type_hints(type(value))
    for field in fields(value):  # type: ignore[arg-type]
        given, expected = getattr(value, field.name), hints[field.name]
        if get_origin(expected) is tuple:
            sound = isinstance(given, tuple) and all(type(item) is int for item in given)
        elif expected is float:
            sound = type(given) in (int, float) and math.isfinite(given)
        else:
            sound = isinstance(given, expected) and (expected is bool or not isinstance(given, bool))
        name = getattr(expected, "__name__", str(expected))
        require(sound, f"{field.name}={given!r} is not of the type {name}")


def choice(key: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises ValueError for a value that is none of those allowed."""
    require(value in allowed, f"{key}={value!r} does not exist; choose one of {', '.join(allowed)}")
