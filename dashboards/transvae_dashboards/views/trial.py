"""The page of one trial: how it stands, its curves and pictures, its checkpoints, and the code that loads it."""

from __future__ import annotations

from transvae_dashboards import formats
from transvae_dashboards.figures.curves import Look, curve_panels, metric_names
from transvae_dashboards.icons import family_mark, state_mark
from transvae_dashboards.loading import loading_code
from transvae_dashboards.markup import Html, details, join, section, table, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.sections.charts import figure
from transvae_dashboards.sections.provenance import leaves, pairs
from transvae_dashboards.tables import FAMILY_NAMES
from transvae_dashboards.views.curves import curve_caption
from transvae_platform.study.state import TrialState

MOST = 6
"""Charts on the page: of the usual metrics, as far as there are any."""
SHOWN = ("l1", "psnr", "loss", "gradient_norm", "learning_rate", "seconds_per_step", "ssim", "kl")

OF_AUTOENCODERS = {"val/psnr": ("PSNR", 2), "val/ssim": ("SSIM", 3), "val/l1": ("L1", 4)}
OF_GENERATORS = {"val/loss": ("Held-out loss", 4), "val/gfid": ("FID", 2), "val/gfid_random": ("Random features", 2)}
"""What stands beside a checkpoint: metric -> its column and decimals."""


def trial_view(scene: Scene, state: TrialState) -> list[Html]:
    """The parts of the page."""
    trial = state.trial
    name = f"{trial.label}, seed {trial.seed}"
    mark = family_mark(trial.family) if trial.family in FAMILY_NAMES else Html("")
    header = tag(
        "header", tag("p", "Trial", class_="eyebrow"), tag("h1", name), tag("p", mark, " ", state_mark(state.state))
    )
    return [header, _standing(scene, state), _loading(scene, state), _curves(scene, state), _checkpoints(scene, state),
            _configuration(state)]  # fmt: skip


def _standing(scene: Scene, state: TrialState) -> Html:
    left = scene.left.get(state.trial.id)
    facts = [
        ("Id", state.trial.id), ("Model", state.trial.model),
        ("Parameters", formats.parameters(state.cost["parameters"])),
        ("Step", f"{state.step:,} of {state.trial.recipe.steps:,}"), ("Images seen", f"{state.images:,}"),
        ("Training time", formats.duration(state.seconds)),
        ("Left", formats.NONE if left is None else f"about {formats.duration(left)}"),
        ("Device", f"{state.trial.workers.workers} x {state.trial.workers.device}"),
        ("Attempts", str(state.attempts)), ("Preemptions", str(state.preemptions)),
        *([("Reason", state.reason)] if state.reason else []), *([("Alarm", state.alarm)] if state.alarm else []),
        *([("Not registered", state.unregistered)] if state.unregistered else []),
        ("Folder", str(state.folder)), ("MLflow", f"experiment {scene.state.name}, tag trial_id = {state.trial.id}"),
    ]  # fmt: skip
    spans = [
        [str(n), formats.moment(s.start), f"{s.resumed_from:,}", f"{s.step:,}", s.how]
        for n, s in enumerate(scene.state.history(state).spans, start=1)
    ]
    went = [f"{text}" for text in state.lost]
    went += [f"Taken back from step {r['from']:,} to {r['to']:,}: {r['reason']}." for r in state.rewound]
    events = tag("ul", *(tag("li", text) for text in went)) if went else Html("")
    shown = table(["Attempt", "Began", "From step", "To step", "How it ended"], spans, label="Attempts", text=(1, 4))
    return section(
        "How it stands", tag("div", pairs(facts, "Facts"), join([shown, events]), class_="pair"), anchor="standing"
    )


def _loading(scene: Scene, state: TrialState) -> Html:
    code = loading_code(scene.state, state)
    if code is None:
        text = "Not registered yet: a trial is when it has finished, and its best checkpoint was checked."
        return section("Loading it", tag("p", text, class_="missing"), anchor="loading")
    registered = state.registered or {}
    words = f"Version {registered['version']} of {registered['name']}, weights' SHA-256 {registered['sha256'][:16]}…"
    link = scene.to("registry")
    to = tag("p", tag("a", "In the registry", href=f"{link}#{state.trial.id}")) if link else Html("")
    return section("Loading it", tag("p", words), code, to, anchor="loading")


def _curves(scene: Scene, state: TrialState) -> Html:
    known = metric_names(scene.state, [state])
    metrics = [name for name in SHOWN if name in known][:MOST]
    drawn = [(name, curve_panels(scene.state, [state], Look(name), scene.trial)) for name in metrics]
    # a curve of zeros has no place on a log axis, and so no chart
    figures = [
        join([tag("h4", name), figure(panel, curve_caption(scene, [state], Look(name)))])
        for name, panels in drawn
        for panel in panels
    ]
    if not figures:
        return section("Curves", tag("p", "No record yet.", class_="missing"), anchor="curves")
    if state.trial.generator is None:
        link, words = scene.to("curves", family=state.trial.family, size=state.trial.size), "Among its family"
    else:
        link, words = scene.to("latents"), "Among the generators"
    more = tag("p", tag("a", words, href=link)) if link else Html("")
    return section(
        "Curves", tag("div", *(tag("div", part) for part in figures), class_="panels"), more, anchor="curves"
    )


def _checkpoints(scene: Scene, state: TrialState) -> Html:
    best = state.checkpoints[max(state.checkpoints)]["best_step"] if state.checkpoints else None
    measured = OF_AUTOENCODERS if state.trial.generator is None else OF_GENERATORS
    body = [
        [f"{step:,}" + (" (best)" if step == best else ""), formats.moment(record["at"]),
         tag("code", str(record["sha256"])[:16]),
         *(formats.number(state.validation.get(step, {}).get("metrics", {}).get(key), digits) for key, (_, digits) in
           measured.items())]
        for step, record in sorted(state.checkpoints.items())
    ]  # fmt: skip
    if not body:
        return section("Checkpoints", tag("p", "None yet.", class_="missing"), anchor="checkpoints")
    lead = f"In {state.trial.checkpoints or state.folder / 'checkpoints'}; older ones are removed, their records stay."
    shown = table(
        ["Step", "Written", "SHA-256", *(word for word, _ in measured.values())], body, label="Checkpoints", text=(1, 2)
    )
    return section(
        "Checkpoints", shown if len(body) <= 12 else details(f"All {len(body)}", shown), anchor="checkpoints", lead=lead
    )


def _configuration(state: TrialState) -> Html:
    values = list(leaves(state.trial.model_dump(mode="json")))
    return section("Configuration", details("Every value", pairs(values, "Configuration")), anchor="configuration")
