"""Read a study file: every fault at once, each with file, line, column, key and the way out."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from transvae_platform.errors import SpecError
from transvae_platform.study.spec import Section, StudySpec

KeyPath = tuple[str | int, ...]
Marks = dict[KeyPath, tuple[int, int]]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses repeated keys (PyYAML would keep the last one in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
                raise SpecError(f"{self.name}:{line}:{column}: {key_node.value}: this key stands twice - remove one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> StudySpec:
    """Read and check a study file.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` changes on top of the file, the value in YAML syntax.

    Raises:
        SpecError: names every fault with its place and the nearest valid name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such study file{_nearest_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from None
    loader = _Loader(text)
    loader.name = str(path)
    try:
        root = loader.get_single_node()
        values = loader.construct_document(root) if root is not None else None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise SpecError(f"{path}: a study file is a mapping of keys such as `study:`, `grid:`, `data:`")
    for override in overrides:
        _apply(values, override)
    try:
        spec = StudySpec.model_validate(values)
    except ValidationError as error:
        marks = dict(_walk(root)) if root is not None else {}
        lines = [_explain(fault, path, marks) for fault in error.errors(include_url=False)]
        raise SpecError("\n".join(dict.fromkeys(lines))) from None
    if spec.data.path is not None:
        folder = (path.parent / spec.data.path.expanduser()).resolve()
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"path": folder})})
    return spec


def study_schema() -> str:
    """The JSON schema of study files, for completion and checking in editors."""
    return json.dumps(StudySpec.model_json_schema(), indent=2) + "\n"


def _nearest_file(path: Path) -> str:
    siblings = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    close = difflib.get_close_matches(str(path), siblings, n=1)
    if close:
        return f" - did you mean {close[0]}?"
    return f" - this folder has {', '.join(siblings)}" if siblings else ""


def _apply(values: dict[Any, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SpecError(f"{override!r} is not of the form key=value, e.g. recipe.steps=100")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise SpecError(f"{override!r}: {parent} is not a section of the study file")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{override!r}: the value is not valid YAML: {error}") from None


def _walk(node: yaml.Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, tuple[int, int]]]:
    """Every key path of the document with the (line, column) where it stands."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), (key.start_mark.line + 1, key.start_mark.column + 1)
            yield from _walk(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), (value.start_mark.line + 1, value.start_mark.column + 1)
            yield from _walk(value, (*path, index))


def _explain(fault: Any, path: Path, marks: Marks) -> str:
    # pydantic adds steps that are no keys of the file: the tag of a union, "[key]" of a mapping
    location = tuple(part for part in fault["loc"] if not _is_union_step(part))
    inner = location
    while inner and inner not in marks:
        inner = inner[:-1]
    line, column = marks.get(inner, (1, 1))
    key = ".".join(str(part) for part in location) or "study file"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        message = f"unknown key - {hint}"
    elif fault["type"] == "missing":
        message = "this key is needed"
    else:
        value = repr(fault["input"])
        message += f" (got {value if len(value) < 60 else value[:57] + '...'})"
    return f"{path}:{line}:{column}: {key}: {message}"


def _is_union_step(part: str | int) -> bool:
    # "centre" and "crops" are the tags of `view`, the bracketed ones pydantic's names for union members
    return isinstance(part, str) and (
        part in {"centre", "crops", "[key]"}
        or part.startswith(("constrained", "tuple[", "function"))
        or part in {"float", "int", "str"}
    )


def _known_keys(parents: KeyPath) -> list[str]:
    sections: list[type[BaseModel]] = [StudySpec]
    for part in parents:
        sections = (
            [inner for section in sections for inner in _sections_of(section.model_fields[str(part)].annotation)]
            if all(str(part) in section.model_fields for section in sections)
            else sections
        )
    return sorted({name for section in sections for name in section.model_fields})


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The sections inside an annotation, e.g. of `dict[str, Workers]` or of a union of views."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if typing.get_origin(annotation) in (dict, typing.Annotated, typing.Union, types.UnionType):
        return [section for inner in typing.get_args(annotation) for section in _sections_of(inner)]
    return []
