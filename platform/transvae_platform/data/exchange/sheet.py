"""A contact sheet: pictures from all over a split on one image, to look at before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from transvae_platform.data.sets.catalogue import DataSet
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.errors import UserError

# assumptions: what is readable on a screen
SMALLEST, LARGEST = 96, 256
"""Pictures with smaller sides are enlarged without smoothing, larger ones reduced."""
GAP, TEXT_SIZE, LINE = 4, 10, 14
"""Pixels between pictures, height of letters, height of a line."""


def sheet_path(data_set: DataSet, split: str) -> Path:
    """Where a sheet is drawn if nobody says: beside the data set, whose own folder stays as it is.

    Of a data set on a store: in the current folder.
    """
    folder = Path() if "://" in data_set.location else Path(data_set.location).parent
    return folder / f"{data_set.manifest.fingerprint}-{split}.png"


def contact_sheet(samples: SampleSet, count: int = 64, columns: int = 8) -> Image.Image:
    """Up to `count` images of the split, spread over its ids (see `SampleSet.spread`), row by row, as one RGB image.

    Where the data set has labels or captions they stand below the pictures, cut to their width; a label is shown as
    its class name if the source had names.

    Raises:
        UserError: the split is empty, or holds latents.
    """
    if samples.manifest.kind != "images" or not len(samples):
        raise UserError(f"contact sheet: {samples.manifest.fingerprint} holds no images in this split")
    ids = samples.spread(max(1, count))
    columns = max(1, min(columns, len(ids)))
    lines = [_lines(samples.manifest.source, label, caption) for label, caption in zip(
        samples.column(ids, "label"), samples.column(ids, "caption"), strict=True)]  # fmt: skip
    pictures = samples.read(ids)
    side = min(max(pictures.shape[1], SMALLEST), LARGEST)
    filter_ = Image.Resampling.NEAREST if pictures.shape[1] < side else Image.Resampling.LANCZOS
    cell = (side + GAP, side + GAP + LINE * max(map(len, lines)))
    sheet = Image.new("RGB", (columns * cell[0] + GAP, -(-len(ids) // columns) * cell[1] + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_SIZE)
    for place, (picture, texts) in enumerate(zip(pictures, lines, strict=True)):
        left, top = (GAP + number * size for number, size in zip(divmod(place, columns)[::-1], cell, strict=True))
        sheet.paste(Image.fromarray(picture).resize((side, side), filter_), (left, top))
        for number, text in enumerate(texts):
            draw.text((left, top + side + 1 + number * LINE), _cut(text, side, draw, font), "black", font)
    return sheet


def _lines(source: dict[str, Any], label: int | None, caption: str | None) -> list[str]:
    classes = source.get("classes") or []
    lines = []
    if label is not None:
        lines.append(str(classes[label]) if 0 <= label < len(classes) else f"class {label}")
    if caption is not None:
        lines.append(caption)
    return [" ".join(line.split()) for line in lines]


def _cut(text: str, width: int, draw: ImageDraw.ImageDraw, font: Any) -> str:
    if len(text) <= width and draw.textlength(text, font) <= width:
        return text
    text = text[:width]  # a letter is a pixel wide at least, and captions may have thousands
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1]
    return f"{text}..."
