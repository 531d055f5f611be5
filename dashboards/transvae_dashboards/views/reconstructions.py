"""View 4, reconstructions: the same held-out images by every family and size (figure 5b), by resolution (3a)."""

from __future__ import annotations

from transvae_dashboards.extrapolation import extrapolation_sections
from transvae_dashboards.markup import Html, missing, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.pictures import pictures
from transvae_platform.evaluation.records import all_records


def reconstructions(scene: Scene) -> list[Html]:
    """The parts of the view."""
    home = scene.state.folder.parents[1]
    # by its own `tables`, or by hand
    own = {trial.registered.get("sha256") for trial in scene.state.trials.values() if trial.registered}
    records = [
        record for record in all_records(home)
        if record.key in scene.state.measured or record.model["weights_sha256"] in own
    ]  # fmt: skip
    extrapolated = extrapolation_sections(records, home)
    if not extrapolated and not scene.live:
        return [pictures(scene)]
    title = tag("h2", "Extrapolation to other resolutions")
    nothing = missing(
        "No model of this study was evaluated at two resolutions yet: `tables` in the study file does, or "
        "`transvae evaluate MODEL --data NAME` with data of other resolutions."
    )
    return [pictures(scene), tag("section", title, *(extrapolated or [nothing]), id="extrapolation")]
