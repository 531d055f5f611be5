"""The study table: every trial, families and sizes in their fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from transvae_dashboards import formats
from transvae_dashboards.exhibits import show_table
from transvae_dashboards.icons import family_mark, state_mark
from transvae_dashboards.markup import Html, join, scroll, section, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES, TrialRow

LEAD = (
    "Metrics on held-out images, of the averaged weights, at the last validation (grey where the trial has not "
    "finished). L1 and MSE on values in [-1, 1]; PSNR in dB from 8-bit values, mean over images. FLOPs: "
    "2 × multiply-adds, forward per image, and forward + backward over the whole training, encoder + decoder, loss "
    "networks excluded."
)


def trials(scene: Scene) -> Html:
    """The section with the study table; what is left of each trial while any is to be run."""
    rows = scene.rows
    if not rows:
        return section("Trials", tag("p", "No trial has been queued yet."), anchor="trials")
    variants, seeds = any(row.variant != "base" for row in rows), len({row.seed for row in rows}) > 1
    head = [
        ("Family", False), ("Size", False), *([("Variant", False)] if variants else []),
        *([("Seed", True)] if seeds else []), ("State", False), ("Parameters", True), ("FLOPs / image", True),
        ("Training FLOPs", True), ("Steps", True), *([("Left", True)] if scene.left else []), ("PSNR", True),
        ("SSIM", True), ("L1", True), ("MSE", True), ("Time", True), ("Attempts", True),
        *([("Preempted", True)] if _preempted(scene) else []),
    ]  # fmt: skip
    cells = [(row, _cells(scene, row, variants, seeds)) for row in rows]
    show_table("Trials", [name for name, _ in head], [[FAMILY_NAMES[row.family], *line] for row, line in cells])
    bodies = [_family(scene, list(group), len(head)) for _, group in groupby(cells, key=lambda line: line[0].family)]
    top = tag("thead", tag("tr", *(tag("th", name, scope="col", class_="n" if n else None) for name, n in head)))
    return section(
        "Trials", scroll(tag("table", top, *bodies, class_="trials"), "Study table"), anchor="trials", lead=LEAD
    )


def _family(scene: Scene, rows: Sequence[tuple[TrialRow, list[Html]]], columns: int) -> Html:
    lines = []
    for row, cells in rows:
        lines.append(cells)
        trial = scene.state.trials[row.id]
        for text, kind in ((row.reason, row.state), (trial.alarm, "alarm")):
            if text:
                lines.append([tag("td", text, colspan=columns - 1, class_=f"reason {kind}")])
    name = tag("th", family_mark(rows[0][0].family), scope="rowgroup", rowspan=len(lines))
    first, *others = lines
    return tag("tbody", tag("tr", name, *first), join(tag("tr", *cells) for cells in others))


def _cells(scene: Scene, row: TrialRow, variants: bool, seeds: bool) -> list[Html]:
    trial, left = scene.state.trials[row.id], scene.left
    cells = [tag("td", tag("b", scene.named(trial, SIZE_NAMES[row.size])))]
    cells += [tag("td", row.variant)] if variants else []
    cells += [_n(str(row.seed))] if seeds else []
    rest = left.get(row.id)
    cells += [
        tag("td", state_mark(row.state)), _n(formats.parameters(row.parameters)),
        _n(formats.scaled(row.forward_flops)), _n(formats.scaled(row.training_flops)), _steps(row),
        *([_n(formats.NONE if rest is None else f"~{formats.duration(rest)}")] if left else []),
        *(_n(text, final=row.finished) for text in _metrics(row)),
        _n(formats.duration(row.seconds) if row.seconds else formats.NONE), _n(str(row.attempts)),
        *([_n(str(trial.preemptions))] if _preempted(scene) else []),
    ]  # fmt: skip
    return cells


def _steps(row: TrialRow) -> Html:
    if row.steps_done == row.steps:
        return _n(f"{row.steps:,}")
    text = f"{row.steps_done:,} / {row.steps:,}"
    return tag("td", text, tag("progress", text, value=row.steps_done, max=row.steps), class_="n")


def _preempted(scene: Scene) -> bool:
    return any(trial.preemptions for trial in scene.state.autoencoders)


def _metrics(row: TrialRow) -> tuple[str, ...]:
    return (
        formats.number(row.psnr), formats.number(row.ssim, 3), formats.number(row.val_l1, 4),
        formats.number(row.val_mse, 5),
    )  # fmt: skip


def _n(text: str, final: bool = True) -> Html:
    return tag("td", text, class_="n" if final else "n muted")
