"""View 5, tables 1 and 2 of the paper: our value, the paper's, the difference; nothing for cells that were not run."""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards.markup import Html, tag
from transvae_dashboards.printed import makers
from transvae_dashboards.scene import Scene
from transvae_dashboards.table1 import table1_sections
from transvae_dashboards.table2 import table2_sections
from transvae_dashboards.tables import ordered
from transvae_platform.evaluation.latent_space.records import LatentRecord, all_latent_records
from transvae_platform.evaluation.records import Record, all_records


def tables(scene: Scene) -> list[Html]:
    """The parts of the view; in the report only if the study measured anything."""
    records, latents = measured(scene)
    if not scene.live and not records and not latents:
        return []
    parts = [tag("h2", "Table 1: reconstruction"), *table1_sections(records), tag("h2", "Table 2: latents"),
             *table2_sections(latents, [scene.state])]  # fmt: skip
    pick = scene.choice("Evaluations", "of", [("study", "of this study"), ("home", "of the whole home")], which(scene))
    return [pick, tag("div", *parts, class_="tables")]


def which(scene: Scene) -> str:
    """Whose evaluations are shown."""
    return scene.one("of", ("study", "home"), "study")


def measured(scene: Scene) -> tuple[list[Record], list[LatentRecord]]:
    """The records of this study's models, or of the whole home; latents in the order of families and sizes."""
    home, keys = scene.state.folder.parents[1], scene.state.measured
    everything = which(scene) == "home"
    latents = [record for record in all_latent_records(home) if everything or record.key in keys]
    return [record for record in all_records(home) if everything or record.key in keys], in_order(scene, latents)


def in_order(scene: Scene, latents: Sequence[LatentRecord]) -> list[LatentRecord]:
    """Latents as their makers stand in every table of the study, those of other models after them by name."""
    known = makers(scene.state, latents)
    place = {trial.trial.id: number for number, trial in enumerate(ordered(scene.state.autoencoders))}
    return sorted(latents, key=lambda one: place.get(known[one.key].trial.id if one.key in known else "", len(place)))
