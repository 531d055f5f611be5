"""`transvae registry ...`: the models that studies registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List and export registered models.", no_args_is_help=True)

Home = Annotated[Path, typer.Option(help="Folder of studies and the default MLflow store.", envvar="TRANSVAE_HOME")]
Tracking = Annotated[str | None, typer.Option(help="MLflow server; default as for `study submit`.", show_default=False)]


@app.command("list")
def list_registered(
    home: Home = Path("runs"),
    tracking_uri: Tracking = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """List registered models: the version behind `best`, its PSNR and where it comes from."""
    from transvae_platform.cli.render import print_models
    from transvae_platform.tracking.registry import registered_models
    from transvae_platform.tracking.runs import connect, existing_tracking_uri

    models = registered_models(connect(tracking_uri or existing_tracking_uri(home), home))
    if as_json:
        print(json.dumps({"schema_version": 1, "models": models}, indent=1))
    else:
        print_models(models)


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
