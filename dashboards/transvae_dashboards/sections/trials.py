"""The study table: every trial, families and sizes in their fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from transvae_dashboards import formats
from transvae_dashboards.icons import family_mark, state_mark
from transvae_dashboards.markup import Html, join, scroll, section, tag
from transvae_dashboards.tables import SIZE_NAMES, TrialRow

LEAD = (
    "Metrics on held-out images, of the averaged weights, at the last validation (grey where the trial has not "
    "finished). L1 and MSE on values in [-1, 1]; PSNR in dB from 8-bit values, mean over images. FLOPs: "
    "2 × multiply-adds, forward per image, and forward + backward over the whole training, encoder + decoder, loss "
    "networks excluded."
)


def trials(rows: Sequence[TrialRow]) -> Html:
    """The section with the study table."""
    if not rows:
        return section("Trials", tag("p", "No trial has been queued yet."), anchor="trials")
    variants, seeds = any(row.variant != "base" for row in rows), len({row.seed for row in rows}) > 1
    head = [
        ("Family", False), ("Size", False), *([("Variant", False)] if variants else []),
        *([("Seed", True)] if seeds else []), ("State", False), ("Parameters", True), ("FLOPs / image", True),
        ("Training FLOPs", True), ("Steps", True), ("PSNR", True), ("SSIM", True), ("L1", True), ("MSE", True),
        ("Time", True), ("Attempts", True),
    ]  # fmt: skip
    bodies = [
        _family(list(group), variants, seeds, len(head)) for _, group in groupby(rows, key=lambda row: row.family)
    ]
    top = tag("thead", tag("tr", *(tag("th", name, scope="col", class_="n" if n else None) for name, n in head)))
    return section(
        "Trials", scroll(tag("table", top, *bodies, class_="trials"), "Study table"), anchor="trials", lead=LEAD
    )


def _family(rows: Sequence[TrialRow], variants: bool, seeds: bool, columns: int) -> Html:
    lines = []
    for row in rows:
        cells = [tag("td", tag("b", SIZE_NAMES[row.size]))]
        cells += [tag("td", row.variant)] if variants else []
        cells += [_n(str(row.seed))] if seeds else []
        steps = f"{row.steps:,}" if row.steps_done == row.steps else f"{row.steps_done:,} / {row.steps:,}"
        cells += [
            tag("td", state_mark(row.state)), _n(formats.parameters(row.parameters)),
            _n(formats.scaled(row.forward_flops)), _n(formats.scaled(row.training_flops)), _n(steps),
            *(_n(text, final=row.finished) for text in _metrics(row)),
            _n(formats.duration(row.seconds) if row.seconds else formats.NONE),
            _n(str(row.attempts)),
        ]  # fmt: skip
        lines.append(cells)
        if row.reason:
            lines.append([tag("td", row.reason, colspan=columns - 1, class_=f"reason {row.state}")])
    name = tag("th", family_mark(rows[0].family), scope="rowgroup", rowspan=len(lines))
    first, *others = lines
    return tag("tbody", tag("tr", name, *first), join(tag("tr", *cells) for cells in others))


def _metrics(row: TrialRow) -> tuple[str, ...]:
    return (
        formats.number(row.psnr), formats.number(row.ssim, 3), formats.number(row.val_l1, 4),
        formats.number(row.val_mse, 5),
    )  # fmt: skip


def _n(text: str, final: bool = True) -> Html:
    return tag("td", text, class_="n" if final else "n muted")
