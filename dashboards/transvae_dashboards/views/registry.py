"""View 7, the registry: versions, aliases, evaluation, lineage and promotions of a study's models, and loading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transvae_dashboards import formats
from transvae_dashboards.loading import code_lines, copied, copier
from transvae_dashboards.markup import Html, details, join, section, table, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.provenance import pairs
from transvae_dashboards.tables import ordered
from transvae_platform.study.state import TrialState

LEAD = (
    "A model is named by study, family, size and variant; a version is one trial, its best checkpoint; loading "
    "executes no code from the registry and verifies the weights against their SHA-256. The alias `best` goes to the "
    "best seed (of autoencoders by PSNR, of generators by loss) until somebody promotes another, and `NAME@best` loads "
    "it. {said}"
)
HELD = "Aliases, lineage and promotions are as MLflow had them when this page was drawn."
HELD_NONE = "MLflow holds none of these models: they were deleted there, or another server is asked."
JOURNAL = (
    "What stands here comes from the study's journal; aliases, lineage and promotions are MLflow's: `transvae registry "
    "show NAME`."
)


def registry(scene: Scene) -> list[Html]:
    """The parts of the view."""
    trials = [
        t for t in (*ordered(scene.state.autoencoders), *scene.state.generators) if t.registered or t.unregistered
    ]
    if not trials:
        nothing = "No model is registered yet: a trial's best checkpoint is when it has finished and was validated."
        return [section("Registry", tag("p", nothing, class_="missing"), anchor="registry")]
    answer: Any = scene.registry() if scene.registry else JOURNAL
    found: Sequence[Mapping[str, Any]] = answer if isinstance(answer, list) else ()
    said = str(answer) if isinstance(answer, str) else HELD if found else HELD_NONE
    by_uri = {version["uri"]: version for version in found}
    body = [_row(scene, trial, by_uri) for trial in trials]
    head = ["Model", "Version", "Loading code", "Aliases", "Trial", "PSNR, or named", "SHA-256", "Promoted"]
    shown = table(head, body, label="Registered models", text=(1, 2, 3, 4, 6, 7), kind="registered")
    cards = [_card(scene, trial, by_uri) for trial in trials if trial.registered]
    return [section("Registry", shown, anchor="registry", lead=LEAD.format(said=said)), *cards]


def _row(scene: Scene, trial: TrialState, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    name, made = scene.named(trial, f"{trial.trial.label} seed {trial.trial.seed}"), trial.registered
    if made is None:
        why = f"not registered: {trial.unregistered}"
        return [formats.NONE, formats.NONE, "", "", name, formats.NONE, formats.NONE, why]
    version = found.get(made["uri"])
    moves = version["promotions"] if version else []
    own = [move for move in moves if move["version"] == str(made["version"])]
    rank = trial.trial.ranked_by.metric.removeprefix("val/")
    quality = formats.number(made.get(rank), 2 if rank == "psnr" else 4)
    return [
        made["name"], str(made["version"]),
        copier(code_lines(scene.state, made["uri"], trial.trial.generator is not None)),
        " ".join(f"@{alias}" for alias in version["aliases"]) if version else formats.NONE,
        name, quality if rank == "psnr" else f"{rank} {quality}", tag("code", made["sha256"][:12]),
        f"@{own[-1]['alias']}, {own[-1]['at'][:16].replace('T', ' ')}, {own[-1]['how']}" if own else formats.NONE,
    ]  # fmt: skip


def _card(scene: Scene, trial: TrialState, found: Mapping[str, Mapping[str, Any]]) -> Html:
    """One version: the code that loads it, its evaluation and its lineage."""
    made = trial.registered
    assert made is not None
    version = found.get(made["uri"])
    title = f"{made['name']}, version {made['version']}"
    parts = [copied(code_lines(scene.state, made["uri"], trial.trial.generator is not None))]
    if version:
        metrics = [(key, formats.significant(value, 5)) for key, value in version["metrics"].items()]
        lineage = [(key, str(value)) for key, value in {"run": version["run"], **version["lineage"]}.items()]
        parts.append(
            tag("div", pairs(metrics, f"Evaluation of {title}"), pairs(lineage, f"Lineage of {title}"), class_="pair")
        )
    return tag("div", details(title, join(parts)), id=trial.trial.id, class_="card")
