"""Where a result comes from: code, environment, machine. Short facts go into records, long texts into files.

A record names a text (the difference of a changed checkout, the list of installed packages) by its SHA-256; the text
itself is kept once per study as `<sha256>.diff` or `<sha256>.txt`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from transvae_platform.version import __version__

SOURCES = ("models", "platform")
CODE_FILE = "code.json"
"""Beside the sources that travel with a job: they are no git checkout there."""
UNKNOWN, CLEAN = "unknown", "none"
LIBRARIES = ("torch", "ray", "mlflow", "numpy", "pyarrow", "pillow", "simplejpeg", "torchmetrics")
ROOT = Path(__file__).resolve().parents[2]
DIFF = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv")  # a patch, whatever the user's git says


@dataclass(frozen=True)
class Code:
    """The version of the sources that run."""

    commit: str = UNKNOWN
    """The full hash; `unknown` outside a git checkout, for instance in an installed wheel."""
    difference: str = ""
    """What the checkout's sources differ by from that commit, as a patch for `git apply`; empty if nothing."""

    @property
    def name(self) -> str:
        """`0.1.0+g1a2b3c4d5e`, `.dirty` and a hash with uncommitted changes; the version where no commit is known."""
        if self.commit == UNKNOWN:
            return __version__
        changed = f".dirty{_sha256(self.difference)[:6]}" if self.difference else ""
        return f"{__version__}+g{self.commit[:10]}{changed}"


def code(root: Path = ROOT) -> Code:
    """The version of the sources below a folder: of the checkout, or of the one that a job's sources come from."""
    if (root / CODE_FILE).exists():
        return Code(**json.loads((root / CODE_FILE).read_text()))
    if not (root / ".git").exists():
        return Code()
    try:
        # only what can change a result: sources, not notes, runs or study files (those are in the spec)
        difference = _git(root, *DIFF, "HEAD", "--", *SOURCES)
        new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *SOURCES).split("\0")
        for name in filter(None, new):
            difference += _git(root, *DIFF, "--no-index", "--", os.devnull, name, answers=(0, 1))
        return Code(_git(root, "rev-parse", "HEAD").strip(), difference)
    except (OSError, subprocess.SubprocessError):
        return Code()


def write_code(folder: Path) -> None:
    """Write the version of the sources that run into a folder that copies of them lie in; `code` reads it there."""
    (folder / CODE_FILE).write_text(json.dumps(asdict(code())))


def lineage(keep: Path) -> dict[str, str | int]:
    """Code, libraries and machine of this process, as a flat dictionary; its texts are kept in the folder `keep`."""
    found, packages = code(), installed()
    record: dict[str, str | int] = {
        "code": found.name,
        "commit": found.commit,
        "difference": _keep(keep, found.difference, ".diff") if found.difference else CLEAN,
        "environment": _keep(keep, packages, ".txt"),
        "python": platform.python_version(),
    }
    record |= library_versions()
    return record | {"host": platform.node(), "machine": platform.machine(), "cpus": os.cpu_count() or 1}


def library_versions(*more: str) -> dict[str, str]:
    """Versions of the libraries that can change a result, and of those that only this one used."""
    return {library: importlib.metadata.version(library) for library in (*LIBRARIES, *more)}


def installed() -> str:
    """Python's version and every installed package as `name==version`, one per line, by name."""
    found = {(dist.name or "").lower(): dist.version for dist in importlib.metadata.distributions()}
    packages = [f"{name}=={version}" for name, version in sorted(found.items()) if name]
    return "\n".join([f"# python {platform.python_version()} on {platform.platform()}", *packages, ""])


def _keep(folder: Path, text: str, suffix: str) -> str:
    sha256 = _sha256(text)
    path = folder / f"{sha256}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{path.name}.{os.getpid()}"
        temporary.write_bytes(_bytes(text))
        temporary.rename(path)  # complete from the moment it is seen
    return sha256


def _sha256(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # sources need not be UTF-8


def _git(root: Path, *arguments: str, answers: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, check=False, timeout=10)
    if done.returncode not in answers:
        raise subprocess.SubprocessError(done.stderr.decode(errors="replace"))
    return done.stdout.decode("utf-8", "surrogateescape")
