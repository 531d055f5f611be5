"""Moments of the features of original images, kept per data set and extractor: they do not depend on any model.

A file carries the SHA-256 of its numbers; where they are others, there are no kept moments, and they are made again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from transvae_platform.evaluation.moments import Gaussian

DIGEST = "sha256"
NAMES = ("count", "mean", "covariance")
Arrays = dict[str, NDArray[np.generic]]


def kept_reference(home: Path, key: str) -> Gaussian | None:
    """The moments kept under a key; None if there are none, or they are damaged."""
    try:
        with safe_open(_path(home, key), "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in NAMES}
            kept = (file.metadata() or {}).get(DIGEST)
    except (OSError, SafetensorError):
        return None
    return Gaussian(int(arrays["count"][0]), arrays["mean"], arrays["covariance"]) if kept == _digest(arrays) else None


def keep_reference(home: Path, key: str, moments: Gaussian) -> None:
    """Keep moments under a key; they appear whole or not at all."""
    path = _path(home, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        arrays: Arrays = {"count": np.array([moments.count]), "mean": moments.mean, "covariance": moments.covariance}
        save_file(arrays, temporary, {DIGEST: _digest(arrays)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in NAMES:
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _path(home: Path, key: str) -> Path:
    return home / "evaluations" / "reference" / f"{key}.safetensors"
