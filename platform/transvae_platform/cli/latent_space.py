"""`transvae density` and `transvae probe`: what latents are like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from transvae_platform.cli.data import DataSetName, Home

if TYPE_CHECKING:
    from transvae_platform.data.sets.catalogue import DataSet
    from transvae_platform.evaluation.latent_space.vectors import Latents


def density(
    latents: DataSetName,
    images: Annotated[int, typer.Option(min=2, help="Random images of a run, one position each.")] = 10_000,
    runs: Annotated[int, typer.Option(min=1, help="Runs of t-SNE, each with a seed of its own.")] = 10,
    split: Annotated[Literal["train", "validation"], typer.Option(help="Of which images.")] = "train",
    home: Home = Path("runs"),
) -> None:
    """Measure how evenly latents fill their space: density CV, normalised entropy, Gini (table 2b)."""
    from transvae_platform.cli.bar import bar
    from transvae_platform.cli.render_evaluation import print_density
    from transvae_platform.evaluation.latent_space.density import measure_density
    from transvae_platform.evaluation.latent_space.records import keep, kept, key_of

    home = home.resolve()
    found, opened = _open(home, latents)
    settings = {"images": images, "runs": runs, "split": split}
    key = key_of("density", found.manifest, settings)
    record = kept(home, key)
    if record is None:
        with bar("mapping") as listen:
            result = measure_density(opened[split], images=images, runs=runs, listen=listen)
        record = keep(home, key, "density", latents, found.manifest, result)
    print_density(record)


def probe(
    latents: DataSetName,
    features: Annotated[
        Literal["flatten", "gap"], typer.Option(help="All values, or means over positions.")
    ] = "flatten",
    solver: Annotated[Literal["lbfgs", "sgd"], typer.Option(help="sgd: for sets that do not fit in memory.")] = "lbfgs",
    c: Annotated[list[float], typer.Option(help="Inverse regularisation; of several the best is chosen.")] = [0.316],  # noqa: B006
    iterations: Annotated[int, typer.Option(min=1, help="Of lbfgs, at most.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="Of sgd.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step of sgd.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="Of sgd, with a cosine to zero.")] = 0.1,
    augment: Annotated[Literal["none", "flip"], typer.Option(help="Of sgd.")] = "none",
    seed: Annotated[int, typer.Option(help="Of the held-back images and the order.", min=0, max=2**31 - 1)] = 0,
    home: Home = Path("runs"),
) -> None:
    """Fit a linear classifier on frozen latents and measure it on the validation images (table 2a)."""
    from dataclasses import asdict

    from transvae_platform.cli.render_evaluation import print_probe
    from transvae_platform.evaluation.latent_space.probe import ProbeProtocol
    from transvae_platform.evaluation.latent_space.probe import probe as fit
    from transvae_platform.evaluation.latent_space.records import keep, kept, key_of

    protocol = ProbeProtocol(
        features=features, solver=solver, c=tuple(c), iterations=iterations, epochs=epochs, batch_size=batch_size,
        learning_rate=learning_rate, augment=augment, seed=seed,
    )  # fmt: skip
    home = home.resolve()
    found, opened = _open(home, latents)
    key = key_of("probe", found.manifest, asdict(protocol))
    record = kept(home, key)
    if record is None:
        result = fit(opened["train"], opened["validation"], protocol)
        record = keep(home, key, "probe", latents, found.manifest, result)
    print_probe(record)


def _open(home: Path, name: str) -> tuple[DataSet, dict[str, Latents]]:
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
    from transvae_platform.data.sets.samples import open_data
    from transvae_platform.evaluation.latent_space.vectors import Latents

    found = find_data_set(home, name)
    train, validation = open_data(found.location, default_cache(), CACHE_BYTES)
    return found, {"train": Latents(train), "validation": Latents(validation)}
