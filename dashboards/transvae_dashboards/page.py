"""The report: one self-contained HTML file, all views below each other. No network, equal bytes for equal journals."""

from __future__ import annotations

from pathlib import Path

from transvae_dashboards.document import document, write_page
from transvae_dashboards.follow.study import followed
from transvae_dashboards.markup import tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.provenance import provenance
from transvae_dashboards.views.curves import curves
from transvae_dashboards.views.latents import latents_report
from transvae_dashboards.views.overview import overview
from transvae_dashboards.views.reconstructions import reconstructions
from transvae_dashboards.views.scaling import scaling_view
from transvae_dashboards.views.tables import tables
from transvae_platform.study.state import StudyState

PARTS = {
    "overview": ("Study", overview), "scaling": ("Scaling", scaling_view), "curves": ("Curves", curves),
    "reconstructions": ("Reconstructions", reconstructions), "tables": ("Tables", tables),
    "latents": ("Latents", latents_report),
}  # fmt: skip


def write_report(state: StudyState, path: Path, price: float | None = None) -> Path:
    """Draw a study's page as far as its journals go and write it to `path`; returns `path`.

    Args:
        price: of an hour of one device.

    Raises:
        UserError: it cannot be written there.
    """
    return write_page(render(state, price), path)


def render(state: StudyState, price: float | None = None) -> str:
    """The page as text."""
    scene = Scene(followed(state), price=price)
    drawn = {name: (word, draw(scene)) for name, (word, draw) in PARTS.items()}
    last = provenance(scene.state, scene.rows, scene.fits)
    parts = [tag("div", *content, id=f"view-{name}") for name, (_, content) in drawn.items() if content]
    links = [tag("a", word, href=f"#view-{name}") for name, (word, content) in drawn.items() if content]
    links.append(tag("a", "Provenance", href="#provenance"))
    top = tag("header", tag("nav", *links, class_="views", aria_label="Parts"), class_="top")
    return document(f"{state.name} – scaling study", *parts, last, top=top)
