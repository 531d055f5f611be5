"""`transvae data latents | export | import`: latents of a registered model, and other projects' layouts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from transvae_platform.cli.data import DataSetName, Home, app
from transvae_platform.cli.jobs import Address, Follow, Gpus, same_command
from transvae_platform.errors import SpecError

REGISTERED = "models:/"

ModelName = Annotated[
    str, typer.Argument(help="models:/NAME@best, or a folder of `save_pretrained`.", show_default=False)
]


@app.command()
def latents(
    context: typer.Context,
    model: ModelName,
    data_set: DataSetName,
    name: Annotated[str, typer.Option(help="What to call the latents.", show_default=False)],
    content: Annotated[Literal["sample", "mean", "posterior"], typer.Option(help="What is kept.")] = "sample",
    dtype: Annotated[Literal["float16", "bfloat16", "float32"], typer.Option(help="How it is kept.")] = "float16",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    gpus: Gpus = 0,
    seed: Annotated[int, typer.Option(help="Of the samples' noise.", min=0, max=2**63 - 1)] = 0,
    home: Home = Path("runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server of the model.", show_default=False)] = None,
    address: Address = None,
    follow: Follow = True,
) -> None:
    """Encode a data set with a model, each image and its mirror image. The same command again continues it.

    Without --address it runs here, or on the cluster that RAY_ADDRESS names when this machine is its head. With
    --address it becomes a job of that cluster.
    """
    from transvae_platform.data.sets.catalogue import check_name, find_data_set, give_name, refuse_other

    check_name(name)
    _refuse_no_model(model, is_here=address is None)
    if address is not None:
        from transvae_platform.cluster.jobs import Job, check_shared, submit_job

        check_shared("MODEL", model)
        if "/" in data_set:  # not a name
            check_shared("DATA_SET", data_set)
        job = Job(same_command(context, "data"), {"data_set": name}, tracking_uri)
        submit_job(job, address, home, follow=follow)
        return
    from transvae_platform.cli.bar import bar
    from transvae_platform.cli.render_data import print_data_set
    from transvae_platform.cluster.mapping import ray_mapper
    from transvae_platform.data.latents.extract import extract_latents, plan_extraction

    home = home.resolve()
    found = find_data_set(home, data_set)
    with ray_mapper(os.environ.get("RAY_ADDRESS"), models=True, gpus=gpus) as mapper:
        folder = _model_folder(model, home, tracking_uri)
        plan = plan_extraction(
            found.manifest, found.location, folder, model_name=model, content=content, dtype=dtype, seed=seed
        )
        refuse_other(home, name, plan.fingerprint)
        with bar("encoding") as listen:
            manifest = extract_latents(
                plan, home, mapper, batch_size=batch_size, device="cuda" if gpus else "cpu", listen=listen
            )
    give_name(home, name, manifest)
    print_data_set(find_data_set(home, name))


@app.command()
def export(
    data_set: DataSetName,
    folder: Annotated[Path, typer.Argument(help="Where to write; empty, or of the same export.", show_default=False)],
    layout: Annotated[
        Literal["webdataset", "lightningdit"], typer.Option(help="Images as tars, or latents.", show_default=False)
    ],
    split: Annotated[Literal["train", "validation"], typer.Option(help="Of latents.")] = "train",
    missing_label: Annotated[
        int | None, typer.Option(help="Label of latents that have none.", show_default=False)
    ] = None,
    home: Home = Path("runs"),
) -> None:
    """Write a data set in another project's layout. The same command again continues it."""
    from transvae_platform.cli.bar import bar
    from transvae_platform.cli.render_data import print_export
    from transvae_platform.data.exchange.lightningdit import export_lightningdit
    from transvae_platform.data.exchange.webdataset import export_webdataset
    from transvae_platform.data.making.work import run_locally
    from transvae_platform.data.sets.catalogue import find_data_set

    found = find_data_set(home.resolve(), data_set)
    with bar("writing") as listen:
        if layout == "webdataset":
            files = export_webdataset(found.location, folder, run_locally, listen=listen)
        else:
            files = export_lightningdit(
                found.location, folder, run_locally, split=split, missing_label=missing_label, listen=listen
            )
    print_export(found, layout, folder, files, None if layout == "webdataset" else split)


@app.command("import")
def import_latents(
    folder: Annotated[Path, typer.Argument(help="LightningDiT's latents of the training images.", show_default=False)],
    name: Annotated[str, typer.Option(help="What to call the latents.", show_default=False)],
    model: Annotated[str, typer.Option(help="The tokenizer that made them, in words.", show_default=False)],
    resolution: Annotated[int, typer.Option(help="Of the images that they were made from.", min=8, max=4096)] = 256,
    content: Annotated[
        Literal["sample", "mean"] | None,
        typer.Option(help="What they are; default what our export says, else sample.", show_default=False),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="The same of held-out images, if there are.", show_default=False)
    ] = None,
    home: Home = Path("runs"),
) -> None:
    """Make a data set of latents that LightningDiT's code extracted."""
    from transvae_platform.cli.bar import bar
    from transvae_platform.cli.render_data import print_data_set
    from transvae_platform.data.exchange.lightningdit_import import import_lightningdit
    from transvae_platform.data.making.work import run_locally
    from transvae_platform.data.sets.catalogue import check_name, find_data_set, give_name

    check_name(name)
    folders = {"train": folder, **({"validation": validation} if validation else {})}
    said = {"name": model, "weights_sha256": None}
    with bar("reading") as listen:
        manifest = import_lightningdit(
            folders, home.resolve(), run_locally, resolution=resolution, model=said, content=content, listen=listen
        )
    give_name(home.resolve(), name, manifest)
    print_data_set(find_data_set(home.resolve(), name))


def _refuse_no_model(model: str, is_here: bool) -> None:
    """Raises SpecError if this names neither a registered model nor a folder."""
    from transvae.tokenizers.published import PUBLISHED

    if model.startswith(REGISTERED) or model in PUBLISHED or (Path(model).exists() if is_here else "/" in model):
        return
    raise SpecError(
        f"MODEL: {model!r} is neither a registered model (models:/NAME@best, models:/NAME/3) nor a folder that "
        f"save_pretrained wrote - `transvae registry list` shows the models; published ones: {', '.join(PUBLISHED)}"
    )


def _model_folder(model: str, home: Path, tracking_uri: str | None) -> Path:
    """A folder that `from_pretrained` reads: the one that was named, or that of the registered model in the home."""
    if not model.startswith(REGISTERED):
        from transvae.tokenizers import TokenizerError
        from transvae.tokenizers.opening import locate

        try:
            return locate(model)
        except TokenizerError as error:
            raise SpecError(f"MODEL: {error}") from None
    from transvae_platform.tracking.registry import local_model

    return local_model(model, home, tracking_uri)[0]
