"""Where a result comes from: code version, library versions, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from transvae_platform.version import __version__

SOURCES = ("models", "platform")
CODE_VERSION_VARIABLE = "TRANSVAE_CODE_VERSION"
LIBRARIES = ("torch", "ray", "mlflow", "numpy", "pyarrow", "pillow", "simplejpeg", "torchmetrics")


def code_version() -> str:
    """`0.1.0+g1a2b3c4d5e` in a git checkout (`.dirty` and a hash with uncommitted changes), else the version."""
    if (given := os.environ.get(CODE_VERSION_VARIABLE)) is not None:  # a job runs from uploaded sources
        return given
    version = __version__
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return version
    try:
        commit = _git(root, "rev-parse", "--short=10", "HEAD")
        # only what can change a result: sources, not notes, runs or study files (those are in the spec)
        changes = _git(root, "diff", "HEAD", "--", *SOURCES)
        new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *SOURCES).split()
    except (OSError, subprocess.SubprocessError):
        return version
    if not changes and not new:
        return f"{version}+g{commit}"
    content = hashlib.sha256(changes.encode())
    for name in new:
        content.update((root / name).read_bytes())
    return f"{version}+g{commit}.dirty{content.hexdigest()[:6]}"


def lineage() -> dict[str, str | int]:
    """Code, library and machine of this process, as a flat dictionary."""
    record: dict[str, str | int] = {"code": code_version(), "python": platform.python_version()}
    record |= library_versions()
    return record | {"host": platform.node(), "machine": platform.machine(), "cpus": os.cpu_count() or 1}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a result."""
    return {library: importlib.metadata.version(library) for library in LIBRARIES}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
