"""View 3, scaling: metric and PSNR over parameters or training FLOPs, laws, residuals, profiles, refusals."""

from __future__ import annotations

from transvae_dashboards.laws import X_NAMES, XName
from transvae_dashboards.markup import Html, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.charts import quality, scaling, variants
from transvae_dashboards.sections.designs import designs
from transvae_dashboards.sections.laws import laws
from transvae_dashboards.sections.rates import rates
from transvae_dashboards.sections.sensitivity import residuals, sensitivity
from transvae_platform.fitting import FitReport

WORDS: dict[XName, str] = {"parameters": "parameters", "training_flops": "training FLOPs"}


def scaling_view(scene: Scene) -> list[Html]:
    """The parts of the view: over one x on the dashboard, over both in the report."""
    state, rows = scene.state, scene.rows
    if state.spec.get("calibration"):
        return [rates(state)]
    compared = [variants(rows, state.name)] if any(row.variant != "base" for row in rows) else []
    asked = scene.one("x", X_NAMES, X_NAMES[0])
    names = [name for name in X_NAMES if not scene.live or name == asked]
    reports: dict[str, FitReport] = {name: scene.fits[name] for name in names}
    pick = tag("nav", scene.choice("Over", "x", list(WORDS.items()), asked), class_="choices", aria_label="Over what")
    return [
        *([pick] if scene.live else []), *compared, *(scaling(report, state.name) for report in reports.values()),
        quality(rows, state.name, names[0] if scene.live else "parameters"), laws(reports, state.name),
        *(residuals(report, state.name) for report in reports.values() if report.families),
        *(sensitivity(report, state.name) for report in reports.values() if report.families),
        designs(rows, scene.fits, state.name),
    ]  # fmt: skip
