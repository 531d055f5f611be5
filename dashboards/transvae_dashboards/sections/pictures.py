"""Originals beside their reconstructions by every size, a block per family."""

from __future__ import annotations

from transvae_dashboards import formats
from transvae_dashboards.icons import family_mark
from transvae_dashboards.markup import Html, escape, scroll, section, tag
from transvae_dashboards.reconstructions import PIXEL_ART, FamilyPictures, Strip, family_pictures, set_names
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES
from transvae_platform.study.state import StudyState


def pictures(state: StudyState) -> Html:
    """The section with the reconstruction grids."""
    blocks = family_pictures(state)
    if not blocks:
        text = "Nothing to show yet: the first validation draws the first pictures."
        return section("Reconstructions", tag("p", text, class_="missing"), anchor="reconstructions")
    lead = (
        "The same held-out images for every model, at its last validation, by the averaged weights; under each column "
        "the mean PSNR of the images shown. A click enlarges a picture beside its original and their difference. "
    ) + ("Embedded as WebP; the PNG files lie beside the journal." if _large(blocks) else "Enlarged without smoothing.")
    sets = [_set(name, family_pictures(state, name)) for name in set_names(state)]
    return section("Reconstructions", _grid(blocks, "held-out images"), *sets, anchor="reconstructions", lead=lead)


def _set(name: str, blocks: list[FamilyPictures]) -> Html:
    """The pictures of a further set under a heading of its own."""
    if not blocks:
        return Html("")
    size = blocks[0].originals.resolution
    lead = f"Images of {size} x {size} pixels that no model was trained on, drawn and measured once, at the last step."
    return tag(
        "div", tag("h3", f"On the set {name}"), tag("p", lead, class_="lead"), _grid(blocks, f"images of {name}")
    )


def _grid(blocks: list[FamilyPictures], what: str) -> Html:
    return tag("div", *(_block(block, what) for block in blocks), class_="grids large" if _large(blocks) else "grids")


def _large(blocks: list[FamilyPictures]) -> bool:
    return blocks[0].originals.resolution > PIXEL_ART


def _block(block: FamilyPictures, what: str) -> Html:
    name = FAMILY_NAMES[block.family]
    columns = [_column("Original", "", block.originals, f"{block.originals.pictures} {what}")]
    for column in block.columns:
        size, psnr = SIZE_NAMES[column.size], f"{formats.number(column.psnr, 1)} dB"
        under = psnr if column.final else f"{psnr}, step {column.step:,}"
        alt = f"Reconstructions of {what} by {name} {size}, mean PSNR {psnr}"
        columns.append(_column(size, under, column.strip, alt))
    strips = scroll(tag("div", *columns, class_="columns"), f"Reconstructions of {what} by {name}")
    return tag("div", tag("h3", family_mark(block.family)), strips, class_="grid")


def _column(title: str, under: str, strip: Strip, text: str) -> Html:
    width, height = strip.resolution, strip.height
    kind = "pixels" if width <= PIXEL_ART else "photo"
    rows = Html(f' data-rows="{strip.pictures}"')  # for the script that enlarges them
    image = Html(f'<img src="{strip.uri}" width="{width}" height="{height}" alt="{escape(text)}" class="{kind}"{rows}>')
    return tag("figure", tag("figcaption", title), image, tag("p", under or " "))
