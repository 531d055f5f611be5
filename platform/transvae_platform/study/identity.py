"""What makes a study the same study: its specification and its photographs. Where it runs is not part of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from transvae_platform.errors import SpecError
from transvae_platform.study.evaluation_spec import NO_RESULT
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState


def refuse_changed_study(state: StudyState, spec: StudySpec, fingerprint: str | None) -> None:
    """A study keeps the specification and the images it began with.

    `resources` and `tables` may change, and the folder of the images may move: none changes a trial's result.

    Args:
        fingerprint: of the data set; None while it is not made.

    Raises:
        SpecError: lists every field that differs.
    """
    if not state.spec:
        return
    new = _comparable(spec.model_dump(mode="json"))
    changes = list(_differences(_comparable(_with_todays_keys(state.spec)), new))
    began_with = {trial.trial.data_fingerprint for trial in state.trials.values()}
    if not changes and fingerprint and began_with and fingerprint not in began_with:
        changes = [f"the images: fingerprint {', '.join(sorted(began_with))} -> {fingerprint}"]
    if changes:
        raise SpecError(
            f"study {spec.study!r} exists in {state.folder} with another specification:\n  "
            + "\n  ".join(changes)
            + f"\ngive the changed study a new name (`study:`), or delete {state.folder} to begin again"
        )


def submitted_spec(state: StudyState) -> StudySpec:
    """The specification that a study was submitted with.

    Raises:
        SpecError: it never came so far, or it is of another version of this platform.
    """
    try:
        return StudySpec.model_validate(state.spec)
    except ValidationError as error:
        reason = "it was never submitted so far" if not state.spec else f"another version wrote it: {error}"
        raise SpecError(f"study {state.name!r} cannot be resumed without its file ({reason}) - submit it") from None


def _with_todays_keys(values: dict[str, Any]) -> dict[str, Any]:
    """A specification with the defaults of keys that came after it; as it is where it is none of today's."""
    try:
        return StudySpec.model_validate(values).model_dump(mode="json")
    except ValidationError:
        return values


def _comparable(values: dict[str, Any]) -> dict[str, Any]:
    evaluation = {key: value for key, value in values["evaluation"].items() if key not in NO_RESULT}
    evaluation["sets"] = {name: _without_place(data) for name, data in evaluation.get("sets", {}).items()}
    kept = {key: value for key, value in values.items() if key not in ("resources", "tables")}
    if downstream := kept.get("downstream"):
        looked = {key: value for key, value in downstream["evaluation"].items() if key not in NO_RESULT}
        kept["downstream"] = {key: value for key, value in downstream.items() if key != "resources"}
        kept["downstream"]["evaluation"] = looked
    return {**kept, "data": _without_place(values["data"]), "evaluation": evaluation}


def _without_place(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in ("path", "captions", "cache_bytes")}


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path}: {old} -> {new}"
