"""Linear probes as curves: accuracy over the size of the autoencoder, and along the epochs of the classifier."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from transvae_dashboards.figures.axes import end_labels, log_axis, padded
from transvae_dashboards.figures.canvas import Panel, canvas
from transvae_dashboards.figures.latents import alike, colour_of, told_apart
from transvae_dashboards.style import COLOURS, INK, MARKERS, PAPER
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES
from transvae_platform.evaluation.latent_space.records import LatentRecord
from transvae_platform.study.state import TrialState

PROTOCOL = ("protocol", "images", "classes")
"""What accuracies in one chart share."""


def probe_size_panel(probes: Sequence[LatentRecord], makers: Mapping[str, TrialState]) -> Panel | None:
    """A line per family, a small marker per seed; None without two sizes of one family.

    Args:
        probes: alike in `PROTOCOL`.
        makers: the trial whose model made a record's latents, by the record's key.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}  # family -> size -> (parameters, accuracy in %)
    for record in probes:
        if (maker := makers.get(record.key)) is not None and maker.trial.variant == "base":
            sizes = found.setdefault(maker.trial.family, {})
            point = (float(maker.cost["parameters"]), 100 * float(record.result["accuracy"]))
            sizes.setdefault(maker.trial.size, []).append(point)
    if not any(len(sizes) > 1 for sizes in found.values()):
        return None
    label = "Accuracy of a linear probe against the autoencoder's parameters, a line per family"
    with canvas("latents-probe-sizes", label) as drawing:
        axes, ends = drawing.axes, []
        for family, sizes in found.items():
            colour, marker = COLOURS.get(family, INK), MARKERS.get(family, "o")
            means = sorted(
                (points[0][0], statistics.fmean(y for _, y in points), size) for size, points in sizes.items()
            )
            for points in sizes.values():
                if len(points) > 1:
                    axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=3.2, alpha=0.45, ls="none")
            axes.plot([x for x, _, _ in means], [y for _, y, _ in means], color=colour, marker=marker, ms=5.5, lw=1.2,
                      mec=PAPER, mew=0.6)  # fmt: skip
            for x, y, size in means[:-1]:
                axes.annotate(SIZE_NAMES.get(size, size), (x, y), xytext=(0, 6), textcoords="offset points",
                              ha="center", fontsize=8, color=INK)  # fmt: skip
            x, y, size = means[-1]
            ends.append((x, y, f"{FAMILY_NAMES.get(family, family)} {SIZE_NAMES.get(size, size)}", colour))
        log_axis(axes.xaxis, *padded([x for sizes in found.values() for points in sizes.values() for x, _ in points]))
        axes.margins(y=0.15)
        axes.set_xlabel("parameters of the autoencoder")
        axes.set_ylabel("linear probe, accuracy in %")
        end_labels(axes, ends)
    return drawing.panel[0]


def probe_epoch_panel(probes: Sequence[LatentRecord]) -> Panel | None:
    """A line per data set of latents whose classifier learned in epochs; None where none did."""
    curves = [(record, record.result["curve"]) for record in probes if record.result.get("curve")]
    if not curves:
        return None
    names = told_apart([str(record.latents["name"]) for record, _ in curves])
    with canvas("latents-probe-epochs", "Accuracy of linear probes along their epochs, a line per data set") as drawing:
        axes, ends = drawing.axes, []
        for (record, points), name in zip(curves, names, strict=True):
            epochs, shares = [point[0] for point in points], [100 * point[1] for point in points]
            axes.plot(epochs, shares, color=colour_of(record), marker="o", ms=2.4, lw=1.2)
            ends.append((float(epochs[-1]), shares[-1], name, colour_of(record)))
        axes.set_xlim(0, max(x for x, _, _, _ in ends))
        axes.margins(y=0.15)
        axes.set_xlabel("epoch of the classifier")
        axes.set_ylabel("accuracy on held-out images, %")
        end_labels(axes, ends)
    return drawing.panel[0]


def comparable_probes(records: Sequence[LatentRecord]) -> list[LatentRecord]:
    """The probes of one setting, on latents of one kind and of the same images, those of the first."""
    return alike([record for record in records if record.kind == "probe"], PROTOCOL)
