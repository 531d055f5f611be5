"""View 6, latent space: density and linear probe of latents, and curves of generators trained on them (figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from transvae_dashboards.figures.canvas import Panel
from transvae_dashboards.figures.latents import latent_panels, map_panel
from transvae_dashboards.markup import Html, missing, section, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.sections.generators import generators
from transvae_dashboards.table2 import measured_sections
from transvae_dashboards.views.tables import measured, which
from transvae_platform.evaluation.latent_space.records import LatentRecord, kept_map

MAPS = 8
"""Maps on one page (assumption: each takes a tenth of a second)."""


def latents(scene: Scene) -> list[Html]:
    """The parts of the view."""
    _, records = measured(scene)
    panels = latent_panels(records)
    pick = scene.choice("Latents", "of", [("study", "of this study"), ("home", "of the whole home")], which(scene))
    nothing = missing(
        "No latents were measured yet: `tables` in the study file does, or `transvae density NAME` and "
        "`transvae probe NAME` with the name of latents that `transvae data latents` made."
    )
    panels += maps(scene, records)
    charts = tag("div", *(figure(panel) for panel in panels), class_="panels") if panels else Html("")
    parts = [pick, section("Latent space", charts, *(measured_sections(records) or [nothing]), anchor="latents")]
    return [*parts, generators(scene.state)] if scene.state.generators else [*parts, _none()]


def maps(scene: Scene, records: Sequence[LatentRecord]) -> list[Panel]:
    """The t-SNE maps that were kept, of the first few densities."""
    home = scene.state.folder.parents[1]
    known = ((record, kept_map(home, record.key)) for record in records if record.kind == "density")
    drawn = islice(((record, points) for record, points in known if points is not None), MAPS)
    return [map_panel(record, points) for record, points in drawn]


def latents_report(scene: Scene) -> list[Html]:
    """The same for the report: nothing where nothing was measured (generators stand on the first part)."""
    _, records = measured(scene)
    panels = [figure(panel) for panel in latent_panels(records) + maps(scene, records)]
    if not records:
        return []
    return [section("Latent space", tag("div", *panels, class_="panels"), anchor="latents")]


def _none() -> Html:
    text = "This study trains no generators: `downstream` in the study file does (docs/studies.md)."
    return section("Generators", missing(text), anchor="generators")
