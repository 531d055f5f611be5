"""Damaged data sets of a study, set aside so that the submission which found them makes them again.

1. A training that finds a damaged shard ends with its name (`training/shard_check.py`), and so do latents that were to
   be made of one. Planning looks at sizes only.
2. So the next submission of a study with failed trials reads what the study made itself in its home: the data sets of
   its sources, which it has just listed, and its latents. Those that are damaged are set aside (`data/making/work.py`)
   and made again, like any that are missing.
3. What comes out is the same data set, or the study is refused as changed: its name is a hash of what is in it.
4. What was ingested or copied by a person, who alone knows where from, stays as it is; the error says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from transvae_platform.cluster.planning import Prepared
from transvae_platform.data.making.verify import find_damage
from transvae_platform.data.making.work import set_aside
from transvae_platform.data.sets.manifest import read_manifest
from transvae_platform.errors import UserError
from transvae_platform.study.state import StudyState


def set_aside_damaged(prepared: Prepared, state: StudyState, home: Path, say: Callable[[str], None]) -> bool:
    """Whether one was found, so that the study has to be prepared again; see above."""
    failed = [trial for trial in state.in_state("failed") if not trial.diverged]
    bad = [folder for folder in (_own(prepared, state, home) if failed else ()) if _is_damaged(folder, say)]
    for folder in bad:
        say(f"{folder} is damaged and set aside: it is made again")
        set_aside(folder)
    return bool(bad)


def _own(prepared: Prepared, state: StudyState, home: Path) -> Iterator[Path]:
    """The folders of the data sets that this study makes if they are missing."""
    for source in (prepared.source, *prepared.sets.values()):
        if source.listing is not None and source.fingerprint is not None:
            yield home / "data" / source.fingerprint
    for made in state.latents.values():
        yield from (home / "data" / Path(location).name for location in made["locations"])


def _is_damaged(folder: Path, say: Callable[[str], None]) -> bool:
    try:
        manifest = read_manifest(folder)
    except UserError:  # it cannot be read: what was made of images counts as missing
        return False
    if manifest is None:
        return False
    say(f"comparing {folder} with its manifest")
    return bool(find_damage(str(folder), manifest))
