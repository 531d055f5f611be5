"""How evenly latents fill their space: density CV, normalised entropy and Gini of their t-SNE map (VA-VAE, table 2b).

Settings are those of LightningDiT's `tools/latent_vis.py`, repeated as it asks ("run 10 times and take the average").
The published values (CV 0.20 to 0.22) lie close to what points without any structure have, the floor of the scale, and
t-SNE moves with its seed: floor and spread are part of every record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transvae_platform.errors import UserError
from transvae_platform.evaluation.latent_space.records import MEASURES

if TYPE_CHECKING:  # with torch, which pages that show a measurement need not load
    from transvae_platform.evaluation.latent_space.vectors import Floats, Latents

IMAGES, RUNS = 10_000, 10  # LightningDiT
FIRST_SEED = 42  # LightningDiT's random_state; the runs after it count up
PERPLEXITY, ITERATIONS = 30.0, 1000  # LightningDiT
TOO_FEW = int(3 * PERPLEXITY)
"""Images of which there is no map: t-SNE looks at three times the perplexity of neighbours."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Density:
    """Each measure's mean over the runs, its standard deviation over them, and its floors at the same n."""

    n: int
    runs: int
    mean: dict[str, float]
    spread: dict[str, float]
    floors: dict[str, dict[str, float]]
    settings: dict[str, float | int | str]


def measure_density(
    latents: Latents, *, images: int = IMAGES, runs: int = RUNS, listen: Callable[[int, int], None] | None = None,
    show: Callable[[Points], None] | None = None,
) -> Density:  # fmt: skip
    """Sample, map and measure `runs` times; about 75 CPU s per run of 10,000 images.

    Args:
        show: takes the map of the first run.

    Raises:
        UserError: there are too few images for the map.
    """
    from transvae_platform.evaluation.latent_space.vectors import random_vectors

    if min(images, len(latents)) <= TOO_FEW:
        raise UserError(
            f"density: {min(images, len(latents))} images are too few for t-SNE with perplexity {PERPLEXITY:g} - take "
            f"more than {TOO_FEW}"
        )
    values = []
    for run in range(runs):
        if listen:
            listen(run, runs)
        vectors = random_vectors(latents, images, FIRST_SEED + run)
        points = tsne(vectors, FIRST_SEED + run)
        values.append(of_points(points))
        if show and run == 0:
            show(points)
    if listen:
        listen(runs, runs)
    columns = {name: [value[name] for value in values] for name in MEASURES}
    return Density(
        n=len(vectors),
        runs=runs,
        mean={name: fmean(column) for name, column in columns.items()},
        spread={name: stdev(column) if runs > 1 else 0.0 for name, column in columns.items()},
        floors=floors(len(vectors)),
        settings={
            "perplexity": PERPLEXITY,
            "iterations": ITERATIONS,
            "first_seed": FIRST_SEED,
            "kde": "scott",
            "split": latents.samples.split,
        },
    )


def tsne(vectors_NC: Floats, seed: int) -> Points:
    """(N, 2) map; not the same bits across versions and numbers of threads."""
    from sklearn.manifold import TSNE

    # `max_iter` was `n_iter` before scikit-learn 1.5
    mapped = TSNE(2, random_state=seed, perplexity=PERPLEXITY, max_iter=ITERATIONS).fit_transform(vectors_NC)
    return np.asarray(mapped, np.float64)


def of_points(points_N2: Points) -> dict[str, float]:
    """The three measures of the kernel density (Scott's width) of points at these points."""
    from scipy.stats import gaussian_kde  # half a second to import, and plans only read the settings

    densities = gaussian_kde(points_N2.T)(points_N2.T)
    n = len(densities)
    shares = densities / densities.sum()
    entropy = -float((shares * np.log2(shares + 1e-10)).sum()) / float(np.log2(n))
    ascending = np.sort(densities)
    gini = float(((2 * np.arange(1, n + 1) - n - 1) * ascending).sum()) / (n * float(densities.sum()))
    return dict(zip(MEASURES, (float(densities.std() / densities.mean()), entropy, gini), strict=True))


def floors(n: int) -> dict[str, dict[str, float]]:
    """The measures of n points without structure: uniform in a square and in a disc."""
    random = np.random.default_rng(0)
    square = random.uniform(size=(n, 2))
    radius, angle = np.sqrt(random.uniform(size=n)), random.uniform(0, 2 * np.pi, size=n)
    disc = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return {"uniform square": of_points(square), "uniform disc": of_points(disc)}


def overlap(a: Density, b: Density, measure: str) -> bool:
    """Whether two tokenizers cannot be ranked by a measure: their means are not further apart than their spreads."""
    return abs(a.mean[measure] - b.mean[measure]) <= a.spread[measure] + b.spread[measure]
