"""Running a study in this process, to its page: what `transvae study submit` and `resume` do without a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer

from transvae_platform.cli.beside import beside
from transvae_platform.cli.fit_files import keep_fits
from transvae_platform.cli.progress import StudyProgress
from transvae_platform.cli.render import print_outcome
from transvae_platform.cluster.planning import plan_study, prepare
from transvae_platform.cluster.submit import submit_study
from transvae_platform.errors import UserError
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import OVER, StudyState
from transvae_platform.tracking.rates import Asked
from transvae_platform.tracking.runs import log_page
from transvae_platform.tracking.server import default_tracking_uri

T = TypeVar("T")


def run_here(spec: StudySpec, home: Path, tracking_uri: str | None) -> None:
    """Run, continue or follow a study, show how it goes, and draw its page.

    Raises UserError as `submit_study`; typer.Exit(3) where something is left to do.
    """
    uri = tracking_uri or default_tracking_uri(home)
    asked = Asked(uri)
    prepared = prepare(spec, home.resolve(), tracking_uri)
    cluster = os.environ.get("RAY_ADDRESS")
    planned = plan_study(prepared, home.resolve(), cluster, told=asked.rates)
    with StudyProgress(planned) as progress:
        state = submit_study(prepared, home, uri, progress.listen, cluster, asked.rates)
        progress.stage("drawing the report")
        troubles: list[UserError] = []  # the study is done all the same: the rest is kept, and the outcome told
        page = _tried(troubles, lambda: write_page(state, uri))
        if page is not None:
            _tried(troubles, lambda: log_page(uri, home, state, page))
        if spec.calibration is None:
            _tried(troubles, lambda: keep_fits(state, home, uri))
    print_outcome(state, page, home, uri)
    if spec.tables is not None:
        from transvae_dashboards.evaluations import write_evaluations

        for title, written in write_evaluations(home.resolve(), state.folder, state).items():
            print(f"{title}: {written.resolve().as_uri()}")
    if troubles:
        raise type(troubles[0])("; ".join(dict.fromkeys(map(str, troubles))))
    unregistered = any(trial.unregistered for trial in state.in_state("finished"))
    if unregistered or state.not_measured or sum(len(state.in_state(over)) for over in OVER) < len(prepared.trials):
        raise typer.Exit(3)


def write_page(state: StudyState, uri: str) -> Path:
    """Draw a study's page into its folder, with what the MLflow server at `uri` says of its models."""
    from transvae_dashboards import write_report

    shown = beside(state, state.folder.parents[1], tracking_uri=uri)
    return write_report(state, state.folder / "report.html", beside=shown)


def _tried(troubles: list[UserError], work: Callable[[], T]) -> T | None:
    """What a piece of work gives; None if it cannot be done, and why stands among the troubles."""
    try:
        return work()
    except UserError as error:
        troubles.append(error)
        return None
