"""Checkpoints: complete or absent, verified before use.

Protocol
1. A checkpoint is a folder `step_000000300` that holds `state/` (every tensor, one safetensors file per rank that
   wrote), `state.json` (step, metrics, best steps, numbers of the parts, trial, lineage), `ema/` (the averaged weights
   as a pretrained-model folder) and `manifest.json` (SHA-256 of every file).
2. In a folder, ranks write under a temporary name; every file and folder is flushed to the disk, and rank 0 renames:
   a folder with the final name is complete. On an object store, where nothing can be renamed in one go, the files go
   up first, under a name of this attempt's own, and the manifest last: with its manifest a checkpoint is complete.
   What killed writers left is removed when a trial starts.
3. Before use every file is compared with the manifest; from a store it is brought to a local folder first. A checkpoint
   that differs, that is of another step than its name or of another trial, or whose manifest is not the one that the
   trial's journal tells of, is set aside as `bad_...` and reported, and the next older one is taken; so is one that
   cannot be read, also not some seconds later. A store that does not give it says nothing of it. Rank 0 chooses, all
   compare.
4. After a new checkpoint is complete, those of later steps are removed, which a rewind took back, and those that are
   neither among the newest `keep` nor among the best nor the one that a rewind would lead to (`training/guard.py`, 5).
   One that cannot be removed is tried again after the next.
5. Rank 0 alone commits, sets aside and removes, and before each it asks the fence (`study/lease.py`, 5): a writer
   whose submission was superseded changes nothing.
6. After a checkpoint that is its trial's best, rank 0 writes what the registry takes of it (`ema/`, `state.json`) a
   second time, from memory, as `spare_000000300`, in the same way; spares of other steps are removed. It is verified
   like a checkpoint, and read only where the best one is damaged or gone (`tracking/result.py`). Where it cannot be
   written there is an alarm, and nothing else changes.
7. A checkpoint counts for a trial's journal when it is committed, not before. A crash between the two is harmless: the
   next attempt continues from the checkpoint and records it.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from transvae_platform.data.sets.stores import below
from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.lease import Fence
from transvae_platform.study.trial import Trial
from transvae_platform.training.manifest import MANIFEST, Hashes, fault, hash_files, other_identity, sha256_of
from transvae_platform.training.place import Draft
from transvae_platform.training.places import open_place
from transvae_platform.training.ranks import TROUBLE, reason

OnBad = Callable[[int, str], None]
"""Told of each checkpoint that was set aside: its step, and a sentence."""
READ_PAUSES = (1.0, 5.0)
"""Seconds before a checkpoint that cannot be read is tried again: a disk or a mount may come back (assumption)."""
PREFIX = "step_"
NAME = re.compile(f"{PREFIX}([1-9][0-9]*)?[0-9]{{9}}")
SPARE = "spare_"
"""Begins the name of the second copy of a trial's best weights."""
OWN_FILES = "shard-{:05d}-"
"""How the names of the files begin that a rank (counted from 1) writes; rank 0 also writes those of other names."""


class DamagedError(UserError):
    """A checkpoint is missing or damaged."""


class CheckpointStore:
    """The checkpoints of one trial at one place."""

    def __init__(
        self,
        location: str | Path,
        keep: int,
        fence: Fence | None = None,
        on_bad: OnBad = lambda step, message: None,
        recorded: Mapping[int, str] | None = None,
        owner: str | None = None,
    ) -> None:
        """`recorded` are the manifests' SHA-256 by step, as far as the journal of the trial `owner` tells."""
        self.place = open_place(location)
        self._keep, self._fence, self._on_bad, self._recorded = keep, fence, on_bad, dict(recorded or {})
        self._owner = owner

    def clean(self) -> None:
        """Remove what killed writers left; only the writer calls it."""
        self._pass_fence()
        self.place.clean()

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending; what has a name that no writer gives is none."""
        names = [name for name in self.place.names() if NAME.fullmatch(name)]
        return sorted(int(name.removeprefix(PREFIX)) for name in names)

    def draft(self, step: int, token: str) -> Draft:
        """A draft of a step's checkpoint; every rank calls it with the same token."""
        return self.place.draft(_name(step), token)

    def keep_files(self, draft: Draft, rank: int) -> Hashes:
        """Flush, hash and bring to their place the files that this rank wrote into the draft."""
        others = OWN_FILES.partition("{")[0]
        files = [path for path in sorted(draft.folder.rglob("*")) if path.is_file()]
        mine = [
            path
            for path in files
            if path.name.startswith(OWN_FILES.format(rank + 1)) or (rank == 0 and not path.name.startswith(others))
        ]
        hashes = hash_files(draft.folder, mine)
        self.place.send(draft, hashes)
        return hashes

    def commit(self, draft: Draft, files: Hashes) -> str:
        """Make a draft a checkpoint, given the hashes of all its files; returns the manifest's SHA-256."""
        self._pass_fence()
        sha256 = self.place.commit(draft, files)
        self._recorded[int(draft.name.removeprefix(PREFIX))] = sha256
        return sha256

    def retain(self, written: int, needed: Container[int]) -> str | None:
        """After the step `written`: remove what is neither new nor needed; what could not be removed and why."""
        name = ""
        try:
            self._pass_fence()
            steps = self.steps()
            taken_back = [step for step in steps if step > written]
            old = [step for step in steps if step <= written][: -self._keep]
            for step in (*taken_back, *(step for step in old if step not in needed)):
                name = _name(step)
                self.place.remove(name)
        except TROUBLE as error:
            return f"{self.place.location}/{name}: old checkpoints cannot be removed ({reason(error)})"
        return None

    @contextmanager
    def newest_good(
        self, latest: int | None = None, fits: Callable[[int, Path], bool] = lambda step, folder: True
    ) -> Iterator[tuple[int, Path] | None]:
        """(step, local folder) of the newest checkpoint whose bytes equal its manifest, or None.

        Damaged ones are set aside; only the writer calls it. Those after the step `latest`, and good ones that do not
        fit, are passed over.
        """
        for step in reversed([step for step in self.steps() if latest is None or step <= latest]):
            with self.place.fetched(_name(step)) as folder:
                try:
                    wrong = self._fault(step, folder)
                except OSError as error:
                    wrong = f"it cannot be read: {reason(error)}"
                if wrong is None and not fits(step, folder):
                    continue
                if wrong is None:
                    yield step, folder
                    return
            self._recorded.pop(step, None)  # training comes here again, and may write another one
            self._pass_fence()
            aside = self.place.set_aside(_name(step))
            self._on_bad(step, f"checkpoint of step {step} is damaged ({wrong}), moved to {aside}")
        yield None

    def keep_spare(self, step: int, write: Callable[[Path], None]) -> str:
        """Write the second copy of the best weights, and remove an earlier one; returns its manifest's SHA-256."""
        draft, committed = self.place.draft(_name(step, SPARE), uuid.uuid4().hex[:8]), False
        try:
            draft.folder.mkdir(parents=True)
            write(draft.folder)
            files = hash_files(draft.folder, [path for path in sorted(draft.folder.rglob("*")) if path.is_file()])
            self.place.send(draft, files)
            self._pass_fence()
            sha256 = self.place.commit(draft, files)
            committed = True
        finally:
            self.place.discard(draft, committed)
        for name in self.place.names():
            if name.startswith(SPARE) and name != draft.name:
                self.place.remove(name)
        return sha256

    @contextmanager
    def verified(self, step: int, spare: str | None = None) -> Iterator[Path]:
        """The local folder of a step's checkpoint after comparing it with its manifest, while the block lasts.

        Args:
            spare: the SHA-256 of the manifest of its second copy, empty if that is not known: take the copy instead.

        Raises:
            DamagedError: it is missing or damaged.
            UnreachableError: it cannot be read, or the store does not give it.
        """
        name = _name(step) if spare is None else _name(step, SPARE)
        where = f"{self.place.location}/{name}"
        with ExitStack() as opened:
            try:
                folder = opened.enter_context(self.place.fetched(name))
            except OSError as error:
                raise UnreachableError(f"{where}: the checkpoint cannot be fetched ({reason(error)})") from None
            try:
                wrong = self._fault(step, folder, spare)
            except OSError as error:
                raise UnreachableError(f"{where}: the checkpoint cannot be read ({reason(error)})") from None
            if wrong is not None:
                raise DamagedError(f"{where}: the checkpoint cannot be used: {wrong}")
            yield folder

    def _fault(self, step: int, folder: Path, spare: str | None = None) -> str | None:
        recorded = self._recorded.get(step, "") if spare is None else spare
        for pause in READ_PAUSES:
            try:
                return self._look(step, folder, recorded)
            except OSError:
                time.sleep(pause)
        return self._look(step, folder, recorded)

    def _look(self, step: int, folder: Path, recorded: str) -> str | None:
        wrong = fault(folder)
        if wrong is None and recorded not in ("", sha256_of(folder / MANIFEST)):
            return f"{MANIFEST} is not the one that the trial's journal tells of"
        return wrong or other_identity(folder, step, self._owner)

    def _pass_fence(self) -> None:
        if self._fence is not None:
            self._fence.check()


def open_checkpoints(
    trial: Trial,
    folder: Path,
    fence: Fence | None = None,
    on_bad: OnBad = lambda step, message: None,
    recorded: Mapping[int, str] | None = None,
) -> CheckpointStore:
    """The checkpoints of a trial: where `resources.checkpoints` says, else in the trial's own folder."""
    location: str | Path = folder / "checkpoints"
    if trial.checkpoints is not None:
        location = below(below(trial.checkpoints, trial.study), trial.id)
    return CheckpointStore(location, trial.evaluation.keep_checkpoints, fence, on_bad, recorded, trial.id)


def _name(step: int, prefix: str = PREFIX) -> str:
    return f"{prefix}{step:09d}"
