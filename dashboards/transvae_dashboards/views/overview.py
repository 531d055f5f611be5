"""View 1, the study: question and answer so far, notices, the grid of trials, attempts on a timeline, device-hours."""

from __future__ import annotations

from transvae_dashboards.markup import Html
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.attempts import attempts
from transvae_dashboards.sections.generators import generators
from transvae_dashboards.sections.notices import notices
from transvae_dashboards.sections.opening import opening
from transvae_dashboards.sections.spending import spending
from transvae_dashboards.sections.trials import trials


def overview(scene: Scene) -> list[Html]:
    """The parts of the view."""
    parts = [opening(scene.state, scene.rows, scene.fits), notices(scene.state, scene.rows), trials(scene)]
    if scene.state.generators:
        parts.append(generators(scene))
    return [*parts, attempts(scene), spending(scene)] if scene.state.trials else parts
