"""`transvae evaluate` and `transvae tables`: reconstruction metrics of any tokenizer, beside the paper's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from transvae_platform.cli.data import Home
from transvae_platform.cli.jobs import Address, Follow, Gpus, same_command

REGISTERED = "models:/"


def evaluate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="models:/NAME@best, a folder, VA-VAE's file, or e.g. sd3.5-vae.", show_default=False)
    ],
    data: Annotated[
        list[str], typer.Option(help="A data set: name, fingerprint, folder or URI; several.", show_default=False)
    ],
    preset: Annotated[list[str], typer.Option(help="Protocol: vavae, dcae, rae, detok; several.")] = ["vavae"],  # noqa: B006
    split: Annotated[Literal["validation", "train"], typer.Option(help="Which images.")] = "validation",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images of up to 256 x 256 per forward pass; of larger ones so many fewer.")
    ] = 16,
    gpus: Gpus = 0,
    seed: Annotated[int, typer.Option(help="Of the posterior's samples.", min=0, max=2**63 - 1)] = 0,
    lpips: Annotated[
        list[Path], typer.Option(help="File of a trunk of LPIPS, VGG16 or AlexNet; several.", show_default=False)
    ] = [],  # noqa: B006
    inception: Annotated[Path | None, typer.Option(help="File of FID's Inception.", show_default=False)] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch weights that are not at hand.")] = False,
    random_networks: Annotated[
        bool, typer.Option("--random-networks", help="To test the line: metrics get other names.")
    ] = False,
    home: Home = Path("runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server of the model.", show_default=False)] = None,
    address: Address = None,
    follow: Follow = True,
) -> None:
    """Measure how well a tokenizer reconstructs data sets: PSNR, SSIM, LPIPS, rFID. The same command continues it.

    Without --address it runs here, or on the cluster that RAY_ADDRESS names when this machine is its head. With
    --address it becomes a job of that cluster.
    """
    from transvae_platform.evaluation.protocols import preset as protocol_of

    protocols = [protocol_of(name) for name in preset]
    if address is not None:
        from transvae_platform.cluster.jobs import Job, check_shared, submit_job

        for option, path in (*(("--lpips", path) for path in lpips), ("--inception", inception)):
            if path is not None:
                check_shared(option, str(path))
        if "/" in model:  # not a published name
            check_shared("MODEL", model)
        job = Job(same_command(context, None), {"evaluation of": model}, tracking_uri)
        submit_job(job, address, home, follow=follow)
        return
    from transvae_platform.cli.bar import bar
    from transvae_platform.cli.render_evaluation import print_record
    from transvae_platform.cluster.mapping import ray_mapper
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.evaluation.evaluate import evaluate as measure
    from transvae_platform.evaluation.evaluate import plan_evaluation

    home = home.resolve()
    found = [find_data_set(home, name) for name in data]
    source, version = _source(model, home, tracking_uri)
    published = None if version or Path(model).exists() else model  # then its files come from the hub
    images = None
    if version:
        from transvae_platform.tracking.registry import trained_images

        images = trained_images(version, home, tracking_uri)
    frozen = _frozen(lpips, inception, download, random_networks)
    plans = [
        plan_evaluation(
            source, one, protocol, model_name=model, split=split, seed=seed, published=published,
            images=images,
            frozen={"lpips": frozen[protocol.trunk or "vgg"], "inception": frozen["inception"]},
        )
        for one in found
        for protocol in protocols
    ]  # fmt: skip
    with ray_mapper(os.environ.get("RAY_ADDRESS"), models=True, gpus=gpus) as mapper:
        for plan in plans:
            with bar("evaluating") as listen:
                record = measure(
                    plan, home, mapper, batch_size=batch_size, device="cuda" if gpus else "cpu", listen=listen
                )
            print_record(record)
            if version:
                from transvae_platform.tracking.evaluations import log_evaluation

                log_evaluation(version, record, home, tracking_uri)


def tables(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pages; default evaluations in the home.", show_default=False)
    ] = None,
    home: Home = Path("runs"),
) -> None:
    """Draw tables 1 and 2 beside the paper's values, and extrapolation (figure 3a), from every evaluation of a home."""
    from transvae_dashboards.evaluations import write_evaluations

    home = home.resolve()
    for title, page in write_evaluations(home, (out or home / "evaluations").resolve()).items():
        typer.echo(f"{title}: {page}")


def _source(model: str, home: Path, tracking_uri: str | None) -> tuple[Path, str | None]:
    """The model's folder or file, and the registry's address of it if it is registered."""
    if model.startswith(REGISTERED):
        from transvae_platform.tracking.registry import local_model

        return local_model(model, home, tracking_uri)[0].resolve(), model
    from transvae.tokenizers import TokenizerError
    from transvae.tokenizers.opening import locate
    from transvae_platform.errors import SpecError

    try:
        return locate(model), None
    except TokenizerError as error:
        raise SpecError(
            f"MODEL: {error}, or a registered model: models:/NAME@best (`transvae registry list`)"
        ) from None


def _frozen(lpips: list[Path], inception: Path | None, download: bool, random: bool) -> dict[str, dict[str, Any]]:
    """Options of `FrozenConfig` for each trunk of LPIPS and for Inception."""
    from transvae.losses.frozen import FrozenWeightsError
    from transvae.losses.perceptual import TRUNKS, trunk_in
    from transvae_platform.errors import SpecError

    names = (*TRUNKS, "inception")
    if random and (lpips or inception or download):
        left_out = [*(["--lpips"] if lpips else []), *(["--inception"] if inception else [])]
        raise SpecError(f"--random-networks reads no file: leave {', '.join(left_out) or '--download'} out")
    if random:
        return {name: {"weights": "random"} for name in names}
    given = {} if inception is None else {"inception": inception}
    for path in lpips:
        if not path.is_file():
            raise SpecError(f"--lpips: there is no weight file {path}")
        try:
            given[trunk_in(path)] = path
        except FrozenWeightsError as error:
            raise SpecError(f"--lpips: {error}") from None
    return {name: {"path": str(given[name].resolve())} if name in given else {"download": download} for name in names}
