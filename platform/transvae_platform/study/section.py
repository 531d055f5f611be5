"""What every part of a study file is built on: strict, frozen objects whose fields describe themselves."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # what every generator takes, also after mixing in a step

MOST = 10**9
"""Counts above this are typing errors (assumption)."""


class Section(BaseModel):
    """Base of every part of a study file: unknown keys are refused, values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
