"""What is asked of a table of runs. A document holds its request, so that the fit can be repeated from the document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from transvae_platform.fitting.runs.read import TableError
from transvae_platform.fitting.saturation import MARGIN

LEVEL = 0.90
REPLICATES = 4000
FEWEST, MOST = 100, 100_000  # resamples: fewer have no percentiles, more need more memory than they tell (assumption)
FAMILIES = "L(N)"
"""Size means by family: with the VIEWS of laws.forms what is no sum of powers over rows."""


DEFAULT_LOSS = "val/l1"
EVERY_KIND = ("form", "columns", "loss", "where", "group")
READS = {
    "families": ("delta", "seed", "level", "margin", "at", "far"),
    "law": ("delta", "residuals", "least_absolute", "bootstrap", "seed", "level", "predict", "predict_columns", "far",
            "as_published"),
    "line": ("level",), "isoflop": ("level",), "curve": ("at",),
    "envelope": ("bins", "predict", "predict_columns", "best_of"),
}  # fmt: skip
"""Which choices the answer of each kind reads."""


@dataclass(frozen=True)
class Request:
    """form: its name. columns: variable -> expression over the table's columns; loss, where, predict: expressions.

    Rows for which `predict` holds are not fitted but predicted, with `predict_columns` in place of `columns` where
    given; as_published: however far they lie, because a publication did. delta bounds relative residuals, also linear
    ones (relative to the mean loss); L(N) is fitted by least squares, and a delta is one more of its sweep. `best_of`
    names columns: of the rows that agree in them only the least loss is compared.
    """

    form: str = FAMILIES
    columns: Mapping[str, str] = field(default_factory=dict)
    loss: str = DEFAULT_LOSS
    where: str | None = None
    group: tuple[str, ...] = ()
    delta: float | None = None
    residuals: Literal["log", "linear"] = "log"
    least_absolute: bool = False
    bootstrap: int = REPLICATES
    seed: int = 0
    level: float = LEVEL
    margin: float = MARGIN
    bins: int | None = None
    predict: str | None = None
    predict_columns: Mapping[str, str] = field(default_factory=dict)
    best_of: tuple[str, ...] = ()
    at: tuple[float, ...] = ()
    far: bool = False
    as_published: bool = False

    def __post_init__(self) -> None:
        """TableError for a value that no answer can use."""
        limits = [
            ("level must lie between 0 and 1", 0 < self.level < 1),
            ("margin must lie between 0 and 1", 0 < self.margin < 1),
            ("at must be positive and finite", all(0 < x < math.inf for x in self.at)),
            ("delta must be positive", self.delta is None or self.delta > 0),
            ("bins must be at least 2", self.bins is None or self.bins >= 2),
            (f"bootstrap must be 0 or {FEWEST} to {MOST}", self.bootstrap == 0 or FEWEST <= self.bootstrap <= MOST),
            ("seed must lie between 0 and 2^32 - 1", 0 <= self.seed < 2**32),
        ]
        for rule, holds in limits:
            if not holds:
                raise TableError(f"the request cannot be answered: {rule}")

    def unused(self, kind: str) -> list[str]:
        """Choices, other than the defaults, that the answer of this kind would not read."""
        return [name for name in self.chosen() if name not in (*EVERY_KIND, *READS[kind])]

    def chosen(self) -> list[str]:
        """What differs from the defaults, besides the loss."""
        usual = Request(loss=self.loss)
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)]

    def read_by(self, kind: str) -> dict[str, Any]:
        """What the answer of this kind was made from, as JSON values; an infinite delta is the text 'inf'."""
        values = {**asdict(self), "delta": "inf" if self.delta == float("inf") else self.delta}
        return {name: values[name] for name in (*EVERY_KIND, *READS[kind])}
