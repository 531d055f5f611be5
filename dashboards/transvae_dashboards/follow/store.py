"""What pages need of trials that are over, kept beside their journals, so that those are not read again.

Protocol
1. The store is the folder `dashboard/` of a study. Everything in it can be made again from the journals: deleting it
   costs time, never a number. Without room or permission nothing is kept, and every process reads for itself.
2. A trial that is over has two files there: `<id>-<offset>.npy`, its thinned curves in one array of two rows (steps,
   values), and, written after it, `<id>.json`: how far the journal was read, where each curve lies in the array, the
   attempts, and the trial's state.
3. They hold for a journal that is at least as long as it was and whose bytes just before that place are the same
   (`TAIL` of them, by CRC-32); any other is read from its beginning. Damage before that place is not seen here any
   more: `transvae doctor` and every submission read whole journals.
4. Both files appear complete or not at all (written aside, then renamed). Writers need no lock: equal journals give
   equal files, and a JSON file names the array it belongs to.
5. A record that goes on with a trial that was over makes its whole journal be read again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from transvae_dashboards.follow.columns import Columns, Curve
from transvae_dashboards.follow.spans import History, history_of
from transvae_dashboards.follow.thinning import Floats
from transvae_platform.files import whole_file
from transvae_platform.study.journal import Position
from transvae_platform.study.state import TrialState

VERSION = 1
"""Raised when older files would be read wrongly."""
FOLDER = "dashboard"
TAIL = 64
"""Bytes of a journal that tell it from another: they hold the last record's own checksum."""
OF_STUDY = ("trial", "folder", "cost", "registered", "unregistered", "ended_with")
"""Of a trial's state: what the study's journal says, which is read anyway."""
BY_STEP = ("train", "validation", "checkpoints", "picture_psnr")


def keep(trial: TrialState, position: Position, columns: Columns, history: History) -> None:
    """Write a trial's files (protocol 2); where that is impossible nothing is kept."""
    folder = trial.folder.parents[1] / FOLDER
    places, parts, length = {}, [], 0
    for name, curve in columns.items():
        parts.append(np.stack(curve))
        places[name] = [length, length + len(curve[0])]
        length = places[name][1]
    array = f"{trial.trial.id}-{position.offset}.npy"
    note = {
        "version": VERSION, "position": list(position), "tail": _tail(trial.folder, position.offset), "array": array,
        "places": places, "spans": history.as_json(), "state": _state_of(trial),
    }  # fmt: skip
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        with whole_file(folder / array) as path:
            np.save(path, np.concatenate([np.empty((2, 0)), *parts], axis=1))
        with whole_file(folder / f"{trial.trial.id}.json") as path:
            path.write_text(json.dumps(note))
        for older in folder.glob(f"{trial.trial.id}-*.npy"):
            if older.name != array:
                older.unlink()


def recall(trial: TrialState) -> tuple[Position, Columns, History] | None:
    """Fill a trial's state from the store; None if it holds nothing that fits the journal (protocol 3)."""
    path = trial.folder.parents[1] / FOLDER / f"{trial.trial.id}.json"
    try:
        note = json.loads(path.read_bytes())
        if note["version"] != VERSION or note["tail"] != _tail(trial.folder, note["position"][0]):
            return None
        columns = Columns(StoredCurves(path.with_name(note["array"]), note["places"]))
        _restore(trial, note["state"])
        return Position(*note["position"]), columns, history_of(note["spans"])
    except (OSError, ValueError, KeyError, TypeError):  # gone, cut off, or of another version
        return None


class StoredCurves(Mapping[str, Curve]):
    """The curves of an array file, which is opened when the first one is asked for."""

    def __init__(self, path: Path, places: Mapping[str, tuple[int, int]]) -> None:
        """Raises FileNotFoundError."""
        path.stat()
        self._path, self._places = path, places
        self._array: Floats | None = None

    def __getitem__(self, name: str) -> Curve:
        first, end = self._places[name]
        if self._array is None:
            self._array = np.load(self._path, allow_pickle=False)
        return self._array[0, first:end], self._array[1, first:end]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _tail(folder: Path, offset: int) -> int | None:
    """The checksum of the bytes before a place of a trial's journal; None if it is shorter."""
    try:
        with (folder / "journal.jsonl").open("rb") as file:
            file.seek(max(offset - TAIL, 0))
            wanted = min(TAIL, offset)
            found = file.read(wanted)
    except OSError:
        return None
    return zlib.crc32(found) if len(found) == wanted else None


def _state_of(trial: TrialState) -> dict[str, Any]:
    """A trial's state as JSON values; keys of dictionaries become text."""
    values = {f.name: getattr(trial, f.name) for f in fields(trial) if f.name not in OF_STUDY}
    values["pictures"] = {step: _relative(trial, path) for step, path in trial.pictures.items()}
    values["set_pictures"] = {
        step: {name: [_relative(trial, path), psnr] for name, (path, psnr) in drawn.items()}
        for step, drawn in trial.set_pictures.items()
    }
    return values


def _restore(trial: TrialState, values: dict[str, Any]) -> None:
    for name in BY_STEP:
        values[name] = {int(step): value for step, value in values[name].items()}
    values["pictures"] = {int(step): trial.folder / path for step, path in values["pictures"].items()}
    values["set_pictures"] = {
        int(step): {name: (trial.folder / path, psnr) for name, (path, psnr) in drawn.items()}
        for step, drawn in values["set_pictures"].items()
    }
    if values.keys() != {f.name for f in fields(trial)} - {*OF_STUDY}:
        raise KeyError("a state of another version")
    for name, value in values.items():
        setattr(trial, name, value)


def _relative(trial: TrialState, path: Path) -> str:
    return str(path.relative_to(trial.folder))
