"""View 8, two studies or two trials beside each other: what differs in their configurations, curves, pictures.

The report has no form: it shows the pair that it was asked for (`--compare`, `--compare-trials`), or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.canvas import Panel
from transvae_dashboards.figures.comparison import Side, comparison_panel
from transvae_dashboards.figures.curves import metric_names, name_of
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.markup import Html, join, section, table, tag
from transvae_dashboards.scene import Scene, study_url
from transvae_dashboards.sections.beside import Drawn, drawn, pictures_beside
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.sections.provenance import leaves
from transvae_dashboards.tables import FAMILIES, FAMILY_NAMES, METRIC_NAMES, SIZES, ordered
from transvae_dashboards.views.curves import X_WORDS, look_of
from transvae_platform.study.state import TrialState

WHICH = "Of each model that both studies have the first seed with pictures."
CURVES, RESULTS = "Curves compared", "Results compared"
"""Titles that stand in a report beside those of other parts."""


def compare(scene: Scene) -> list[Html]:
    """The parts of the view: a form to choose by, and what is chosen; in the report only if something was."""
    other = scene.others(scene.query.get("with", "")) or scene.state
    left, right = _trial(scene.state, scene.query.get("a")), _trial(other, scene.query.get("b"))
    pair = ((scene.state, left), (other, right)) if left and right else None
    if not scene.live and pair is None and other.name == scene.state.name:
        return []
    titles = [_title(side) for side in pair] if pair else [scene.state.name, other.name]
    chosen = _form(scene, other) if scene.live else tag("p", " against ".join(titles), class_="lead")
    parts = [section("Compare", chosen, anchor="compare")]
    if pair:
        return [*parts, *_trials(scene, *pair)]
    if other.name != scene.state.name:
        return [*parts, *_studies(scene, other)]
    nothing = "Choose another study, or two trials: of this study, or one of each."
    return [*parts, tag("p", nothing, class_="missing")]


def _trial(study: FollowedStudy, name: str | None) -> TrialState | None:
    return study.trials.get(name or "")


def _form(scene: Scene, other: FollowedStudy) -> Html:
    def select(name: str, label: str, options: Sequence[tuple[str, str]], current: str) -> Html:
        items = [tag("option", text, value=value, selected="" if value == current else None) for value, text in options]
        return tag("label", f"{label} ", tag("select", *items, name=name))

    def names(study: FollowedStudy) -> list[tuple[str, str]]:
        trials = [*ordered(study.autoencoders), *study.generators]
        return [("", "the whole study"), *((t.trial.id, f"{t.trial.label} seed {t.trial.seed}") for t in trials)]

    query = scene.query
    return tag(
        "form",
        select("a", f"Of {scene.state.name}:", names(scene.state), query.get("a", "")),
        select("with", "against", [(name, name) for name in scene.names], other.name),
        select("b", f"of {other.name}:", names(other), query.get("b", "")),
        tag("button", "Compare", type="submit"),
        method="get", action=study_url(scene.state.name, "compare"), class_="choices", aria_label="What is compared",
    )  # fmt: skip


def _trials(scene: Scene, left: Side, right: Side) -> list[Html]:
    titles = [_title(left), _title(right)]
    values = [dict(leaves(side[1].trial.model_dump(mode="json"))) for side in (left, right)]
    known = metric_names(left[0], [left[1]])
    metrics = [name for name in known if name in metric_names(right[0], [right[1]])]
    parts = [_difference(titles, *values), _results([left, right], titles)]
    if metrics:
        look = look_of(scene, metrics)
        panel = comparison_panel([left], [right], look, titles)
        runs = " ".join(captions.of_trials(study.name, [trial]) for study, trial in (left, right))
        pick = [scene.choice("Metric", "metric", [(name, name) for name in metrics], look.metric),
                scene.choice("Against", "x", list(X_WORDS.items()), look.x)]  # fmt: skip
        charts = [figure(panel, f"{panel.label}. {runs}")] if panel else []
        parts.append(section(CURVES, *pick, tag("div", *charts, class_="panels"), anchor="compared-curves"))
    sides = [drawn(title, trial) for title, (_, trial) in zip(titles, (left, right), strict=True)]
    return [*parts, pictures_beside([("", sides)])]


def _title(side: Side) -> str:
    study, trial = side
    return f"{study.name}: {trial.trial.label} seed {trial.trial.seed}"


def _difference(titles: Sequence[str], left: Mapping[str, str], right: Mapping[str, str]) -> Html:
    keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    body = [
        [key, *(tag("span", side.get(key, formats.NONE), class_="value") for side in (left, right))] for key in keys
    ]
    title, same = "Configurations compared", len({*left, *right}) - len(keys)
    if not body:
        return section(title, tag("p", f"All {same} values are equal."), anchor="configuration")
    lead = f"{len(keys)} values differ, {same} are equal."
    return section(
        title, table(["Key", *titles], body, label="What differs", text=(1, 2)), anchor="configuration", lead=lead
    )


def _results(sides: Sequence[Side], titles: Sequence[str]) -> Html:
    def last(trial: TrialState) -> Mapping[str, Any]:
        return trial.validation[max(trial.validation)]["metrics"] if trial.validation else {}

    found = [last(trial) for _, trial in sides]
    names = list(dict.fromkeys([*found[0], *found[1]]))
    rows = [
        ["state", *(trial.state for _, trial in sides), ""],
        ["step", *(f"{trial.step:,}" for _, trial in sides), ""],
    ]
    for name in names:
        values = [metrics.get(name) for metrics in found]
        change = None if values[0] is None or values[1] is None else values[1] - values[0]
        rows.append([name, *(formats.significant(value, 4) for value in values), _signed(change)])
    return section(
        RESULTS,
        table(["", *titles, "Second − first"], rows, label="Results at the last validation"),
        anchor="results",
    )


def _signed(value: float | None) -> str:
    return (
        formats.NONE if value is None else f"{'+' if value > 0 else ''}{formats.significant(value)}".replace("-", "−")
    )


def _studies(scene: Scene, other: FollowedStudy) -> list[Html]:
    titles = [scene.state.name, other.name]
    metric = str(scene.state.spec.get("fits", {}).get("metric", "val/l1"))
    left, right = _means(scene.state, metric), _means(other, metric)
    body = []
    for key in sorted({*left, *right}, key=lambda k: (FAMILIES.index(k[0]), k[2] != "base", k[2], SIZES.index(k[1]))):
        cells = [side.get(key, (None, None)) for side in (left, right)]
        change = cells[1][0] / cells[0][0] - 1 if cells[0][0] and cells[1][0] else None
        label = f"{key[0]}-{key[1]}" + ("" if key[2] == "base" else f"-{key[2]}")
        body.append([label, *(formats.number(loss, 4) for loss, _ in cells), formats.percent(change, signed=True),
                     *(formats.number(psnr) for _, psnr in cells)])  # fmt: skip
    name = METRIC_NAMES.get(metric, metric)
    head = [
        "Model",
        *(f"{name}, {title}" for title in titles),
        "Second over first",
        *(f"PSNR, {title}" for title in titles),
    ]
    results = table(head, body, label="Finished models of both studies")
    lead = "Means over the seeds that finished; a dash where a study has no such model, or none that has finished."
    return [
        _difference(titles, dict(leaves(scene.state.spec)), dict(leaves(other.spec))),
        section(RESULTS, results, anchor="results", lead=lead), *_study_curves(scene, other),
        _study_pictures(scene.state, other),
    ]  # fmt: skip


def _means(study: FollowedStudy, metric: str) -> dict[tuple[str, str, str], tuple[float | None, float | None]]:
    cells: dict[tuple[str, str, str], list[TrialState]] = {}
    for state in ordered(study.autoencoders):
        if state.state == "finished":
            cells.setdefault((state.trial.family, state.trial.size, state.trial.variant), []).append(state)

    def mean(trials: Sequence[TrialState], name: str) -> float | None:
        values = [t.final[name] for t in trials if t.final.get(name) is not None]
        return sum(values) / len(values) if values else None

    return {key: (mean(trials, metric), mean(trials, "val/psnr")) for key, trials in cells.items()}


def _study_curves(scene: Scene, other: FollowedStudy) -> list[Html]:
    studies, titles = (scene.state, other), [scene.state.name, other.name]
    known = [metric_names(study, study.autoencoders) for study in studies]
    metrics = [name for name in known[0] if name in known[1]]
    if not metrics:
        return []
    look, panels = look_of(scene, metrics), []
    for family in FAMILIES:
        first, second = (
            [(study, trial) for trial in ordered(study.autoencoders) if trial.trial.family == family]
            for study in studies
        )
        if first and second and (panel := comparison_panel(first, second, look, titles)):
            panels.append(panel)
    pick = scene.choice("Metric", "metric", [(name, name) for name in metrics], look.metric)
    charts = tag("div", *(figure(panel, _caption(panel, studies)) for panel in panels), class_="panels")
    lead = f"Families that both studies have: solid {titles[0]}, dashed {titles[1]}."
    return [section(CURVES, join([pick, charts]), anchor="compared-curves", lead=lead)]


def _caption(panel: Panel, studies: Sequence[FollowedStudy]) -> str:
    def begun(study: FollowedStudy, trial: TrialState) -> bool:
        return trial.trial.family == panel.of and bool(trial.validation or study.columns(trial).names)

    own = [(study.name, [t for t in study.autoencoders if begun(study, t)]) for study in studies]
    return f"{panel.label}. " + " ".join(captions.of_trials(name, trials) for name, trials in own)


def _study_pictures(first: FollowedStudy, second: FollowedStudy) -> Html:
    left, right = _drawn_models(first), _drawn_models(second)
    names = [name for name in left if name in right]
    return pictures_beside([(name, (left[name], right[name])) for name in names], WHICH)


def _drawn_models(study: FollowedStudy) -> dict[str, Drawn]:
    """By model and variant, in the order of every table."""
    found: dict[str, Drawn] = {}
    for trial in ordered(study.autoencoders):
        name = f"{FAMILY_NAMES[trial.trial.family]} {name_of(trial)}"
        if name not in found and (pictures := drawn(study.name, trial)) is not None:
            found[name] = pictures
    return found
