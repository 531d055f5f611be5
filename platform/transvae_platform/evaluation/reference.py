"""Moments of the features of original images, kept per data set and extractor: they do not depend on any model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from transvae_platform.evaluation.moments import Gaussian


def kept_reference(home: Path, key: str) -> Gaussian | None:
    """The moments kept under a key; None if there are none, or they are damaged."""
    try:
        arrays = load_file(_path(home, key))
        return Gaussian(int(arrays["count"][0]), arrays["mean"], arrays["covariance"])
    except (OSError, SafetensorError, KeyError):
        return None


def keep_reference(home: Path, key: str, moments: Gaussian) -> None:
    """Keep moments under a key; they appear whole or not at all."""
    path = _path(home, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        arrays = {"count": np.array([moments.count]), "mean": moments.mean, "covariance": moments.covariance}
        save_file(arrays, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _path(home: Path, key: str) -> Path:
    return home / "evaluations" / "reference" / f"{key}.safetensors"
