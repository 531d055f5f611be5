"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    """What was looked at: `home`, `lease`, `checkpoints`, ..."""
    verdict: Literal["ok", "warn", "wrong"]
    """`warn`: works, or mends itself, but should be known. `wrong`: a study would fail or lose something."""
    what: str
    way_out: str | None = None
    """What to do; None where nothing is to be done, or where `what` says it."""
