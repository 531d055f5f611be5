"""The report: one self-contained HTML file, all views below each other. No network, equal bytes for equal journals.

What MLflow adds to the registry's part is asked when the report is written; the page itself asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transvae_dashboards.document import document, write_page
from transvae_dashboards.follow.study import FollowedStudy, followed
from transvae_dashboards.markup import tag
from transvae_dashboards.scene import Registry, Scene
from transvae_dashboards.sections.provenance import provenance
from transvae_dashboards.views.compare import compare
from transvae_dashboards.views.curves import curves
from transvae_dashboards.views.latents import latents_report
from transvae_dashboards.views.overview import overview
from transvae_dashboards.views.reconstructions import reconstructions
from transvae_dashboards.views.registry import registry
from transvae_dashboards.views.scaling import scaling_view
from transvae_dashboards.views.tables import tables
from transvae_platform.study.state import StudyState

PARTS = {
    "overview": ("Study", overview), "scaling": ("Scaling", scaling_view), "curves": ("Curves", curves),
    "reconstructions": ("Reconstructions", reconstructions), "tables": ("Tables", tables),
    "latents": ("Latents", latents_report), "registry": ("Registry", registry), "compare": ("Compare", compare),
}  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """What a report shows that its study's journals do not hold."""

    registry: Registry | None = None
    """What MLflow says of the study's models; None: nobody asks it."""
    other: FollowedStudy | None = None
    """The study that it is compared with; None: none, or trials of this one."""
    trials: tuple[str, str] | None = None
    """The ids of two trials that are compared: of this study, and of the other (of this one, too, without another)."""

    @property
    def query(self) -> Mapping[str, str]:
        """The same choice as the dashboard's address would make it."""
        return {
            **({"with": self.other.name} if self.other else {}),
            **(dict(zip("ab", self.trials, strict=True)) if self.trials else {}),
        }


ALONE = Beside()


def write_report(state: StudyState, path: Path, price: float | None = None, beside: Beside = ALONE) -> Path:
    """Draw a study's page as far as its journals go and write it to `path`; returns `path`.

    Args:
        price: of an hour of one device.

    Raises:
        UserError: it cannot be written there.
    """
    return write_page(render(state, price, beside), path)


def render(state: StudyState, price: float | None = None, beside: Beside = ALONE) -> str:
    """The page as text."""
    scene = Scene(
        followed(state), beside.query, price=price, registry=beside.registry, others=lambda name: beside.other
    )
    drawn = {name: (word, draw(scene)) for name, (word, draw) in PARTS.items()}
    last = provenance(scene.state, scene.fits)
    parts = [tag("div", *content, id=f"view-{name}") for name, (_, content) in drawn.items() if content]
    links = [tag("a", word, href=f"#view-{name}") for name, (word, content) in drawn.items() if content]
    links.append(tag("a", "Provenance", href="#provenance"))
    top = tag("header", tag("nav", *links, class_="views", aria_label="Parts"), class_="top")
    return document(f"{state.name} – scaling study", *parts, last, top=top)
