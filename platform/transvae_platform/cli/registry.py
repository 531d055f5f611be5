"""`transvae registry ...`: the models that studies registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from transvae_platform.redaction import without_password

app = typer.Typer(help="List, show, promote and export registered models.", no_args_is_help=True)

Home = Annotated[Path, typer.Option(help="Folder of studies and the default MLflow store.", envvar="TRANSVAE_HOME")]
Model = Annotated[
    str,
    typer.Argument(
        help="NAME, NAME/VERSION or NAME@ALIAS; a bare NAME means its version with the highest PSNR.",
        show_default=False,
    ),
]
Tracking = Annotated[str | None, typer.Option(help="MLflow server; default as for `study submit`.", show_default=False)]


@app.command("list")
def list_registered(
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """List registered models: the version behind every alias, its PSNR, when and by whom it was promoted."""
    from transvae_platform.cli.render_registry import print_models
    from transvae_platform.tracking.registry import registered_models
    from transvae_platform.tracking.server import connect, existing_tracking_uri

    models = registered_models(connect(tracking_uri or existing_tracking_uri(home), home))
    if as_json:
        print(json.dumps({"schema_version": 1, "models": models}, indent=1))
    else:
        print_models(models)


@app.command()
def show(
    model: Model,
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Show a registered model: aliases, metrics, lineage, promotions, and the call that loads it."""
    from transvae_platform.cli.render_registry import print_version
    from transvae_platform.study.folders import load_call
    from transvae_platform.tracking.registry import best_version, described
    from transvae_platform.tracking.server import answering, connect, existing_tracking_uri

    uri = tracking_uri or existing_tracking_uri(home)
    client = connect(uri, home)
    with answering(client):
        version = described(client, best_version(client, model))
    call = load_call(version["uri"], home, without_password(uri))
    if as_json:
        print(json.dumps({"schema_version": 1, **version, "load": call}, indent=1))
    else:
        print_version(version, call)


@app.command()
def promote(
    model: Model,
    alias: Annotated[str, typer.Option(help="The alias to move, e.g. best or champion.")] = "best",
    allow_unknown_code: Annotated[
        bool, typer.Option("--allow-unknown-code", help="Also a model whose commit is not known.")
    ] = False,
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
) -> None:
    """Move an alias to a model that deserves it: finite weights, evaluated, finished, lineage complete."""
    from transvae_platform.tracking import promotion
    from transvae_platform.tracking.registry import best_version
    from transvae_platform.tracking.server import answering, connect, existing_tracking_uri

    client = connect(tracking_uri or existing_tracking_uri(home), home)
    with answering(client):
        version = best_version(client, model)
        moved = promotion.promote(client, version, alias, "command", allow_unknown_code=allow_unknown_code)
    before = f", before it {moved.previous}" if moved.previous else ""
    print(f"models:/{version.name}@{alias} is version {moved.version}{before}")


@app.command()
def export(
    uri: Annotated[str, typer.Argument(help="e.g. models:/quickstart-transvae-G@best", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(help="Where to write config.json and model.safetensors.", show_default=False)
    ],
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
) -> None:
    """Write a registered model as a folder that `from_pretrained` reads anywhere."""
    from transvae_platform.tracking.registry import load_model

    load_model(uri, home=home, tracking_uri=tracking_uri).save_pretrained(folder)
    print(folder)
