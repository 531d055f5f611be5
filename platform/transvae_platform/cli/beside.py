"""What a report shows beside its study's journals: what MLflow says of its models, and what it is compared with."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from transvae_platform.errors import SpecError
from transvae_platform.study.folders import study_folder
from transvae_platform.study.state import StudyState

if TYPE_CHECKING:
    from transvae_dashboards.page import Beside


def beside(
    state: StudyState, home: Path, other: str | None = None, trials: tuple[str, str] | None = None,
    tracking_uri: str | None = None,
) -> Beside:  # fmt: skip
    """What stands beside a study of a home.

    Args:
        other: a study of the same home, known to be there.
        trials: by id or by its part before the hash, the first of this study, the second of the other, if one is named.
        tracking_uri: the MLflow server; default as for `study submit`.

    Raises:
        SpecError: no such trial.
    """
    from transvae_dashboards.follow.study import FollowedStudy
    from transvae_dashboards.page import Beside
    from transvae_platform.tracking.browse import try_versions

    against = FollowedStudy(study_folder(home, other)) if other is not None else None
    chosen = (_id_of(state, trials[0]), _id_of(against or state, trials[1])) if trials else None
    return Beside(lambda: try_versions(state.name, home, tracking_uri), against, chosen)


def _id_of(state: StudyState, given: str) -> str:
    found = [name for name, trial in state.trials.items() if given in (name, trial.trial.cell)]
    if len(found) == 1:
        return found[0]
    if found:
        raise SpecError(
            f"--compare-trials: {given} may be {' or '.join(found)} of study {state.name} - give one of them"
        )
    cells = [trial.trial.cell for trial in state.trials.values()]
    close = difflib.get_close_matches(given, [*cells, *state.trials], n=1)
    meant = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(dict.fromkeys(cells)) or 'none yet'}"
    raise SpecError(f"--compare-trials: study {state.name} has no trial {given!r} - {meant}")
