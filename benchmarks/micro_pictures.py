"""Draws what the micro twins of the paper's studies found: one panel per study, one row per model.

    python benchmarks/micro_pictures.py HOME OUTPUT.png OUTPUT.json

Filled: PSNR on the held-out photographs at the last step; hollow: at the validation in the middle. One seed each. The
JSON holds the same numbers, with steps and the code that ran. Studies that have not ended are left out, by name.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

from transvae_platform.study.state import StudyState, TrialState

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"transvae": "#0b6e99", "cnn": "#b5542b", "vit": "#4b7a2b", "swin": "#7a4b8f"}
COLUMNS = 3


def main() -> None:
    home, picture, table = map(Path, sys.argv[1:4])
    studies = [StudyState(journal.parent) for journal in sorted(home.glob("studies/*-micro/journal.jsonl"))]
    ended = [study for study in studies if study.trials and len(study.in_state("finished")) == len(study.trials)]
    for study in studies:
        if study not in ended:
            print(f"left out, it has not ended: {study.name}")
    heights = [max(len(study.trials) for study in ended[i : i + COLUMNS]) + 2 for i in range(0, len(ended), COLUMNS)]
    figure, panels = plt.subplots(
        len(heights), COLUMNS, figsize=(10, 0.2 * sum(heights) + 0.3), layout="constrained", squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axes, study in zip(panels.flat, ended, strict=False):
        panel(axes, study)
    for axes in list(panels.flat)[len(ended) :]:
        axes.set_axis_off()
    figure.supxlabel("PSNR in dB on held-out photographs, 32 pixels, 300 steps, one seed: a rehearsal", fontsize=8)
    figure.savefig(picture, dpi=110)
    found = {
        study.name.removesuffix("-micro"): {
            "code": study.submissions[0]["lineage"]["code"],
            "psnr": {trial.trial.label: curve(trial) for trial in study.trials.values()},
        }
        for study in ended
    }
    table.write_text(json.dumps(found, indent=1) + "\n")


def curve(trial: TrialState) -> dict[int, float]:
    return {step: round(record["metrics"]["val/psnr"], 3) for step, record in trial.validation.items()}


def panel(axes: plt.Axes, study: StudyState) -> None:
    """One study, its models from above in the order of the file."""
    trials = list(study.trials.values())
    for row, trial in enumerate(trials):
        colour, (*_, middle, last) = COLOURS[trial.trial.family], curve(trial).values()
        axes.plot([middle, last], [row, row], color=colour, linewidth=0.8)
        axes.plot(middle, row, "o", color=colour, fillstyle="none", markersize=4)
        axes.plot(last, row, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(trials)), [trial.trial.label for trial in trials], fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.6 / len(trials))
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(study.name.removesuffix("-micro").replace("_", " "), fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
