"""Read a study file: every fault at once, each with file, line, column, key and the way out."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from transvae_platform.errors import SpecError
from transvae_platform.redaction import refuse_password
from transvae_platform.study.data_spec import Data
from transvae_platform.study.faults import KeyPath, is_union_step, key_path, message
from transvae_platform.study.section import apply_change
from transvae_platform.study.spec import StudySpec

Change = tuple[str, Any]
"""A dotted key and its new value."""
Marks = dict[KeyPath, tuple[int, int]]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses repeated keys (PyYAML would keep the last one in silence) and reads 1e-4 as a number."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise SpecError(
                f"{self.name}:{mark.line + 1}:{mark.column + 1}: aliases (*name) are not read - write it out"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            place = f"{self.name}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise SpecError(f"{place}: a key must be a plain word, this one is a list or a mapping")
            if key_node.value in seen:
                raise SpecError(f"{place}: {key_node.value}: this key stands twice - remove one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML follows, takes 1e-4 for a word because it has no dot
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
    root, values = _read_yaml(text, str(path), f"{path}: not valid YAML")
    if not isinstance(values, dict):
        raise SpecError(f"{path}: a study file is a mapping of keys such as `study:`, `grid:`, `data:`")
    changes = [_change(override) for override in overrides]
    for key, value in [*_scaled(values, path, changes), *changes]:
        apply_change(values, key, value)
    try:
        document = json.dumps(values, default=str)
    except (TypeError, ValueError) as error:  # a date as a key, an alias inside of what it stands for
        raise SpecError(f"{path}: not a study file: {error}") from None
    for key, text in _texts(values):
        refuse_password(f"{path}: {key}", text)
    try:
        # JSON, because only there strict means what a file needs: no "300" or `yes` for a number, but lists for tuples
        spec = StudySpec.model_validate_json(document, strict=True)
    except ValidationError as error:
        marks = dict(_walk(root)) if root is not None else {}
        faults = error.errors(include_url=False)
        outer = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
        # a list that is short only because its members are wrong is no second fault
        faults = [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in outer]
        lines = [_explain(fault, path, marks) for fault in faults]
        raise SpecError("\n".join(dict.fromkeys(lines))) from None

    # a path in the file starts at the file, one on the command line where the command was typed
    def start(key: str) -> Path:
        return Path.cwd() if any(text.startswith(f"{key}=") for text in overrides) else path.parent

    def full(key: str, text: str | None) -> str | None:
        if text is None or "://" in text or text.startswith("models:/"):
            return text
        return str((start(key) / _expanded(text)).resolve())

    resources = spec.resources.model_copy(
        update={
            "checkpoints": full("resources.checkpoints", spec.resources.checkpoints),
            "frozen": {name: full(f"resources.frozen.{name}", file) for name, file in spec.resources.frozen.items()},
        }
    )
    recipe = spec.recipe.model_copy(update={"start_from": full("recipe.start_from", spec.recipe.start_from)})
    downstream = spec.downstream
    if downstream:
        start_from = full("downstream.start_from", downstream.start_from)
        downstream = downstream.model_copy(update={"start_from": start_from})
    tables = spec.tables
    if tables and tables.reconstruction and tables.reconstruction.files:
        key = "tables.reconstruction.files"
        files = {name: full(f"{key}.{name}", file) for name, file in tables.reconstruction.files.items()}
        tables = tables.model_copy(update={"reconstruction": tables.reconstruction.model_copy(update={"files": files})})
    sets = {name: _located(data, start(f"evaluation.sets.{name}.path")) for name, data in spec.evaluation.sets.items()}
    return spec.model_copy(
        update={
            "data": _located(spec.data, start("data.path")),
            "evaluation": spec.evaluation.model_copy(update={"sets": sets}),
            "resources": resources,
            "recipe": recipe,
            "downstream": downstream,
            "tables": tables,
            "scales": {},
        }
    )


def _expanded(path: str) -> Path:
    """With the home of the user that it begins with, as `~` or `~name`."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SpecError(f"{path}: {error} - give the whole path") from None


def _located(data: Data, start: Path) -> Data:
    """The data section with full paths; URIs and names of data sets stay as they are."""

    def full(path: str) -> str:
        if "://" in path or (data.source != "folder" and "/" not in path):
            return path
        return str((start / _expanded(path)).resolve())

    path = full(data.path) if data.path is not None else None
    parts = {full(part): share for part, share in data.parts.items()} if data.parts is not None else None
    captions = str((start / _expanded(data.captions)).resolve()) if data.captions is not None else None
    return data.model_copy(update={"path": path, "parts": parts, "captions": captions})


def read_data(values: dict[str, Any]) -> Data:
    """A data section from a command's options; a relative path starts where the command was typed.

    Raises:
        SpecError: names every option with an impossible value.
    """
    try:
        return _located(Data.model_validate_json(json.dumps(values)), Path.cwd())
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False):
            keys = [str(part) for part in fault["loc"] if not is_union_step(part)]
            faults.append((f"--{keys[-1]}: " if keys else "") + fault["msg"].removeprefix("Value error, "))
        raise SpecError("\n".join(faults)) from None


def study_schema() -> str:
    """The JSON schema of study files, for completion and checking in editors."""
    return json.dumps(StudySpec.model_json_schema(), indent=2) + "\n"


def _read_yaml(text: str, name: str, complaint: str) -> tuple[yaml.Node | None, Any]:
    try:
        loader = _Loader(text)
        loader.name = name
        root = loader.get_single_node()
        return root, loader.construct_document(root) if root is not None else None
    except yaml.YAMLError as error:
        raise SpecError(f"{complaint}: {error}") from None
    except (ValueError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML's constructors: an impossible date, an empty number, nesting without end
        raise SpecError(f"{complaint}: {error or type(error).__name__}") from None


def _nearest_file(path: Path) -> str:
    siblings = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    close = difflib.get_close_matches(str(path), siblings, n=1)
    if close:
        return f" - did you mean {close[0]}?"
    return f" - this folder has {', '.join(siblings)}" if siblings else ""


def _change(override: str) -> Change:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SpecError(f"{override!r} is not of the form key=value, e.g. recipe.steps=100")
    return key, _read_yaml(text, override, f"{override!r}: the value is not valid YAML")[1]


def _scaled(values: dict[Any, Any], path: Path, changes: Sequence[Change]) -> Iterator[Change]:
    """What `scale` changes: first what `scales/<scale>.yaml` beside the file says for all studies, then its own."""
    scale = dict(changes).get("scale", values.get("scale"))
    own = values.get("scales") or {}
    if scale is None:
        return
    common = path.parent / "scales" / f"{scale}.yaml"
    if not isinstance(own, dict) or scale not in own:
        known = ", ".join(own) if isinstance(own, dict) and own else "none"
        raise SpecError(f"{path}: scale: {scale!r} is none of this study's `scales` - it has {known}")
    yield "study", f"{values.get('study')}-{scale}"
    for source, given in ((common, _read_changes(common)), (path, own[scale] or {})):
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            raise SpecError(f"{source}: scales.{scale}: not a mapping of keys such as `recipe.steps: 400`")
        yield from given.items()


def _read_changes(path: Path) -> Any:
    if not path.is_file():
        return {}
    return _read_yaml(path.read_text(encoding="utf-8"), str(path), f"{path}: not valid YAML")[1] or {}


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


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of the document with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{index}")


def _explain(fault: Any, path: Path, marks: Marks) -> str:
    location = key_path(fault)
    inner = location
    while inner and inner not in marks:
        inner = inner[:-1]
    line, column = marks.get(inner, (1, 1))
    key = ".".join(str(part) for part in location) or "study file"
    return f"{path}:{line}:{column}: {key}: {message(fault, location)}"
