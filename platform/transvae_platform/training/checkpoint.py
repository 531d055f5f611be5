"""Checkpoints on disk: complete or absent, verified before use.

Protocol
1. A checkpoint is a folder `step_000000300` that holds `state.pt` (weights, optimiser, step), `ema/` (the averaged
   weights as a pretrained-model folder) and `manifest.json` (SHA-256 of every file).
2. It is written under a temporary name, every file is flushed to the disk, and the folder is renamed: a folder with
   the final name is complete. Temporary folders of killed writers are removed when a store is opened.
3. Before use every file is compared with the manifest. A checkpoint that differs is renamed to `bad_...` and reported,
   and the next older one is taken.
4. The newest `keep` checkpoints and the best one stay; the others are removed after a new one is complete.
5. One process writes: rank 0 of the trial.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from transvae_platform.errors import UserError

PREFIX = "step_"


class CheckpointStore:
    """The checkpoints of one trial in one folder."""

    def __init__(self, folder: Path, keep: int, on_bad: Callable[[str], None] = lambda message: None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._keep, self._on_bad = folder, keep, on_bad

    def clean(self) -> None:
        """Remove what killed writers left; only the writer calls it."""
        for leftover in self.folder.glob(".writing_*"):
            shutil.rmtree(leftover)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(int(path.name.removeprefix(PREFIX)) for path in self.folder.glob(f"{PREFIX}*"))

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.folder / f"{PREFIX}{step:09d}"

    def save(self, step: int, write: Callable[[Path], None], best_step: int | None) -> str:
        """Commit a checkpoint whose files `write` puts into the folder it is given; returns the manifest's SHA-256."""
        temporary = self.folder / f".writing_{step:09d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {path.relative_to(temporary).as_posix(): _sha256_synced(path) for path in files}
        manifest = json.dumps(hashes, indent=1)
        (temporary / "manifest.json").write_text(manifest)
        _sha256_synced(temporary / "manifest.json")
        final = self.path(step)
        shutil.rmtree(final, ignore_errors=True)  # the same step of an attempt whose later work was lost
        temporary.rename(final)
        _sync_folder(self.folder)
        self._retain(best_step)
        return hashlib.sha256(manifest.encode()).hexdigest()

    def newest_good(self) -> int | None:
        """Step of the newest checkpoint whose bytes equal its manifest, or None; only the writer calls it."""
        for step in reversed(self.steps()):
            path = self.path(step)
            if (fault := _fault(path)) is None:
                return step
            quarantine = path.with_name(f"bad_{path.name}")
            shutil.rmtree(quarantine, ignore_errors=True)
            path.rename(quarantine)
            self._on_bad(f"checkpoint of step {step} is damaged ({fault}), moved to {quarantine.name}")
        return None

    def verified(self, step: int) -> Path:
        """The folder of a step's checkpoint after comparing it with its manifest.

        Raises:
            UserError: it is missing or damaged.
        """
        if (fault := _fault(self.path(step))) is not None:
            raise UserError(f"{self.path(step)}: the checkpoint cannot be used: {fault}")
        return self.path(step)

    def _retain(self, best_step: int | None) -> None:
        for step in self.steps()[: -self._keep]:
            if step != best_step:
                shutil.rmtree(self.path(step))


def _fault(path: Path) -> str | None:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        if not isinstance(manifest, dict) or not manifest:
            return "manifest.json lists no files"
        for name, expected in manifest.items():
            with (path / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return f"{name} differs from its SHA-256"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _sha256_synced(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
