"""What every part of a study file is built on: strict, frozen objects whose fields describe themselves."""

from __future__ import annotations

import copy
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from transvae_platform.errors import SpecError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # what every generator takes, also after mixing in a step

Code = Annotated[str, StringConstraints(pattern=r"^f\d+d\d+$")]

MOST = 10**9
"""Counts above this are typing errors (assumption)."""


class Section(BaseModel):
    """Base of every part of a study file: unknown keys are refused, values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def apply_change(values: dict[Any, Any], key: str, value: Any) -> None:
    """Give a dotted key of nested mappings a value, making the sections on the way to it.

    Raises:
        SpecError: what the key runs through is no section.
    """
    *parents, last = key.split(".")
    for parent in parents:
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise SpecError(f"{key}={value!r}: {parent} is not a section of the study file")
    values[last] = copy.deepcopy(value)
