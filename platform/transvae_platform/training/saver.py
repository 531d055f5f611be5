"""Saves a trial's weights while training goes on.

Protocol
1. The training thread of every rank copies what the rank owns to the CPU and starts a thread; the threads write, flush
   and hash, rank 0's commits (`training/checkpoint.py`). One save at a time: the next one waits for the last.
2. What came of it is known to the training thread at `tell`, `wait` or `finish`, and only then stands in the journal:
   `checkpoint` for a committed one, `alarm` when one could not be written, once per cause, `alarm_over` when saving
   works again. Training goes on after a failed save; the last checkpoint is still the newest, and the next is tried.
3. No checkpoint is ahead of its journal: while records wait for room (`study/journal.py`, 8), every save fails. A kill
   would lose them, and the next attempt would not take their steps again.
4. At the end a failed save is tried again; a trial whose last checkpoint or whose journal cannot be written has failed.
5. A writer whose submission was superseded raises SupersededError in the training thread.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from transvae_platform.errors import UserError
from transvae_platform.study.journal import Journal
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.manifest import Hashes
from transvae_platform.training.ranks import TROUBLE, Ranks, SaveError, reason
from transvae_platform.training.shard_check import ShardCheck
from transvae_platform.training.weights import Snapshot, TrialWeights
from transvae_platform.world import World

RETRY_SECONDS = (5.0, 20.0, 60.0)
"""Pauses before the last checkpoint is tried again: somebody may be making room (assumption)."""
CLOSE_SECONDS = 60.0
"""How long a training that ends with an error lets the save in flight end: another rank may be dead (assumption)."""


class Content(Protocol):
    """What a checkpoint is made of."""

    @property
    def step(self) -> int:
        """The step it is taken at."""

    def write(self, folder: Path, ranks: Ranks) -> None:
        """Put this rank's files into a folder; all ranks call it."""


class Saver:
    """Saves the weights of a trial at one place; every rank has one, and calls it alike."""

    def __init__(
        self,
        store: CheckpointStore,
        world: World,
        journal: Journal | None,
        lineage: Mapping[str, Any],
        newest: int | None = None,
        pauses: Sequence[float] | None = None,
        check: ShardCheck | None = None,
    ) -> None:
        """`newest` is the step of the newest checkpoint, `pauses` the seconds between attempts at the end.

        Nothing is saved before `check` has found the data whole.
        """
        self._store, self._journal, self._lineage = store, journal, lineage
        self._check = check
        self._newest, self._pauses = newest, RETRY_SECONDS if pauses is None else pauses
        self._ranks = Ranks(world.rank, world.size)
        self._save: _Save | None = None
        self._failed: tuple[Snapshot, str] | None = None
        self._alarms: set[str] = set()
        self._beside: list[tuple[str, str]] = []
        """(cause, message) of alarms that are told when the next checkpoint is written."""

    def save(self, weights: TrialWeights) -> None:
        """Begin to save the weights as they are now, once the last save has ended; nothing if they are saved.

        Raises:
            DamagedDataError: what they were trained on is damaged.
            SupersededError: as `tell`.
        """
        if self._check is not None:
            self._check.settle()
        self.wait()
        if self._failed is not None and self._failed[0].step != weights.step:
            weights.forget(self._failed[0].step)
        if weights.step != self._newest:
            self._begin(weights.snapshot(self._lineage, self._ranks.rank, self._ranks.size))

    def take_back(self, weights: TrialWeights, world: World) -> None:
        """Let the weights be those of the checkpoint that a rewind leads to, or of the beginning. Raises as `tell`."""
        self.wait()
        self._failed = None  # its step is taken again
        weights.take_back(self._store, world)
        self._newest = weights.step or None

    def tell(self) -> None:
        """Tell the journal what came of the last save, if it has ended.

        Raises:
            SupersededError: a later submission has taken over.
        """
        if self._save is not None and not self._save.is_alive():
            self._hear(self._save)

    def wait(self) -> None:
        """Wait until the last save has ended, and tell what came of it. Raises as `tell`."""
        if self._save is not None:
            self._save.join()
            self._hear(self._save)

    def finish(self) -> None:
        """The end of the trial: wait for the last checkpoint, and try again if it failed.

        Raises:
            UserError: it cannot be written.
            SupersededError: as `tell`.
        """
        self.wait()
        for pause in self._pauses:
            if self._failed is None:
                return
            time.sleep(pause)
            self._begin(self._failed[0])
            self.wait()
        if self._failed is not None:
            snapshot, problem = self._failed
            raise UserError(
                f"{self._store.place.location}: the last checkpoint, of step {snapshot.step}, cannot be written "
                f"({problem}) - make room and submit again: the trial continues from its newest checkpoint"
            )

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Tell the journal that the trial has finished, and wait for room until that is on the disk.

        Raises:
            UserError: there is none.
            SupersededError: as `tell`.
        """
        if self._journal is None:
            return
        self._journal.append("finished", step=step, metrics=metrics)
        problem = self._journal.settle()
        for pause in self._pauses:
            if problem is None:
                return
            time.sleep(pause)
            problem = self._journal.settle()
        if problem is not None:
            raise UserError(
                f"the trial's journal cannot be written ({problem}) - make room and submit again: the trial continues "
                f"from the checkpoint of step {step}"
            )

    def mind(self, cause: str, message: str) -> None:
        """Something beside the coming checkpoint could not be written: an alarm, unless the checkpoint has its own."""
        self._beside.append((cause, message))

    def close(self) -> None:
        """The end of a training that raised an error: let a save in flight end, and tell of it if it is committed."""
        save = self._save
        if save is not None:
            save.join(CLOSE_SECONDS)
            if not save.is_alive() and save.error is None:
                self._hear(save)

    def _begin(self, snapshot: Snapshot) -> None:
        behind = self._journal.settle() if self._journal else None
        self._save = _Save(self._store, self._ranks, snapshot, behind)
        self._save.start()

    def _hear(self, save: _Save) -> None:
        self._save, step = None, save.snapshot.step
        if isinstance(save.error, SaveError):
            self._failed = (save.snapshot, str(save.error))
            newest = "there is none yet" if self._newest is None else f"the newest is that of step {self._newest}"
            self._beside.clear()
            self.alarm(
                str(save.error),
                f"{self._store.place.location}: the checkpoint of step {step} cannot be written ({save.error}); "
                f"training goes on, {newest}",
                step,
            )
            return
        if save.error is not None:
            raise save.error
        self._failed, self._newest = None, step
        if self._journal:
            best = save.snapshot.best_steps[0] if save.snapshot.best_steps else None
            spare = {"spare": save.spare} if save.spare else {}
            self._journal.append("checkpoint", step=step, sha256=save.sha256, best_step=best, **spare)
        if save.leftover is not None:
            self._beside.append((save.leftover, f"{save.leftover}; training goes on"))
        if self._alarms and not self._beside:
            self._alarms.clear()
            if self._journal:
                self._journal.append("alarm_over", step=step, message=f"the checkpoint of step {step} is written")
        for cause, message in self._beside:
            self.alarm(cause, message, step)
        self._beside.clear()

    def alarm(self, cause: str, message: str, step: int) -> None:
        """Tell the journal of something that training survives; once per cause, until saving works again."""
        if cause not in self._alarms and self._journal:
            self._journal.append("alarm", step=step, message=message)
        self._alarms.add(cause)


class _Save(threading.Thread):
    """One save of one rank, from the copies to the commit."""

    def __init__(self, store: CheckpointStore, ranks: Ranks, snapshot: Snapshot, behind: str | None) -> None:
        """`behind` is why the journal cannot be written, on rank 0; None where it is."""
        super().__init__(name="saver", daemon=True)
        self.snapshot, self._behind = snapshot, behind
        self.sha256 = ""
        self.spare = ""
        """The SHA-256 of the manifest of the second copy, if there is one."""
        self.leftover: str | None = None
        self.error: BaseException | None = None
        self._store, self._ranks = store, ranks

    def run(self) -> None:
        try:
            self._ranks.together(self._refuse_ahead)
            self.sha256 = save_checkpoint(self._store, self.snapshot, self._ranks)
            if self._ranks.rank == 0:
                self.leftover = self._store.retain(self.snapshot.step, self.snapshot.needed)
                if self.snapshot.step in self.snapshot.best_steps[:1]:
                    self._keep_spare()
        except BaseException as error:  # noqa: BLE001 - handed to the training thread, which raises it
            self.error = error

    def _keep_spare(self) -> None:
        try:
            self.spare = self._store.keep_spare(self.snapshot.step, self.snapshot.write_result)
        except TROUBLE as error:
            where = self._store.place.location
            self.leftover = f"{where}: a second copy of the best weights cannot be written ({reason(error)})"

    def _refuse_ahead(self) -> None:
        if self._behind is not None:
            raise OSError(f"the journal cannot be written: {self._behind}")


def save_checkpoint(store: CheckpointStore, content: Content, ranks: Ranks) -> str:
    """Write and commit a checkpoint; all ranks call it. Returns the manifest's SHA-256.

    Raises:
        SaveError: on all ranks, if one of them could not write; nothing is left of the checkpoint.
        SupersededError: on rank 0, if a later submission has taken over.
    """
    token = ranks.share(uuid.uuid4().hex[:8])[0]
    draft, committed = store.draft(content.step, token), False
    try:
        ranks.together(lambda: draft.folder.mkdir(parents=True, exist_ok=True))
        content.write(draft.folder, ranks)
        files: Hashes = {}
        for hashes in ranks.together(lambda: store.keep_files(draft, ranks.rank)):
            files |= hashes
        (sha256, *_) = ranks.together(lambda: store.commit(draft, files) if ranks.rank == 0 else "")
        committed = True
        return sha256
    finally:
        store.place.discard(draft, committed)
