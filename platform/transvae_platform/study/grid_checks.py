"""What is refused of a grid before it is built."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from transvae_platform.errors import SpecError
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.variants import Variant
from transvae_platform.study.workers_spec import Workers


def check_batch(spec: StudySpec, key: str, cell: str, batch: int, workers: Workers) -> None:
    for what, count in (("workers", workers.workers), ("workers x accumulate", workers.workers * workers.accumulate)):
        if batch % count:
            raise SpecError(
                f"{spec.study}: {key}: {batch} does not divide among the {count} {what} of {cell} - choose a multiple"
            )
    if workers.sharding == "fsdp" and workers.workers == 1:
        raise SpecError(
            f"{spec.study}: resources.sharding: fsdp divides weights among the workers of a trial, and {cell} has one "
            "- give it more `workers`, or ddp"
        )


def check_variants(variants: Sequence[Variant], names: Sequence[str]) -> None:
    for variant in variants:
        check_patterns(f"grid.variants.{variant.name}.models", variant.models, names)
    for name in names:
        if not any(variant.has(name) for variant in variants):
            raise SpecError(f"grid.families: no variant has {name} - add it to the `models` of one, or remove it")


def check_patterns(key: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    known = sorted(names)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            close = difflib.get_close_matches(pattern, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"this study's models: {', '.join(known)}"
            raise SpecError(f"{key}: {pattern!r} matches no model of the grid - {hint}")
