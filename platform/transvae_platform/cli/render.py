"""What the terminal shows at the end of a study, and how numbers look everywhere."""

from __future__ import annotations

from pathlib import Path

from transvae_platform.cli.progress import format_seconds
from transvae_platform.cli.tables import console, table
from transvae_platform.redaction import without_password
from transvae_platform.study.calibration import outcomes, transfer
from transvae_platform.study.folders import load_call
from transvae_platform.study.state import StudyState

SCHEMA_VERSION = 1


def print_outcome(state: StudyState, page: Path | None, home: Path, tracking_uri: str) -> None:
    """How a study ended: results by family and size, the fitted laws, and the three paths that matter."""
    from transvae_dashboards.laws import fit_study, in_order
    from transvae_dashboards.tables import study_table

    out = console()
    rows = table(
        ("family", "left"),
        ("size", "left"),
        ("parameters", "right"),
        ("PSNR dB", "right"),
        (state.spec["fits"]["metric"], "right"),
        ("time", "right"),
    )
    for row in study_table(state):
        loss = row.metric(state.spec["fits"]["metric"])
        rows.add_row(
            row.family,
            row.size + ("" if row.variant == "base" else f" {row.variant}"),
            format_count(row.parameters),
            f"{row.psnr:.2f}" if row.finished and row.psnr is not None else row.state,
            f"{loss:.4f}" if row.finished and loss is not None else "",
            format_seconds(row.seconds),
        )
    out.print(rows)
    out.print()
    if state.spec["calibration"]:
        for family, sentence in transfer(outcomes(state)):
            out.print(f"{family}: {sentence}", highlight=False)
        out.print(f"use it: recipe.learning_rate: {{calibrated: {state.name}}}", highlight=False)
    else:
        for fit in in_order(fit_study(state)["parameters"]):
            out.print(f"{fit.family}: {fit.verdict}", highlight=False)
    if state.data and state.data["skipped"]:
        skipped = ", ".join(f"{skip['name']} ({skip['reason']})" for skip in state.data["skipped"][:5])
        count = len(state.data["skipped"])
        out.print(f"\n{count} image{'s were' if count > 1 else ' was'} skipped at ingest: {skipped}", markup=False)
    for trial in state.trials.values():
        if reason := trial.reason or trial.unregistered or state.waits_for(trial):
            out.print(f"{trial.trial.id}: {trial.state}: {reason}", markup=False)
    for note in state.notes:
        out.print(note, highlight=False)
    registered = [trial.registered for trial in state.in_state("finished") if trial.registered]
    shown = without_password(tracking_uri)
    out.print(f"\npage:    {page.resolve().as_uri() if page else 'none, it could not be written'}", soft_wrap=True)
    out.print(
        f"mlflow:  {shown}   (mlflow ui --backend-store-uri {shown})",
        soft_wrap=True,
    )
    if registered:
        best = max(registered, key=lambda record: float(record.get("psnr", "-inf")))
        call = load_call(f"models:/{best['name']}@best", home, shown)
        out.print(f"load:    from transvae_platform import load_model; vae = {call}", soft_wrap=True)


def format_count(number: float) -> str:
    """`63 k`, `1.5 M`, `2.31 B`: three digits."""
    for unit, suffix in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{suffix}"
    return f"{number:.0f}"


def format_bytes(number: float) -> str:
    """`45 MB`, `1.2 GB`: powers of ten, three digits."""
    for unit, suffix in ((1e12, " TB"), (1e9, " GB"), (1e6, " MB")):
        if number >= unit:
            return f"{number / unit:.3g}{suffix}"
    return f"{number / 1e3:.3g} kB"
