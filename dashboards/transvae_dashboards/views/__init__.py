"""The views of a study, one file each: a page of the dashboard each, and one after the other in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transvae_dashboards.markup import Html
from transvae_dashboards.scene import Scene
from transvae_dashboards.views.compare import compare
from transvae_dashboards.views.curves import curves
from transvae_dashboards.views.latents import latents
from transvae_dashboards.views.overview import overview
from transvae_dashboards.views.reconstructions import reconstructions
from transvae_dashboards.views.registry import registry
from transvae_dashboards.views.scaling import scaling_view
from transvae_dashboards.views.tables import tables


@dataclass(frozen=True)
class View:
    """One view: its word in the navigation, its title, and what draws its parts."""

    word: str
    title: str
    draw: Callable[[Scene], list[Html]]


VIEWS = {
    "overview": View("Study", "Study", overview),
    "curves": View("Curves", "Learning curves", curves),
    "scaling": View("Scaling", "Scaling", scaling_view),
    "reconstructions": View("Reconstructions", "Reconstructions", reconstructions),
    "tables": View("Tables", "Tables 1 and 2", tables),
    "latents": View("Latents", "Latent space", latents),
    "registry": View("Registry", "Registry", registry),
    "compare": View("Compare", "Compare", compare),
}
"""By the last part of their address, in the order of the navigation."""
