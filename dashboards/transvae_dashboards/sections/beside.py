"""Reconstructions of two sides beside their originals: two trials, or every model that two studies share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from transvae_dashboards import formats
from transvae_dashboards.markup import Html, missing, scroll, section, tag
from transvae_dashboards.reconstructions import PIXEL_ART, sheet_rows, strip_of
from transvae_dashboards.sections.pictures import column, strip_image
from transvae_platform.study.state import TrialState

TITLE, PICTURES = "Pictures compared", 4
LEAD = (
    "Held-out images at the last validation of each, by the averaged weights, with their mean PSNR. A click enlarges a "
    "picture beside its original and their difference. {which}Where the two saw other data, each has its own originals."
)


@dataclass(frozen=True)
class Drawn:
    """The last pictures of one trial."""

    title: str
    originals: Sequence[Image.Image]
    outputs: Sequence[Image.Image]
    psnr: Sequence[float]
    """Of each picture, in dB."""

    def sees_what(self, other: Drawn) -> bool:
        """Whether both have the same originals."""
        return [image.tobytes() for image in self.originals] == [image.tobytes() for image in other.originals]


def drawn(title: str, trial: TrialState) -> Drawn | None:
    """None where a trial has no reconstructions, or its file is gone or damaged."""
    step = max(trial.pictures, default=None)
    psnr = trial.picture_psnr.get(step, [])[:PICTURES] if step is not None else []
    rows = sheet_rows(trial.pictures[step]) if step is not None and psnr else None
    if rows is None:
        return None
    originals, outputs = (row[: len(psnr)] for row in rows)
    return Drawn(title, originals, outputs, psnr[: len(originals)])


def pictures_beside(pairs: Sequence[tuple[str, Sequence[Drawn | None]]], which: str = "") -> Html:
    """The section; a pair is a heading and its two sides.

    Args:
        which: a sentence on what is shown.
    """
    blocks = [
        tag("div", tag("h3", title) if title else Html(""), *_rows(found, title), class_="grid")
        for title, sides in pairs if (found := [side for side in sides if side is not None])
    ]  # fmt: skip
    if not blocks:
        return section(TITLE, missing("No pictures yet of the same model on both sides."), anchor="pictures")
    lead = LEAD.format(which=f"{which} " if which else "")
    return section(TITLE, tag("div", *blocks, class_="grids"), anchor="pictures", lead=lead)


def _rows(sides: Sequence[Drawn], title: str) -> list[Html]:
    """One row where both sides have the same originals, else one each."""
    same = all(side.sees_what(sides[0]) for side in sides)
    return [_row(row, title) for row in ([sides] if same else [[side] for side in sides])]


def _row(sides: Sequence[Drawn], title: str) -> Html:
    cells = [column("Original", "", strip_image(strip_of(sides[0].originals), "Held-out images"))]
    for side in sides:
        mean = f"{formats.number(sum(side.psnr) / len(side.psnr), 1)} dB"
        alt = f"Reconstructions by {title or side.title}, {side.title}, mean PSNR {mean}"
        cells.append(column(side.title, mean, strip_image(strip_of(side.outputs), alt, side.psnr)))
    kind = "columns named" if sides[0].originals[0].width <= PIXEL_ART else "columns named large"
    return scroll(tag("div", *cells, class_=kind), f"Reconstructions {title}")
