"""Files of a source that cannot be listed, such as damaged tars and tables: all are found before anybody is told.

An image that cannot be read costs itself only, but what a broken tar or table holds is unknown: an ingest that passed
it over would make another data set than the one that was meant. So it is refused, with the names of all such files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError

REQUESTS = 8
"""Files that are looked into at the same time: threads overlap the waiting for a store (assumption)."""

UNREADABLE = (pa.ArrowException, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
_KEY = "data.path: "
T = TypeVar("T")


def list_each(function: Callable[..., T], files: Sequence[dict[str, Any]]) -> tuple[list[T], tuple[str, ...]]:
    """(what the function makes of each file, what is wrong with each of which it makes nothing), both in order.

    Raises:
        UnreachableError: the store of a file does not answer.
    """

    def attempt(file: dict[str, Any]) -> tuple[list[T], str]:
        try:
            return [function(**file)], ""
        except SpecError as error:
            return [], str(error).removeprefix(_KEY)
        except UNREADABLE as error:  # parsers tell damage in many ways
            name = next((str(value) for key, value in file.items() if key in ("path", "name", "file")), "a file")
            what = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
            told = f"{type(error).__name__}: {what}"
            return [], f"{printable(name)} cannot be listed ({told}) - download or make it again"

    with ThreadPoolExecutor(max_workers=REQUESTS) as pool:
        answers = list(pool.map(attempt, files))
    return [made for found, _ in answers for made in found], tuple(wrong for _, wrong in answers if wrong)


def refuse_broken(location: str, broken: Sequence[str]) -> None:
    """Raises SpecError if there are broken files: the one, or all of them with one line each."""
    if len(broken) == 1:
        raise SpecError(f"{_KEY}{broken[0]}")
    if broken:
        lines = "".join(f"\n  {wrong}" for wrong in broken)
        raise SpecError(
            f"{_KEY}{len(broken)} files of {printable(location)} cannot be used - mend each, or move it away:{lines}"
        )
