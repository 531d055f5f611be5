"""`transvae density`, `transvae manifold` and `transvae probe`: what latents are like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from transvae_platform.cli.data import DataSetName, Home


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
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.evaluation.latent_space.measuring import measure

    home = home.resolve()
    settings = {"images": images, "runs": runs, "split": split}
    with bar("mapping") as listen:
        record = measure(home, "density", find_data_set(home, latents), latents, settings, listen)
    print_density(record)


def manifold(
    latents: DataSetName,
    images: Annotated[int, typer.Option(min=5, help="Random images of either split, one position each.")] = 2000,
    noise: Annotated[list[float], typer.Option(help="Added to latents, in deviations.")] = [0.25, 0.5, 1.0],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Of images, positions and noise.", min=0, max=2**31 - 1)] = 0,
    home: Home = Path("runs"),
) -> None:  # fmt: skip
    """Measure how many directions latents use, and how far noise leads off them (the off-manifold comparison)."""
    from transvae_platform.cli.render_evaluation import print_manifold
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.evaluation.latent_space.measuring import measure

    home = home.resolve()
    settings = {"images": images, "noise": noise, "seed": seed}
    print_manifold(measure(home, "manifold", find_data_set(home, latents), latents, settings))


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
    from transvae_platform.data.sets.catalogue import find_data_set
    from transvae_platform.evaluation.latent_space.measuring import measure
    from transvae_platform.evaluation.latent_space.probe import ProbeProtocol

    protocol = ProbeProtocol(
        features=features, solver=solver, c=tuple(c), iterations=iterations, epochs=epochs, batch_size=batch_size,
        learning_rate=learning_rate, augment=augment, seed=seed,
    )  # fmt: skip
    home = home.resolve()
    print_probe(measure(home, "probe", find_data_set(home, latents), latents, asdict(protocol)))
