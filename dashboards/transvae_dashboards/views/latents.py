"""View 6, latent space: density and linear probe of latents, and curves of generators trained on them (figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from transvae_dashboards.figures.canvas import Panel
from transvae_dashboards.figures.latents import comparable_densities, density_panels, map_panel, probe_panel
from transvae_dashboards.figures.probes import comparable_probes, probe_epoch_panel, probe_size_panel
from transvae_dashboards.markup import Html, missing, section, tag
from transvae_dashboards.printed import makers
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.sections.generators import generators
from transvae_dashboards.table2 import measured_sections
from transvae_dashboards.views.tables import measured, which
from transvae_platform.evaluation.latent_space.records import LatentRecord, kept_map

LEAD = (
    "Numbers and charts of one setting only: those measured under another one stand in the tables. Bars: one standard "
    "deviation. Maps: each point is one latent vector, the brighter the more others lie about it."
)
MAP = "t-SNE map of {content} latents of {name}, first run, coloured by a Gaussian kernel's estimate of the density."
MAPS = 8
"""Maps on one page (assumption: each takes a tenth of a second)."""


def latents(scene: Scene) -> list[Html]:
    """The parts of the view."""
    _, records = measured(scene)
    pick = scene.choice("Latents", "of", [("study", "of this study"), ("home", "of the whole home")], which(scene))
    nothing = missing(
        "No latents were measured yet: `tables` in the study file does, or `transvae density NAME` and "
        "`transvae probe NAME` with the name of latents that `transvae data latents` made."
    )
    numbers = measured_sections(records, [scene.state]) or [nothing]
    parts = [pick, section("Latent space", charts(scene, records), *numbers, anchor="latents", lead=LEAD)]
    return [*parts, generators(scene)] if scene.state.generators else [*parts, _none()]


def latents_report(scene: Scene) -> list[Html]:
    """The same for the report: nothing where nothing was measured (generators stand on the first part)."""
    _, records = measured(scene)
    if not records:
        return []
    return [section("Latent space", charts(scene, records), anchor="latents", lead=LEAD)]


def charts(scene: Scene, records: Sequence[LatentRecord]) -> Html:
    """Densities, probes and maps, each with what it measures and of which latents."""
    densities, probes = comparable_densities(records), comparable_probes(records)
    drawn = [figure(panel, _density(panel, densities)) for panel in density_panels(densities)]
    if probes:
        found = [probe_panel(probes), probe_size_panel(probes, makers(scene.state, probes)), probe_epoch_panel(probes)]
        drawn += [figure(panel, _probe(panel, probes)) for panel in found if panel is not None]
    drawn += [figure(panel, MAP.format(content=record.latents["content"], name=record.latents["name"]))
              for record, panel in maps(scene, records)]  # fmt: skip
    return tag("div", *drawn, class_="panels") if drawn else Html("")


def maps(scene: Scene, records: Sequence[LatentRecord]) -> list[tuple[LatentRecord, Panel]]:
    """The t-SNE maps that were kept, of the first few densities."""
    home = scene.state.folder.parents[1]
    known = ((record, kept_map(home, record.key)) for record in records if record.kind == "density")
    found = islice(((record, points) for record, points in known if points is not None), MAPS)
    return [(record, map_panel(record, points)) for record, points in found]


def _density(panel: Panel, records: Sequence[LatentRecord]) -> str:
    result = records[0].result
    what = f"{_begun(panel)} of {result['n']:,} latent vectors, mean and standard deviation of"
    return f"{what} {result['runs']} runs. {_of(records)}"


def _probe(panel: Panel, records: Sequence[LatentRecord]) -> str:
    result = records[0].result
    count = f"{result['images'].get('validation', 0):,} held-out images in {result['classes']:,} classes"
    return f"{_begun(panel)}; {count}. {_of(records)}"


def _begun(panel: Panel) -> str:
    """What a chart measures, without its numbers, as the beginning of a sentence."""
    what = panel.label.partition(":")[0]
    return what[:1].upper() + what[1:]


def _of(records: Sequence[LatentRecord]) -> str:
    return f"Latents: {', '.join(str(record.latents['name']) for record in records)}."


def _none() -> Html:
    text = "This study trains no generators: `downstream` in the study file does (docs/studies.md)."
    return section("Generators", missing(text), anchor="generators")
