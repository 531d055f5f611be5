"""What is wrong with a value of a study file, in words: the message of a fault, with the nearest key that exists."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Any

from pydantic import BaseModel

from transvae_platform.study.section import Section
from transvae_platform.study.spec import StudySpec

KeyPath = tuple[str | int, ...]


def key_path(fault: Any) -> KeyPath:
    """Where a fault of pydantic's lies, in keys of the file."""
    # pydantic adds steps that are no keys: the tag of a union, "[key]" of a mapping
    return tuple(part for part in fault["loc"] if not is_union_step(part))


def message(fault: Any, location: KeyPath) -> str:
    """What is wrong, and for a key that does not exist the nearest one that does.

    Args:
        location: the fault's key path from the root of a study file.
    """
    text = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key - {hint}"
    if fault["type"] == "missing":
        return "this key is needed"
    if not isinstance(fault["input"], dict):  # a whole section says less than its message
        value = repr(fault["input"])
        text += f" (got {value if len(value) < 60 else value[:57] + '...'})"
    return text


def is_union_step(part: str | int) -> bool:
    """Whether a step of pydantic's path is no key of the file."""
    # the tags of `data.view`, those of other unions, and pydantic's name for the key of a mapping
    return part in {"centre", "crops", "[key]"} or str(part).startswith("<")


def _known_keys(parents: KeyPath) -> list[str]:
    sections: list[type[BaseModel]] = [StudySpec]
    within_mapping = False  # the next part is a name that the file chose, such as the pattern of an override
    for part in parents:
        if within_mapping:
            within_mapping = False
            continue
        annotations = [section.model_fields[str(part)].annotation for section in sections]
        within_mapping = any(typing.get_origin(annotation) is dict for annotation in annotations)
        sections = [inner for annotation in annotations for inner in _sections_of(annotation)]
    return sorted({name for section in sections for name in section.model_fields})


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The sections inside an annotation, e.g. of `dict[str, Workers]` or of a union of views."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if typing.get_origin(annotation) in (dict, typing.Annotated, typing.Union, types.UnionType):
        return [section for inner in typing.get_args(annotation) for section in _sections_of(inner)]
    return []
