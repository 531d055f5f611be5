"""Finds data sets: by the name they were given, by their fingerprint, in a folder, on a store."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from transvae_platform.data.sets.manifest import Manifest, Quarantined, read_manifest
from transvae_platform.data.sets.notes import read_note, write_note
from transvae_platform.data.sets.remote import read_remote_manifest
from transvae_platform.data.sets.stores import printable
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.trial import stable_hash


@dataclass(frozen=True)
class DataSet:
    """A data set and where it lies: a folder or a URI."""

    manifest: Manifest
    location: str
    names: tuple[str, ...] = ()


def at_home(home: Path, manifest: Manifest) -> DataSet:
    """A data set that was made in this home."""
    return DataSet(manifest, str(home / "data" / manifest.fingerprint))


@dataclass(frozen=True)
class TrainingData:
    """What a study trains on: one data set, or several with their shares of the training samples."""

    parts: tuple[tuple[DataSet, float], ...]

    def __post_init__(self) -> None:
        seen: dict[str, DataSet] = {}
        for part, _ in self.parts:
            other = seen.setdefault(part.manifest.fingerprint, part)
            if other is not part:
                places = " and ".join(", ".join((*each.names, each.location)) for each in (other, part))
                raise SpecError(
                    f"data.parts: {places} are the same data set - name it once, with the sum of the shares"
                )

    @property
    def fingerprint(self) -> str:
        """That of the only data set; of a mixture, a hash of theirs and the shares."""
        if len(self.parts) == 1:
            return self.parts[0][0].manifest.fingerprint
        total = sum(share for _, share in self.parts)
        return stable_hash([[part.manifest.fingerprint, share / total] for part, share in self.parts])[:16]

    def samples(self, split: str) -> int:
        """Samples of a split in all parts."""
        return sum(part.manifest.samples(split) for part, _ in self.parts)

    @property
    def items(self) -> int:
        """Items of all sources, the quarantined ones included."""
        return sum(part.manifest.items for part, _ in self.parts)

    @property
    def quarantined(self) -> list[Quarantined]:
        """What was left out of all parts."""
        return [item for part, _ in self.parts for item in part.manifest.quarantined]


def check_name(name: str) -> None:
    """Raises SpecError if this cannot be the name of a data set."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", name):
        raise SpecError(
            f"--name: {name!r} - use small letters, digits, '.', '_' and '-', at most 60, e.g. imagenet-256"
        )
    if re.fullmatch(r"[0-9a-f]{16}", name):
        raise SpecError(
            f"--name: {name!r} looks like a fingerprint, by which data sets are found, too - give another name"
        )


def named(home: Path, name: str) -> DataSet | None:
    """What a name stands for; None if it is free: never given, damaged, or of a data set that is no longer there."""
    fingerprint = _names(home).get(name)
    manifest = read_manifest(home / "data" / fingerprint) if fingerprint else None
    return replace(at_home(home, manifest), names=(name,)) if manifest else None


def refuse_other(home: Path, name: str, fingerprint: str | None) -> None:
    """Raises SpecError if a name stands for another data set than this one (None: one that is not made yet)."""
    taken = named(home, name)
    if taken is None or taken.manifest.fingerprint == fingerprint:
        return
    manifest = taken.manifest
    origin = printable(str(manifest.source.get("location", "elsewhere")))
    this = f"this is {fingerprint}" if fingerprint else "this would be another data set"
    raise SpecError(
        f"--name: {name!r} stands for {manifest.fingerprint} ({manifest.kind} of {manifest.resolution} x "
        f"{manifest.resolution} from {origin}), {this} - choose another name, or "
        f"free it: delete {_note(home, name)}"
    )


def give_name(home: Path, name: str, manifest: Manifest) -> None:
    """Let `name` stand for this data set from now on.

    Raises:
        SpecError: it stands for another one; this one is kept, under its fingerprint.
    """
    refuse_other(home, name, manifest.fingerprint)
    path = _note(home, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_note(path, {"fingerprint": manifest.fingerprint})


class NoDataSetError(SpecError):
    """Nothing is behind a reference; who knows the key that it stands in says so."""


def find_data_set(home: Path, reference: str) -> DataSet:
    """The data set behind a name, a fingerprint, a folder or a URI.

    Raises:
        NoDataSetError: there is none; names what there is.
        UserError, UnreachableError: its manifest cannot be read.
    """
    if "://" in reference:
        return DataSet(read_remote_manifest(reference), reference)
    names = _names(home)
    for folder in (home / "data" / names.get(reference, reference), Path(reference)):
        if manifest := read_manifest(folder):
            return DataSet(manifest, str(folder.resolve()), (reference,) if reference in names else ())
    known = [name for data_set in look_through(home)[0] for name in (*data_set.names, data_set.manifest.fingerprint)]
    close = difflib.get_close_matches(reference, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'} (`transvae data list`)"
    raise NoDataSetError(f"no data set {reference!r} in {home / 'data'} - {hint}")


def list_data_sets(home: Path) -> list[DataSet]:
    """All data sets of a home, named ones first.

    Raises:
        UserError: manifests are damaged, or of a version that this code does not read.
    """
    found, unusable = look_through(home)
    if unusable:
        raise UserError("\n".join(unusable))
    return found


def look_through(home: Path) -> tuple[list[DataSet], list[str]]:
    """(the data sets of a home, named ones first; what is wrong with each manifest that cannot be used)."""
    names = _names(home)
    found, unusable = list[DataSet](), list[str]()
    for path in sorted((home / "data").glob("*/manifest.json")):
        try:
            manifest = read_manifest(path.parent)
        except UserError as error:
            unusable.append(str(error))
            continue
        if manifest is not None:
            own = tuple(sorted(name for name, fingerprint in names.items() if fingerprint == manifest.fingerprint))
            found.append(DataSet(manifest, str(path.parent), own))
    return sorted(found, key=lambda data_set: (not data_set.names, data_set.names)), unusable


def _note(home: Path, name: str) -> Path:
    return home / "data" / "names" / f"{name}.json"


def _names(home: Path) -> dict[str, str]:
    """What each readable name stands for: a damaged one stands for nothing until it is given again."""
    notes = {path.stem: read_note(path) for path in sorted((home / "data" / "names").glob("*.json"))}
    return {name: str(note["fingerprint"]) for name, note in notes.items() if note and "fingerprint" in note}
