"""Table 2: what was measured of latents in a home, and the paper's three parts as printed. One self-contained file.

Rows of different settings do not share a table: of the probe by its protocol, of the density by n, runs and split, of
both by the images. What lies within the spread of the runs is said not to be ranked; the floor of points without
structure stands below each column.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, groupby
from pathlib import Path

from transvae_dashboards import formats
from transvae_dashboards.document import document, write_page
from transvae_dashboards.generation_table import generation_sections
from transvae_dashboards.markup import Html, section, table, tag
from transvae_dashboards.printed import printed_density, printed_probe
from transvae_dashboards.table1 import NAMES
from transvae_platform.evaluation.latent_space.density import Density, overlap
from transvae_platform.evaluation.latent_space.records import LatentRecord
from transvae_platform.evaluation.paper import ALIGNMENT, DENSITIES, GENERATION, METRICS, PROBES
from transvae_platform.study.state import StudyState

MEASURES = {"density_cv": "Density CV", "normalised_entropy": "Normalised entropy", "gini": "Gini"}
PRINTED = "As printed in table 2 of the TransVAE paper; nothing here was measured by this project."


def write_table2(records: Sequence[LatentRecord], studies: Sequence[StudyState], path: Path) -> Path:
    """Draw the page and write it to `path`; returns `path`."""
    return write_page(render(records, studies), path)


def render(records: Sequence[LatentRecord], studies: Sequence[StudyState] = ()) -> str:
    """The page as text."""
    return document("Table 2", tag("h1", "Table 2: latents"), *table2_sections(records, studies))


def table2_sections(records: Sequence[LatentRecord], studies: Sequence[StudyState]) -> list[Html]:
    """What was measured, one part per kind and settings, what generators of studies made, the paper's three parts."""
    nothing = tag("p", "No latents were measured yet: transvae density NAME, transvae probe NAME")
    return [*(measured_sections(records, studies) or [nothing]), *generation_sections(studies), *_paper()]


def measured_sections(records: Sequence[LatentRecord], studies: Sequence[StudyState]) -> list[Html]:
    """What was measured, one part per kind and settings; beside it the paper's value where it has one of that model."""
    measured = []
    drawn = (
        ("probe", _probe_settings, _probes), ("density", _density_settings, _densities),
        ("manifold", _manifold_settings, _manifolds),
    )  # fmt: skip
    for kind, settings, draw in drawn:
        rows = sorted((record for record in records if record.kind == kind), key=settings)
        measured += [draw(list(group), key, studies) for key, group in groupby(rows, key=settings)]
    return measured


def _probe_settings(record: LatentRecord) -> str:
    """All that two accuracies must share to stand in one column: protocol, images and their number."""
    result, protocol = record.result, record.result["protocol"]
    used = ("iterations",) if protocol["solver"] == "lbfgs" else ("epochs", "batch_size", "learning_rate", "augment")
    said = [f"{key} {protocol[key]}" for key in ("features", "solver", *used, "c", "seed")]
    images = " + ".join(f"{count:,} {split}" for split, count in result["images"].items())
    return f"{', '.join(said)}; {images} images in {result['classes']} classes of data set {record.latents['images']}"


def _probes(records: Sequence[LatentRecord], settings: str, studies: Sequence[StudyState]) -> Html:
    body = [
        [*_named(record), f"{100 * record.result['accuracy']:.2f}",
         _beside(100 * float(record.result["accuracy"]), printed_probe(record, studies), 2)]
        for record in records
    ]  # fmt: skip
    head = ["Latents", "Model", "Content", "Accuracy, %", "Paper (difference)"]
    return section(
        "Linear probe", table(head, body, label="Linear probe", text=(1, 2)), anchor=f"probe-{records[0].key}",
        lead=f"Protocol: {settings}.",
    )  # fmt: skip


def _density_settings(record: LatentRecord) -> str:
    result = record.result
    said = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result["settings"].items())
    return f"n = {result['n']:,}, {result['runs']} runs, {said}; images of data set {record.latents['images']}"


def _densities(records: Sequence[LatentRecord], settings: str, studies: Sequence[StudyState]) -> Html:
    body = [
        [*_named(record), *(f"{record.result['mean'][m]:.4f} ± {record.result['spread'][m]:.4f}" for m in MEASURES),
         *_beside_densities(record, studies)]
        for record in records
    ]  # fmt: skip
    for name, values in records[0].result["floors"].items():
        body.append(
            [f"floor: {name}", "", "", *(f"{values[measure]:.4f}" for measure in MEASURES), *[""] * len(MEASURES)]
        )
    head = ["Latents", "Model", "Content", *MEASURES.values(), *(f"{m}, paper (difference)" for m in MEASURES.values())]
    ties = [tag("p", f"Not to be ranked, as their spreads overlap: {tie}.") for tie in _ties(records)]
    return section(
        "Density of the latents", table(head, body, label="Density of the latents", text=(1, 2)), *ties,
        anchor=f"density-{records[0].key}", lead=f"Mean and standard deviation of the runs; {settings}.",
    )  # fmt: skip


def _beside_densities(record: LatentRecord, studies: Sequence[StudyState]) -> list[str]:
    theirs = printed_density(record, studies) or [None] * len(MEASURES)
    return [_beside(float(record.result["mean"][m]), value, 4) for m, value in zip(MEASURES, theirs, strict=True)]


def _beside(ours: float, theirs: float | None, digits: int) -> str:
    """The paper's value, and by how much ours is above it; a dash where it has none of this model."""
    return formats.NONE if theirs is None else f"{theirs:g} ({ours - theirs:+.{digits}f})".replace("-", "−")


def _manifold_settings(record: LatentRecord) -> str:
    """All that two distance ratios must share to stand in one column."""
    result = record.result
    said = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    levels = ", ".join(result["ratio"])
    return f"{result['n']:,} held-out vectors beside {result['references']:,}, noise {levels}, {said}"


def _manifolds(records: Sequence[LatentRecord], settings: str, studies: Sequence[StudyState]) -> Html:
    """The paper has no such numbers, and so none of its models."""
    levels = list(records[0].result["ratio"])
    body = []
    for record in records:
        result = record.result
        rank, share = f"{result['effective_rank']:.1f}", f"{result['directions']} of {result['channels']}"
        ratios = [f"{result['ratio'][level]:.3f} ({100 * result['inside'][level]:.0f} %)" for level in levels]
        body.append([*_named(record), rank, share, *ratios])
    head = ["Latents", "Model", "Content", "Effective rank", "Directions", *(f"Noise {level}" for level in levels)]
    return section(
        "Off the manifold", table(head, body, label="Off the manifold", text=(1, 2)),
        anchor=f"manifold-{records[0].key}",
        lead=f"Distance of held-out latents with noise to those of training images, over that among these (in brackets "
        f"the share that lies within); {settings}.",
    )  # fmt: skip


def _ties(records: Sequence[LatentRecord]) -> list[str]:
    """Pairs of latents, and the measures by which one is not above the other."""
    found = []
    for one, other in combinations(records, 2):
        a, b = Density(**one.result), Density(**other.result)
        if same := [title.lower() for measure, title in MEASURES.items() if overlap(a, b, measure)]:
            found.append(f"{one.latents['name']} and {other.latents['name']} by {', '.join(same)}")
    return found


def _named(record: LatentRecord) -> list[str]:
    return [record.latents["name"], str(record.latents["model"]["name"]), record.latents["content"]]


def _paper() -> list[Html]:
    """The paper's three parts."""
    probes = [[name, f"{value:.2f}"] for name, value in PROBES.items()]
    densities = [
        [name, *(f"{value:g}" for value in values), f"{GENERATION[name]:.2f}"] for name, values in DENSITIES.items()
    ]
    aligned = [
        [model, str(px), *(f"{a:g} / {b:g}" for a, b in zip(with_it, without, strict=True))]
        for model, px, with_it, without in ALIGNMENT
    ]
    head = ["Model", "Pixels", *(f"{NAMES[metric]} with / without" for metric in METRICS)]
    return [
        section("The paper's linear probe", table(["Model", "Accuracy, %"], probes, label="Table 2a"), anchor="paper-a",
                lead=PRINTED),
        section("The paper's densities", table(["Model", *MEASURES.values(), "FID-10k"], densities, label="Table 2b"),
                anchor="paper-b", lead=PRINTED),
        section("The paper's cost of alignment", table(head, aligned, label="Table 2c"), anchor="paper-c",
                lead=f"{PRINTED} Ours: models with and without alignment in table 1."),
    ]  # fmt: skip
