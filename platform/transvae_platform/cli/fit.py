"""`transvae fit`: scaling laws of any table of runs, or of a study."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from transvae_platform.fitting.answers.request import Request
    from transvae_platform.fitting.runs.read import Runs

LISTS = "; may be given several times"


def fit(
    runs: Annotated[str, typer.Argument(help="A table (.csv, .jsonl, .parquet), or the name of a study.")],
    form: Annotated[
        str, typer.Option(help="L(N), power-law, L(N,D), gadre, isoflop, frontier, envelope, curve, or FILE.py:NAME.")
    ] = "L(N)",
    preset: Annotated[
        str | None, typer.Option(help="All options for a public table: chinchilla, gadre, porian, ... (docs/fits.md).")
    ] = None,
    x: Annotated[
        str | None, typer.Option(help="The axis of L(N): parameters, training_flops, images, gpu_hours, any column.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", "-c", help=f"VARIABLE=EXPRESSION over the columns{LISTS}.")
    ] = None,
    loss: Annotated[
        list[str] | None, typer.Option(help=f"Column or expression that falls with quality{LISTS}.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="Fit only rows for which this holds.")] = None,
    group: Annotated[list[str] | None, typer.Option(help=f"One fit per value of this column{LISTS}.")] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="Of Huber's loss; inf for least squares; for L(N) one more of its sweep.", min=0),
    ] = None,
    residuals: Annotated[str, typer.Option(help="log or linear.")] = "log",
    least_absolute: Annotated[bool, typer.Option(help="Give the least-absolute-deviation optimum, too.")] = False,
    bootstrap: Annotated[int, typer.Option(help="Resamples of whole runs, from 30 runs on.", min=0)] = 4000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of a user form's starts.", min=0)] = 0,
    level: Annotated[float, typer.Option(help="Of every interval.", min=0.5, max=0.999)] = 0.90,
    margin: Annotated[float, typer.Option(help="Smaller gains count as saturated; fix it beforehand.")] = 0.01,
    predict: Annotated[str | None, typer.Option(help="Leave these rows out of the fit and predict them.")] = None,
    best_of: Annotated[list[str] | None, typer.Option(help=f"Envelope: compare cells of this column{LISTS}.")] = None,
    bins: Annotated[int | None, typer.Option(help="Envelope: least loss per bin of log10 x.", min=2)] = None,
    at: Annotated[list[float] | None, typer.Option(help=f"Predict at this x, or these images{LISTS}.")] = None,
    far: Annotated[bool, typer.Option(help="Predict up to 10 times the largest size, with a warning.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the JSON files; default fits/, or the study's.")
    ] = None,
    home: Annotated[Path, typer.Option(help="Folder of studies.", envvar="TRANSVAE_HOME")] = Path("runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server of a study's fits.")] = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Log a study's fits to MLflow.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the documents instead of tables.")] = False,
) -> None:
    """Fit a scaling law to a table of runs or to a study: estimates, intervals, hold-outs, and what cannot be said.

    Writes one JSON per fit with all that is needed to repeat it.
    """
    from transvae_platform.cli.fit_files import log_documents, stamped, write_document
    from transvae_platform.cli.render_fit import print_document
    from transvae_platform.errors import SpecError
    from transvae_platform.fitting.answers.answer import answer
    from transvae_platform.fitting.answers.request import Request
    from transvae_platform.fitting.runs.read import TableError

    if residuals not in ("log", "linear"):
        raise SpecError(f"--residuals: {residuals!r} is neither log nor linear")
    table, study, metric = _runs(runs, home)
    metrics = loss or [metric]
    if study and where is None:
        where = "variant == 'base'"  # the others are other models than their family's
    try:
        request = Request(
            _form(form), _columns(column, x), metrics[0], where, tuple(group or ()), delta,
            "log" if residuals == "log" else "linear", least_absolute, bootstrap, seed, level, margin, bins, predict,
            best_of=tuple(best_of or ()), at=tuple(at or ()), far=far,
        )  # fmt: skip
        if preset is not None:
            request = _preset(preset, request, metrics, quiet=as_json)
        documents = [stamped(document) for document in answer(table, request, metrics[1:])]
    except TableError as error:
        raise SpecError(f"fit: {error}") from None
    folder = output or (home / "studies" / study / "fits" if study else Path("fits"))
    paths = [write_document(document, folder, study or Path(runs).stem) for document in documents]
    if as_json:
        print(json.dumps(documents, indent=1))
    else:
        for document, path in zip(documents, paths, strict=True):
            print_document(document)
            print(f"json:    {path}\n")
    if study and log:
        from transvae_platform.tracking.server import existing_tracking_uri

        ids = log_documents(study, documents, home, tracking_uri or existing_tracking_uri(home))
        typer.echo(f"mlflow:  fit runs {', '.join(ids)}", err=as_json)


def _runs(runs: str, home: Path) -> tuple[Runs, str | None, str]:
    """The table, the study's name if it is one, and the metric by default."""
    from transvae_platform.errors import SpecError
    from transvae_platform.fitting.answers.request import DEFAULT_LOSS
    from transvae_platform.fitting.runs.read import READERS, TableError, read_runs

    if Path(runs).suffix.removeprefix(".").lower() in READERS or "/" in runs:
        try:
            return read_runs(Path(runs)), None, DEFAULT_LOSS
        except TableError as error:
            raise SpecError(f"fit: {error}") from None
    from transvae_dashboards.laws import fits_of
    from transvae_dashboards.runs import study_runs
    from transvae_platform.cli.study import open_study

    state = open_study(runs, home)
    table = study_runs(state)
    if table is None:
        raise SpecError(f"fit: study {runs!r} has no validated trial yet")
    return table, state.name, fits_of(state).metric


def _columns(column: list[str] | None, x: str | None) -> dict[str, str]:
    from transvae_platform.errors import SpecError

    columns = {} if x is None else {"N": x}
    for text in column or ():
        name, sign, expression = text.partition("=")
        if sign and name.strip() in columns:
            once = "--x is -c N=, and" if name.strip() == "N" and x is not None else "--column:"
            raise SpecError(f"{once} {name.strip()} is given twice - name each variable once")
        if not sign or not name.strip().isidentifier() or not expression.strip():
            raise SpecError(f"--column {text!r}: write VARIABLE=EXPRESSION, e.g. -c 'D=`Training FLOP` / (6 * N)'")
        columns[name.strip()] = expression.strip()
    return columns


def _form(form: str) -> str:
    """The name of a form; FILE.py:NAME is loaded and registered first."""
    from transvae_platform.errors import SpecError

    path, sign, name = form.rpartition(":")
    if not sign or not path.endswith(".py"):
        return form
    import runpy

    from transvae_platform.fitting.laws.forms import UserForm, register

    try:
        found = runpy.run_path(path).get(name)
    except OSError as error:
        raise SpecError(f"--form: {path} cannot be read ({error.strerror})") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's file may raise anything
        raise SpecError(f"--form: {path} cannot be loaded ({type(error).__name__}: {error})") from None
    if not isinstance(found, UserForm):
        raise SpecError(f"--form: {path} defines no UserForm named {name!r} (transvae_platform.fitting.UserForm)")
    text = Path(path).read_bytes()
    origin = {"path": path, "sha256": hashlib.sha256(text).hexdigest(), "text": text.decode(errors="replace")}
    try:
        return register(replace(found, origin=origin)).name
    except ValueError as error:
        raise SpecError(f"--form: {error}") from None


def _preset(name: str, beside: Request, metrics: list[str], *, quiet: bool) -> Request:
    """The published request; it takes no other options. quiet: what it is goes to stderr."""
    from transvae_platform.errors import SpecError
    from transvae_platform.fitting.answers.request import DEFAULT_LOSS
    from transvae_platform.fitting.published import PUBLISHED

    if name not in PUBLISHED:
        raise SpecError(f"--preset: {name!r} is none of {', '.join(PUBLISHED)}")
    given = ["loss"] * (len(metrics) > 1 or beside.loss != DEFAULT_LOSS) + beside.chosen()
    if given:
        named = ", ".join("--" + option.replace("columns", "column").replace("_", "-") for option in given)
        raise SpecError(f"--preset {name} fixes the request: leave out {named}")
    typer.echo(f"{name}: {PUBLISHED[name].source}\npublished: {PUBLISHED[name].prints}\n", err=quiet)
    return PUBLISHED[name].request
