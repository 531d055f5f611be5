"""How one photograph becomes samples: the central square, or many crops. Pure functions of pixels and settings.

Samples are uint8 RGB arrays of shape (n, R, R, 3) with R the resolution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transvae_platform.data.pixels.geometry import GEOMETRIES, Pixels, refuse_small, resize
from transvae_platform.data.pixels.memory import enough_memory
from transvae_platform.study.data_spec import CropsView, Data


def cut_samples(image: Pixels, data: Data, sha256: str) -> NDArray[np.uint8]:
    """The samples of one photograph (H, W, 3), a function of its pixels, its hash and the settings.

    Raises:
        UnreadableImageError: the photograph is smaller than one sample, and the view does not enlarge.
        UnreachableError: this machine's memory does not suffice.
    """
    if isinstance(data.view, CropsView) or not data.view.enlarge:
        refuse_small(image, data.resolution)
    with enough_memory(f"resize an image of {image.shape[1]} x {image.shape[0]} pixels"):
        if isinstance(data.view, CropsView):
            return _random_crops(image, data.resolution, data.view, int(sha256[:15], 16) ^ data.seed)
        return GEOMETRIES[data.view.geometry](image, data.resolution)[None]


def _random_crops(image: Pixels, resolution: int, view: CropsView, seed: int) -> NDArray[np.uint8]:
    height, width, _ = image.shape
    # a scale at which the photograph is smaller than a sample is lifted to the smallest one that fits
    scaled = []
    for scale in view.scales:
        factor = max(scale, resolution / min(height, width))
        size = (max(resolution, round(height * factor)), max(resolution, round(width * factor)))
        scaled.append(resize(image, *size) if factor < 1 else image)
    random = np.random.Generator(np.random.PCG64(seed))
    crops = np.empty((view.per_photograph, resolution, resolution, 3), np.uint8)
    for index, which in enumerate(random.integers(len(scaled), size=view.per_photograph)):
        height, width, _ = scaled[which].shape
        top = random.integers(height - resolution + 1)
        left = random.integers(width - resolution + 1)
        crops[index] = scaled[which][top : top + resolution, left : left + resolution]
    return crops
