"""Latents: how evenly they fill their space, how well a linear probe reads classes from them, and maps of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from transvae_dashboards.figures.canvas import WIDTH, Panel, canvas
from transvae_dashboards.style import COLOURS, INK, MUTED, PAPER
from transvae_platform.evaluation.latent_space.records import MEASURES as KEYS
from transvae_platform.evaluation.latent_space.records import LatentRecord

NAMES = {"density_cv": "density CV", "normalised_entropy": "normalised entropy", "gini": "Gini"}
POINTS = 1500
"""Of a map that are drawn, the first ones: the vectors were drawn at random (assumption: more hide each other)."""
ROW = 0.32
"""Height of a row in inches."""


def density_panels(records: Sequence[LatentRecord]) -> list[Panel]:
    """A chart per measure of density.

    Args:
        records: densities that compare (`comparable_densities`).
    """
    return [
        _rows(f"latents-{key}", NAMES.get(key, key), [
            (r, float(r.result["mean"][key]), float(r.result["spread"][key])) for r in records
        ])
        for key in KEYS if records
    ]  # fmt: skip


def probe_panel(records: Sequence[LatentRecord]) -> Panel:
    """The accuracies of linear probes that compare (`figures/probes.py`)."""
    rows = [(record, 100 * float(record.result["accuracy"]), 0.0) for record in records]
    return _rows("latents-probe", "linear probe, accuracy in %", rows)


def comparable_densities(records: Sequence[LatentRecord]) -> list[LatentRecord]:
    """The densities of one setting, on latents of one kind and of the same images, those of the first."""
    return alike([record for record in records if record.kind == "density"], ("n", "runs", "settings"))


def map_panel(record: LatentRecord, points: NDArray[np.float32]) -> Panel:
    """The t-SNE map of one data set of latents, points coloured by the density about them."""
    measures = ", ".join(f"{NAMES[key]} {float(record.result['mean'][key]):.3f}" for key in NAMES)
    shown = points[: min(len(points), POINTS)].astype(np.float64)
    density = gaussian_kde(points[:POINTS].T)(shown.T)
    order = np.argsort(density)
    with canvas(f"map-{record.key}", f"t-SNE map of {record.latents['name']}: {measures}", height=4.6) as drawing:
        axes = drawing.axes
        axes.scatter(*shown[order].T, c=density[order], cmap="cividis", s=4, lw=0)
        axes.set_title(f"{record.latents['name']}\n{measures}", fontsize=8.5, color=INK)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
    return drawing.panel[0]


def colour_of(record: LatentRecord) -> str:
    """Its family's, by the name of the model that made the latents."""
    name = str(record.latents["model"]["name"])
    # the longest first: a PS-VAE is no S-VAE
    known = sorted(COLOURS, key=len, reverse=True)
    return next((COLOURS[family] for family in known if f"{family}-" in name), INK)


def alike(records: Sequence[LatentRecord], keys: Sequence[str]) -> list[LatentRecord]:
    """Those measured under the settings of the first, on latents of its kind and images: others do not compare."""

    def setting(record: LatentRecord) -> list[object]:
        return [record.latents["images"], record.latents["content"], *(record.result.get(key) for key in keys)]

    return [record for record in records if setting(record) == setting(records[0])]


def told_apart(names: Sequence[str]) -> list[str]:
    """The names without the parts, up to a dash, that all of them begin with, such as their study's."""
    parts = [name.split("-") for name in names]
    shared = 0
    while len(names) > 1 and all(len(own) > shared + 1 and own[shared] == parts[0][shared] for own in parts):
        shared += 1
    return ["-".join(own[shared:]) for own in parts]


def _rows(name: str, title: str, rows: Sequence[tuple[LatentRecord, float, float]]) -> Panel:
    label = f"{title}: " + "; ".join(f"{r.latents['name']} {value:.3g} ± {spread:.2g}" for r, value, spread in rows)
    with canvas(name, label, WIDTH, 0.9 + ROW * len(rows)) as drawing:
        axes = drawing.axes
        for place, (record, value, spread) in enumerate(rows):
            colour = colour_of(record)
            axes.plot([value - spread, value + spread], [place, place], color=colour, lw=2.5, alpha=0.5)
            axes.plot([value], [place], marker="o", color=colour, ms=6, mec=PAPER, mew=0.6)
        axes.set_yticks(range(len(rows)), told_apart([str(r.latents["name"]) for r, _, _ in rows]), color=MUTED)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
        axes.set_xlabel(title)
    return drawing.panel[0]
