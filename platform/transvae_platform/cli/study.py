"""`transvae study ...`: plan, submit, follow and report studies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from transvae_platform.cli.jobs import Address, Follow

if TYPE_CHECKING:
    from transvae_platform.errors import UserError
    from transvae_platform.study.state import StudyState

T = TypeVar("T")
app = typer.Typer(help="Plan, submit, follow and report studies.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The study file, e.g. studies/quickstart.yaml", show_default=False)]
Changes = Annotated[
    list[str] | None, typer.Argument(help="Changes on top of the file, e.g. recipe.steps=100", show_default=False)
]
Home = Annotated[
    Path, typer.Option(help="Folder of studies, data sets and the default MLflow store.", envvar="TRANSVAE_HOME")
]
Tracking = Annotated[
    str | None,
    typer.Option(help="MLflow server; default MLFLOW_TRACKING_URI, else SQLite in the home.", show_default=False),
]
StudyName = Annotated[str, typer.Argument(help="The study's name, or its file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]


@app.command()
def plan(
    file: File,
    changes: Changes = None,
    home: Home = Path("runs"),
    gpus: Annotated[
        int | None,
        typer.Option(help="Plan for a cluster with so many GPUs; images and files are not looked for here.", min=1),
    ] = None,
    price: Annotated[float | None, typer.Option(help="Of an hour of one device, for the cost.", min=0)] = None,
    informed_by: Annotated[
        str | None,
        typer.Option(
            help="A study whose finished trials say what to expect, and what to run next.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print every trial with its parameters, FLOPs, time, memory and disk, and what all cost. Changes nothing."""
    from transvae_platform.cli.render import plan_document, print_plan
    from transvae_platform.cluster.submit import plan_study, prepare, prepare_elsewhere
    from transvae_platform.study.load import load_study

    spec = load_study(file, tuple(changes or ()))
    prepared = prepare(spec, home.resolve()) if gpus is None else prepare_elsewhere(spec, home.resolve())
    planned = plan_study(prepared, home.resolve(), os.environ.get("RAY_ADDRESS"), gpus)
    informed = None
    if informed_by is not None:
        from transvae_platform.cli.informed import inform, informed_document, print_informed

        informed = inform(planned, open_study(informed_by, home))
    if as_json:
        document = plan_document(planned, price)
        print(
            json.dumps(
                document if informed is None else {**document, "informed_by": informed_document(informed)}, indent=1
            )
        )
        return
    print_plan(spec, planned, price)
    if informed is not None:
        print_informed(informed)


@app.command()
def submit(
    file: File,
    changes: Changes = None,
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
    address: Address = None,
    follow: Follow = True,
) -> None:
    """Run a study to its report; the same command again continues it, or follows it while it runs.

    Without --address it runs here: on this machine's cores and GPUs, or on the cluster that RAY_ADDRESS names when
    this machine is its head. With --address it becomes a job of that cluster and survives this machine.
    """
    from transvae_platform.study.load import load_study

    spec = load_study(file, tuple(changes or ()))
    if address is not None:
        from transvae_platform.cluster.jobs import study_job, submit_job

        submit_job(study_job(spec, home, tracking_uri), address, home, follow=follow)
        return
    from transvae_platform.cli.fit_files import keep_fits
    from transvae_platform.cli.progress import StudyProgress
    from transvae_platform.cli.render import print_outcome
    from transvae_platform.cluster.submit import plan_study, prepare, submit_study
    from transvae_platform.study.state import OVER
    from transvae_platform.tracking.runs import log_page
    from transvae_platform.tracking.server import default_tracking_uri

    prepared = prepare(spec, home.resolve(), tracking_uri)
    cluster = os.environ.get("RAY_ADDRESS")
    planned = plan_study(prepared, home.resolve(), cluster)
    uri = tracking_uri or default_tracking_uri(home)
    with StudyProgress(planned) as progress:
        state = submit_study(prepared, home, uri, progress.listen, cluster)
        progress.stage("drawing the report")
        troubles: list[UserError] = []  # the study is done all the same: the rest is kept, and the outcome told
        page = _tried(troubles, lambda: _write_report(state))
        if page is not None:
            _tried(troubles, lambda: log_page(uri, home, state, page))
        if spec.calibration is None:
            _tried(troubles, lambda: keep_fits(state, home, uri))
    print_outcome(state, page, home, uri)
    if spec.tables is not None:
        from transvae_dashboards.evaluations import write_evaluations

        for title, written in write_evaluations(home.resolve(), state.folder, state.measured).items():
            print(f"{title}: {written.resolve().as_uri()}")
    if troubles:
        raise type(troubles[0])("; ".join(dict.fromkeys(map(str, troubles))))
    unregistered = any(trial.unregistered for trial in state.in_state("finished"))
    if unregistered or state.not_measured or sum(len(state.in_state(over)) for over in OVER) < len(prepared.trials):
        raise typer.Exit(3)


@app.command()
def status(study: StudyName, home: Home = Path("runs"), as_json: AsJson = False) -> None:
    """Show every trial's state, who runs the study and what is left, from the journals; works while it runs."""
    from transvae_platform.cli.render_status import print_status, status_document

    state = open_study(study, home)
    if as_json:
        print(json.dumps(status_document(state), indent=1))
    else:
        print_status(state)


@app.command()
def report(
    study: StudyName,
    home: Home = Path("runs"),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write the page.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="A folder for every chart as SVG and PDF.", show_default=False)
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(help="A folder for every table as CSV and LaTeX.", show_default=False)
    ] = None,
    price: Annotated[float | None, typer.Option(help="Of an hour of one device, for costs.", min=0)] = None,
) -> None:
    """Write the study's page: tables, learning curves, scaling curves, pictures, provenance, in one HTML file."""
    from transvae_dashboards import write_figures, write_tables

    state = open_study(study, home)
    print(_write_report(state, output, price).resolve().as_uri())
    for path in write_figures(state, figures, pdf=True) if figures is not None else ():
        print(path)
    for path in write_tables(state, tables) if tables is not None else ():
        print(path)


@app.command()
def schema() -> None:
    """Print the JSON schema of study files, for completion and checking in editors."""
    from transvae_platform.study.load import study_schema

    print(study_schema(), end="")


def refuse_unknown(name: str, home: Path) -> None:
    """Raises SpecError, with the names of those that are there, if no such study was submitted in this home."""
    from transvae_platform.errors import SpecError
    from transvae_platform.study.folders import study_folder

    if not (study_folder(home, name) / "journal.jsonl").exists():
        known = sorted(journal.parent.name for journal in home.glob("studies/*/journal.jsonl"))
        raise SpecError(f"{home} holds no study {name!r} - it has: {', '.join(known) or 'none yet'}")


def open_study(study: str, home: Path) -> StudyState:
    from transvae_platform.study.folders import study_folder
    from transvae_platform.study.load import load_study
    from transvae_platform.study.state import StudyState

    name = load_study(Path(study)).study if study.endswith((".yaml", ".yml")) else study
    refuse_unknown(name, home)
    return StudyState(study_folder(home, name))


def _write_report(state: StudyState, output: Path | None = None, price: float | None = None) -> Path:
    from transvae_dashboards import write_report

    return write_report(state, output or state.folder / "report.html", price)


def _tried(troubles: list[UserError], work: Callable[[], T]) -> T | None:
    """What a piece of work gives; None if it cannot be done, and why stands among the troubles."""
    from transvae_platform.errors import UserError

    try:
        return work()
    except UserError as error:
        troubles.append(error)
        return None
