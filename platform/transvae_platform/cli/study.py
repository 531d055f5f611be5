"""`transvae study ...`: plan, submit, follow and report studies."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transvae_platform.cli.jobs import Address, Follow

if TYPE_CHECKING:
    from transvae_platform.study.state import StudyState

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
        typer.Option(
            help="Plan for a cluster with so many GPUs; images and files are not looked for here. Default where the "
            "study needs GPUs and this machine has none: as many as its largest trial takes.",
            min=1,
            show_default=False,
        ),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(help="Dollars for an hour of one GPU on demand, instead of resources.prices.", min=0),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="MLflow server to ask for times that other homes measured; default MLFLOW_TRACKING_URI, else none.",
            show_default=False,
        ),
    ] = None,
    informed_by: Annotated[
        str | None,
        typer.Option(
            help="A study whose finished trials say what to expect, and what to run next.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print every trial with its parameters, FLOPs, time, memory and disk, and what all cost. Changes nothing."""
    from transvae_platform.cli.render_plan import plan_document, print_plan
    from transvae_platform.cluster.planning import gpus_that_are_missing, plan_study, prepare, prepare_elsewhere
    from transvae_platform.study.load import load_study
    from transvae_platform.tracking.rates import Asked

    spec = load_study(file, tuple(changes or ()))
    cluster = os.environ.get("RAY_ADDRESS")
    asked = Asked(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))
    if gpus is None and cluster is None and (gpus := gpus_that_are_missing(spec, home.resolve())):
        say = "this machine has no GPU: planned for as many elsewhere as the largest trial takes"
        typer.echo(f"{say}, {gpus}; --gpus N for a larger cluster", err=True)
    prepared = prepare(spec, home.resolve()) if gpus is None else prepare_elsewhere(spec, home.resolve())
    planned = plan_study(prepared, home.resolve(), cluster, gpus, asked.rates)
    if asked.problem:
        typer.echo(asked.problem, err=True)
    prices = spec.resources.prices.at(price)
    informed = None
    if informed_by is not None:
        from transvae_platform.cli.informed import inform, informed_document, print_informed

        informed = inform(planned, open_study(informed_by, home))
    if as_json:
        document = plan_document(planned, prices)
        print(
            json.dumps(
                document if informed is None else {**document, "informed_by": informed_document(informed)}, indent=1
            )
        )
        return
    print_plan(spec, planned, prices)
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
    from transvae_platform.cli.running import run_here

    run_here(spec, home, tracking_uri)


@app.command()
def status(study: StudyName, home: Home = Path("runs"), address: Address = None, as_json: AsJson = False) -> None:
    """Show every trial's state, who runs the study and what is left, from the journals; works while it runs."""
    if address is not None:
        from transvae_platform.cluster.remote import ask_there

        print(ask_there(("study", "status", name_of(study), *(("--json",) if as_json else ())), address, home), end="")
        return
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
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write the page; with --address NAME.html here by default."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="A folder for every chart as SVG and PDF.", show_default=False)
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(help="A folder for every table as CSV and LaTeX.", show_default=False)
    ] = None,
    price: Annotated[float | None, typer.Option(help="Of an hour of one device, for costs.", min=0)] = None,
    compare: Annotated[
        str | None, typer.Option(help="Another study of the home, to be put beside this one.", show_default=False)
    ] = None,
    compare_trials: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Two trials to be put beside each other; with --compare the second is of that study.",
            show_default=False,
        ),
    ] = None,
    tracking_uri: Tracking = None,
    address: Address = None,
    encoded: Annotated[bool, typer.Option(hidden=True, help="Print the page for a job's output.")] = False,
) -> None:
    """Write the study's page: tables, curves, laws, pictures, registry, provenance, in one HTML file.

    With --address it is drawn on the cluster and brought here.
    """
    if address is not None:
        from transvae_platform.cluster.remote import fetch_page
        from transvae_platform.errors import SpecError

        if figures is not None or tables is not None or price is not None:
            raise SpecError("--figures, --tables, --price: charts are files of the cluster's home - draw them there")
        name = name_of(study)
        options = [*(["--compare", compare] if compare else []),
                   *(["--compare-trials", *compare_trials] if compare_trials else [])]  # fmt: skip
        print(fetch_page(name, address, home, output or Path(f"{name}.html"), options).resolve().as_uri())
        return
    from transvae_dashboards import write_with_files
    from transvae_platform.cli.beside import beside

    state = open_study(study, home)
    if compare is not None:
        refuse_unknown(compare, home)
    target = output or state.folder / "report.html"
    page, *files = write_with_files(
        state, target, price, beside=beside(state, home, compare, compare_trials, tracking_uri),
        figures_in=figures, tables_in=tables,
    )  # fmt: skip
    if encoded:
        from transvae_platform.cluster.remote import encode_page

        print(encode_page(page.read_bytes()))
        return
    print(page.resolve().as_uri())
    for path in files:
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


def name_of(study: str) -> str:
    """A study's name, given as it is or by its file."""
    if not study.endswith((".yaml", ".yml")):
        return study
    from transvae_platform.study.load import load_study

    return load_study(Path(study)).study


def open_study(study: str, home: Path) -> StudyState:
    """Raises SpecError as `refuse_unknown`."""
    from transvae_platform.study.folders import study_folder
    from transvae_platform.study.state import StudyState

    name = name_of(study)
    refuse_unknown(name, home)
    return StudyState(study_folder(home, name))
