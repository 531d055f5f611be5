"""Originals beside their reconstructions by every size and variant, a block per family."""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards import formats
from transvae_dashboards.icons import family_mark
from transvae_dashboards.markup import Html, scroll, section, tag
from transvae_dashboards.reconstructions import PIXEL_ART, FamilyPictures, Strip, family_pictures, set_names
from transvae_dashboards.scene import Scene
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES


def pictures(scene: Scene) -> Html:
    """The section with the reconstruction grids; on the dashboard also as differences to the originals."""
    state, difference = scene.state, scene.one("show", ("difference",), "") == "difference"
    pick = scene.choice("Show", "show", [("", "reconstructions"), ("difference", "differences, four times as strong")],
                        "difference" if difference else "")  # fmt: skip
    blocks = family_pictures(state)
    if not blocks:
        text = "Nothing to show yet: the first validation draws the first pictures."
        return section("Reconstructions", tag("p", text, class_="missing"), anchor="reconstructions")
    lead = (
        "The same held-out images for every model, at its last validation, by the averaged weights; under each column "
        "the mean PSNR of the images shown. A click enlarges a picture beside its original and their difference. "
    ) + ("Embedded as WebP; the PNG files lie beside the journal." if _large(blocks) else "Enlarged without smoothing.")
    sets = [_set(name, family_pictures(state, name), difference) for name in set_names(state)]
    grid = _grid(blocks, "held-out images", difference)
    return section("Reconstructions", pick, grid, *sets, anchor="reconstructions", lead=lead)


def _set(name: str, blocks: list[FamilyPictures], difference: bool) -> Html:
    """The pictures of a further set under a heading of its own."""
    if not blocks:
        return Html("")
    size = blocks[0].originals.resolution
    lead = f"Images of {size} x {size} pixels that no model was trained on, drawn and measured once, at the last step."
    return tag(
        "div",
        tag("h3", f"On the set {name}"),
        tag("p", lead, class_="lead"),
        _grid(blocks, f"images of {name}", difference),
    )


def _grid(blocks: list[FamilyPictures], what: str, difference: bool) -> Html:
    return tag(
        "div",
        *(_block(block, what, difference) for block in blocks),
        class_="grids large" if _large(blocks) else "grids",
    )


def _large(blocks: list[FamilyPictures]) -> bool:
    return blocks[0].originals.resolution > PIXEL_ART


def _block(block: FamilyPictures, what: str, difference: bool) -> Html:
    name = FAMILY_NAMES[block.family]
    columns = [column("Original", "", strip_image(block.originals, f"{block.originals.pictures} {what}"))]
    for shown in block.columns:
        size, psnr = SIZE_NAMES[shown.size], f"{formats.number(shown.psnr, 1)} dB"
        if shown.variant != "base":
            size += f", {shown.variant}"
        under = psnr if shown.final else f"{psnr}, step {shown.step:,}"
        alt = f"Reconstructions of {what} by {name} {size}, mean PSNR {psnr}"
        image = strip_image(shown.strip, alt, shown.each)
        if difference:
            image = tag("div", strip_image(block.originals, ""), image, class_="difference")
        columns.append(column(size, under, image))
    strips = scroll(tag("div", *columns, class_="columns"), f"Reconstructions of {what} by {name}")
    return tag("div", tag("h3", family_mark(block.family)), strips, class_="grid")


def column(title: str, under: str, image: Html) -> Html:
    """Pictures of one model, with what stands above and below them."""
    # a line of its own below the originals, too: columns stand on a common ground
    return tag("figure", tag("figcaption", title), image, tag("p", under or "\u00a0"))


def strip_image(strip: Strip, text: str, psnr: Sequence[float] = ()) -> Html:
    """A strip; how many pictures it has, and their PSNR, for the script that enlarges them."""
    return tag(
        "img", src=strip.uri, width=strip.resolution, height=strip.height, alt=text,
        class_="pixels" if strip.resolution <= PIXEL_ART else "photo", data_rows=strip.pictures if text else None,
        data_psnr=" ".join(f"{value:.1f}" for value in psnr) or None,
    )  # fmt: skip
