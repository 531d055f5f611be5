"""The home: can it be written, does its file system keep what the platform's protocols rely on, is there room."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from transvae_platform.cluster.doctor.finding import Finding

SPARE_BYTES = 10**9  # journals, pictures and pages beside the checkpoints (assumption)


def check_home(home: Path, needed: int) -> list[Finding]:
    """Findings about the folder itself; `needed` bytes are still to be written there."""
    if not home.is_dir():
        return [
            Finding("home", "wrong", f"{home} is no folder", "give --home the folder of studies, or submit a first one")
        ]
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home) as probe:
            missing = _missing_abilities(Path(probe))
    except OSError as error:
        way_out = "free space, mend its permissions or choose another --home"
        return [Finding("home", "wrong", f"{home} cannot be written ({error.strerror or error})", way_out)]
    findings = [Finding("home", "ok", f"{home} can be written; fsync, rename and links work there")]
    if "flock" in missing:
        findings = [
            Finding(
                "home", "warn", f"{home} can be written, but its file system has no flock",
                "a second process then waits up to half a minute before it takes over a study; mount with flock if "
                "you can",
            )
        ]  # fmt: skip
    for ability in missing - {"flock"}:
        way_out = "checkpoints and journals may be lost on a crash: choose a --home on a local disk, NFS 4 or Lustre"
        findings.append(Finding("home", "wrong", f"{ability} does not work in {home}", way_out))
    return [*findings, _room(home, needed)]


def _missing_abilities(folder: Path) -> set[str]:
    """Which of fsync, rename and flock the file system lacks.

    Raises:
        OSError: it cannot be written at all.
    """
    missing = set()
    old, new = folder / "old", folder / "new"
    old.write_text("old")
    with new.open("w") as file:
        file.write("new")
        file.flush()
        try:
            os.fsync(file.fileno())
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        except OSError:
            missing.add("fsync")
    try:
        new.replace(old)
        (folder / "complete").mkdir()
        (folder / "complete").rename(folder / "final")
        if old.read_text() != "new" or not (folder / "final").is_dir():
            missing.add("rename")
    except OSError:
        missing.add("rename")
    if not _has_flock(old):
        missing.add("flock")
    return missing


def _has_flock(path: Path) -> bool:
    with path.open() as first, path.open() as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True  # the second one was held off, as it should be
        except OSError:
            return False
    return False


def _room(home: Path, needed: int) -> Finding:
    free = shutil.disk_usage(home).free
    what = f"{free / 1e9:.1f} GB free, {needed / 1e9:.3g} GB of checkpoints are still to be written"
    if free < needed:
        way_out = "free space, choose another --home, or lower evaluation.keep_checkpoints in a new study"
        return Finding("disk", "wrong", what, way_out)
    if free < needed + SPARE_BYTES:
        return Finding("disk", "warn", what, "free space: journals and pages need some too")
    return Finding("disk", "ok", what)
