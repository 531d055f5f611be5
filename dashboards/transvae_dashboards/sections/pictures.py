"""Originals beside their reconstructions by every size, a block per family."""

from __future__ import annotations

from transvae_dashboards import formats
from transvae_dashboards.icons import family_mark
from transvae_dashboards.markup import Html, scroll, section, tag
from transvae_dashboards.reconstructions import PIXEL_ART, FamilyPictures, Strip, family_pictures
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES
from transvae_platform.study.state import StudyState


def pictures(state: StudyState) -> Html:
    """The section with the reconstruction grids."""
    blocks = family_pictures(state)
    if not blocks:
        text = "Nothing to show yet: the first validation draws the first pictures."
        return section("Reconstructions", tag("p", text, class_="missing"), anchor="reconstructions")
    large = blocks[0].originals.resolution > PIXEL_ART
    lead = (
        "The same held-out images for every model, at its last validation, by the averaged weights; under each column "
        "the mean PSNR of the images shown. "
    ) + ("Embedded as WebP; the PNG files lie beside the journal." if large else "Enlarged without smoothing.")
    grid = tag("div", *(_block(block) for block in blocks), class_="grids large" if large else "grids")
    return section("Reconstructions", grid, anchor="reconstructions", lead=lead)


def _block(block: FamilyPictures) -> Html:
    name = FAMILY_NAMES[block.family]
    columns = [_column("Original", "", block.originals, f"{block.originals.pictures} held-out images")]
    for column in block.columns:
        size, psnr = SIZE_NAMES[column.size], f"{formats.number(column.psnr, 1)} dB"
        under = psnr if column.final else f"{psnr}, step {column.step:,}"
        columns.append(_column(size, under, column.strip, f"Reconstructions by {name} {size}, mean PSNR {psnr}"))
    strips = scroll(tag("div", *columns, class_="columns"), f"Reconstructions by {name}")
    return tag("div", tag("h3", family_mark(block.family)), strips, class_="grid")


def _column(title: str, under: str, strip: Strip, text: str) -> Html:
    width, height = strip.resolution, strip.height
    kind = "pixels" if width <= PIXEL_ART else None
    image = Html(f'<img src="{strip.uri}" width="{width}" height="{height}" alt="{text}" class="{kind or "photo"}">')
    return tag("figure", tag("figcaption", title), image, tag("p", under or " "))
