"""View 2, learning curves: any metric over any axis, of chosen families, sizes, variants and seeds; early pictures."""

from __future__ import annotations

from collections.abc import Sequence

from transvae_dashboards import captions, formats
from transvae_dashboards.figures.curves import X_AXES, Look, XName, curve_panels, metric_names, name_of
from transvae_dashboards.icons import family_mark
from transvae_dashboards.markup import Html, details, section, table, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.sections.early import early
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES, ordered
from transvae_platform.study.state import TrialState

LEAD = (
    "One panel per family, one scale for all. Thin: training batches. Strong: held-out images, averaged weights. "
    "Heavier lines are larger models, dotted ones variants. On the axis: a triangle where an attempt resumed, a "
    "diamond where one was preempted, a cross where one failed or died, an arrow head where the guard went back to. "
    "The first tenth is left out of the range of a linear axis. Long curves are thinned: of every bin the lowest and "
    "the highest point are drawn, so that no extreme is lost and nothing is averaged."
)
UNLIKE = " Alignment losses do not compare between families: their margins differ in what they leave out (paper, 3.4)."
X_WORDS: dict[XName, str] = {"step": "step", "images": "images", "flops": "FLOPs", "hours": "device-hours"}


def curves(scene: Scene) -> list[Html]:
    """The parts of the view."""
    return [learning_curves(scene), *early(scene)]


def learning_curves(scene: Scene) -> Html:
    """Choices, charts, and the last number of every curve."""
    known = ordered(scene.state.autoencoders)
    metrics = metric_names(scene.state, known)
    if not metrics:
        nothing = tag("p", "Nothing to draw yet: this needs a training record.", class_="missing")
        return section("Learning curves", nothing, anchor="curves")
    look, trials = look_of(scene, metrics), chosen(scene, known)
    panels = curve_panels(scene.state, trials, look, scene.trial)
    none = tag("p", f"No chosen trial has a value of {look.metric} yet.", class_="missing")
    drawn = [
        figure(panel, curve_caption(scene, [t for t in trials if t.trial.family == panel.of], look)) for panel in panels
    ]
    charts = tag("div", *drawn, class_="panels") if drawn else none
    lead = LEAD + (UNLIKE if look.metric.startswith("vf") else "")
    return section(
        f"Learning curves: {look.metric}", choices(scene, metrics, look), selections(scene, known), charts,
        details("The numbers, and every run", numbers(scene, trials, look), opened=scene.live), anchor="curves",
        lead=lead,
    )  # fmt: skip


def curve_caption(scene: Scene, trials: Sequence[TrialState], look: Look) -> str:
    """What a panel of curves shows, and of which of these trials: of those that have anything of the metric."""
    metric = look.metric
    trained = {t.trial.id: set(scene.state.columns(t).names) & {metric, f"train/{metric}"} for t in trials}
    checked = {
        t.trial.id: any(f"val/{metric}" in record["metrics"] for record in t.validation.values()) for t in trials
    }
    seen = [
        words
        for words, known in (
            ("of training batches", any(f"train/{metric}" in names for names in trained.values())),
            ("of held-out images", any(checked.values())),
        )
        if known
    ]
    shown = [t for t in trials if trained[t.trial.id] or checked[t.trial.id]]
    what = f"{metric} {' and '.join(seen) or 'during training'} against {X_WORDS[look.x]}"
    return f"{what}. {captions.of_trials(scene.state.name, shown)}"


def look_of(scene: Scene, metrics: Sequence[str]) -> Look:
    """The chart that the address asks for."""
    x = scene.one("x", tuple(X_AXES), "step")
    y = scene.one("y", ("log", "linear"), "")
    return Look(
        scene.one("metric", metrics, metrics[0]), next(name for name in X_AXES if name == x),
        scene.one("xlog", ("1",), "") == "1", None if not y else y == "log",
    )  # fmt: skip


def choices(scene: Scene, metrics: Sequence[str], look: Look) -> Html:
    """Metric and axes, as links."""
    return tag(
        "nav",
        scene.choice("Metric", "metric", [(name, name) for name in metrics], look.metric),
        scene.choice("Against", "x", list(X_WORDS.items()), look.x),
        scene.choice("Its axis", "xlog", [("", "linear"), ("1", "log")], "1" if look.x_log else ""),
        scene.choice("Metric's axis", "y", [("linear", "linear"), ("log", "log")],
                     "log" if look.logarithmic else "linear"),
        class_="choices", aria_label="What is drawn",
    ) if scene.live else Html("")  # fmt: skip


def selections(scene: Scene, known: Sequence[TrialState]) -> Html:
    """Families, sizes, variants and seeds, as links."""
    trials = [state.trial for state in known]
    return tag(
        "nav",
        scene.subset("Families", "family", [(f, FAMILY_NAMES[f]) for f in dict.fromkeys(t.family for t in trials)]),
        scene.subset("Sizes", "size", [(s, SIZE_NAMES[s]) for s in SIZE_NAMES if s in {t.size for t in trials}]),
        scene.subset("Variants", "variant", [(v, v) for v in dict.fromkeys(t.variant for t in trials)]),
        scene.subset("Seeds", "seed", [(str(s), str(s)) for s in sorted({t.seed for t in trials})]),
        class_="choices", aria_label="Which trials are drawn",
    ) if scene.live else Html("")  # fmt: skip


def chosen(scene: Scene, known: Sequence[TrialState]) -> list[TrialState]:
    """The trials that the address selects; all where it selects none."""
    found = list(known)
    for key, of in (
        ("family", lambda t: t.family), ("size", lambda t: t.size), ("variant", lambda t: t.variant),
        ("seed", lambda t: str(t.seed)),
    ):  # fmt: skip
        values = scene.many(key, list(dict.fromkeys(of(state.trial) for state in known)))
        found = [state for state in found if of(state.trial) in values]
    return found


def numbers(scene: Scene, trials: Sequence[TrialState], look: Look) -> Html:
    """A row per trial, leading to its page."""
    body = []
    for state in trials:
        _, values = scene.state.columns(state).curve(f"train/{look.metric}")
        resumed = [f"{span.resumed_from:,}" for span in scene.state.history(state).spans[1:]]
        body.append(
            [
                family_mark(state.trial.family), scene.named(state, name_of(state)), str(state.trial.seed),
                f"{state.step:,}", formats.significant(float(values[-1]), 4) if len(values) else formats.NONE,
                _validated(state, look.metric), ", ".join(resumed) or formats.NONE,
            ]
        )  # fmt: skip
    head = [
        "Family",
        "Model",
        "Seed",
        "Step",
        f"Training {look.metric}",
        f"Held-out {look.metric}",
        "Resumed from step",
    ]
    return table(head, body, label=f"{look.metric} at the last step", text=(1,))


def _validated(state: TrialState, metric: str) -> str:
    if not state.validation:
        return formats.NONE
    return formats.significant(state.validation[max(state.validation)]["metrics"].get(f"val/{metric}"), 4)
