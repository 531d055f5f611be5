"""Pictures for the page: rows of originals and reconstructions, cut from the trials' PNGs into strips."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from transvae_dashboards.tables import FAMILIES, SIZES, mean
from transvae_platform.study.state import StudyState, TrialState

PIXEL_ART = 64
"""Samples up to this many pixels are embedded without loss and shown enlarged; larger ones as WebP, fewer of them."""
FEW, MANY = 3, 6
WEBP_QUALITY = 90


@dataclass(frozen=True)
class Strip:
    """Pictures below each other as one image file; `resolution` pixels wide, `height` pixels high."""

    uri: str
    resolution: int
    height: int
    pictures: int


@dataclass(frozen=True)
class Column:
    """The reconstructions by one size, or a variant of it, at its last validated step."""

    size: str
    variant: str
    step: int
    final: bool
    psnr: float | None
    """Mean over the pictures shown."""
    each: tuple[float, ...]
    """Of each of them."""
    strip: Strip


@dataclass(frozen=True)
class FamilyPictures:
    """Originals beside the reconstructions of every size and variant."""

    family: str
    originals: Strip
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class _Sheet:
    """A trial's last pictures, as its journal tells of them."""

    trial: TrialState
    step: int
    path: Path
    psnr: list[float]


def family_pictures(state: StudyState, name: str | None = None) -> list[FamilyPictures]:
    """The families that have pictures, in order; of several seeds the first with pictures stands for its model.

    Args:
        name: of one of `evaluation.sets`; by default the held-out samples of the study's data.
    """
    found = []
    for family in FAMILIES:
        sheets = [sheet for size in SIZES for sheet in _shown(state, family, size, name)]
        rows = [(sheet, sheet_rows(sheet.path)) for sheet in sheets]
        opened = [(sheet, pictures) for sheet, pictures in rows if pictures is not None]
        if opened:
            columns = tuple(_column(sheet, pictures[1]) for sheet, pictures in opened)
            found.append(FamilyPictures(family, strip_of(opened[0][1][0]), columns))
    return found


def set_names(state: StudyState) -> list[str]:
    """The further sets that a trial drew pictures of."""
    return sorted({name for trial in state.autoencoders for drawn in trial.set_pictures.values() for name in drawn})


def _shown(state: StudyState, family: str, size: str, name: str | None) -> list[_Sheet]:
    """One sheet for every variant of a size, the unchanged model first."""
    cells: dict[str, _Sheet] = {}
    for trial in sorted(state.autoencoders, key=lambda trial: (trial.trial.variant != "base", trial.trial.seed)):
        wanted = (trial.trial.family, trial.trial.size) == (family, size) and trial.trial.variant not in cells
        if wanted and (sheet := _last(trial, name)) is not None:
            cells[trial.trial.variant] = sheet
    return list(cells.values())


def _last(trial: TrialState, name: str | None) -> _Sheet | None:
    if name is None:
        drawn = {step: (path, trial.picture_psnr.get(step, [])) for step, path in trial.pictures.items()}
    else:
        drawn = {step: found[name] for step, found in trial.set_pictures.items() if name in found}
    return _Sheet(trial, max(drawn), *drawn[max(drawn)]) if drawn else None


def sheet_rows(path: Path) -> tuple[list[Image.Image], list[Image.Image]] | None:
    """Originals and reconstructions on a sheet; None when the file is gone or damaged."""
    try:
        with Image.open(path) as opened:
            sheet = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # all of them Pillow's, of damaged files
        return None
    resolution = sheet.height // 2
    if not 0 < resolution <= sheet.width:
        return None
    count = min(sheet.width // resolution, MANY if resolution <= PIXEL_ART else FEW)
    top, bottom = (
        [sheet.crop((i * resolution, y, (i + 1) * resolution, y + resolution)) for i in range(count)]
        for y in (0, resolution)
    )
    return top, bottom


def _column(sheet: _Sheet, pictures: Sequence[Image.Image]) -> Column:
    trial, psnr = sheet.trial.trial, mean(sheet.psnr[: len(pictures)])
    each = tuple(sheet.psnr[: len(pictures)])
    return Column(
        trial.size, trial.variant, sheet.step, sheet.step == trial.recipe.steps, psnr, each, strip_of(pictures)
    )


def strip_of(pictures: Sequence[Image.Image]) -> Strip:
    """Pictures of one size below each other, embedded."""
    resolution = pictures[0].width
    pitch = resolution + max(1, resolution // 32)  # a thin transparent line keeps the pictures apart
    strip = Image.new("RGBA", (resolution, pitch * len(pictures) - (pitch - resolution)))
    for i, picture in enumerate(pictures):
        strip.paste(picture, (0, i * pitch))
    file, kind = io.BytesIO(), "png" if resolution <= PIXEL_ART else "webp"
    if kind == "png":
        strip.save(file, "PNG", optimize=True)
    else:
        strip.save(file, "WEBP", quality=WEBP_QUALITY, method=0)  # the quickest: a third of the time, 5 % more bytes
    uri = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return Strip(uri, resolution, strip.height, len(pictures))
