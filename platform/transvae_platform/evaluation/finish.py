"""The end of an evaluation: the pieces' values become one table, their features a distance, both a record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transvae.losses.frozen import term_of
from transvae_platform.data.making.work import Mapper, Work
from transvae_platform.errors import UserError
from transvae_platform.evaluation.frechet import SOLVER, disagreement, frechet_distance, too_few
from transvae_platform.evaluation.inception import DIMENSION
from transvae_platform.evaluation.measure import ORIGINAL, OUTPUT
from transvae_platform.evaluation.protocols import ORIGINALS
from transvae_platform.evaluation.records import IMAGES, PICTURES, RECORD, Record, write_record
from transvae_platform.evaluation.reference import keep_reference, kept_reference
from transvae_platform.evaluation.summing import moments_of
from transvae_platform.files import whole_file
from transvae_platform.lineage import code, library_versions
from transvae_platform.study.trial import stable_hash

if TYPE_CHECKING:
    from transvae_platform.evaluation.evaluate import Evaluation

NAMED = ("item", "view")


def close(
    plan: Evaluation, home: Path, folder: Path, work: Sequence[Work], results: Sequence[dict[str, Any]],
    mapper: Mapper,
) -> Record:  # fmt: skip
    """The record of an evaluation whose pieces are all done, written with the table into its folder.

    Args:
        mapper: shares the sums over many features.

    Raises:
        UserError: outputs are not finite, or the images are not those of the manifest.
    """
    broken = [place for result in results for place in result["broken"]]
    if broken:
        item, view = broken[0]
        all_images = sum(result["images"] for result in results)
        raise UserError(
            f"evaluate: {plan.model['name']}: {len(broken)} of {all_images} outputs are not finite, the first "
            f"that of item {item}, view {view}, of {plan.data.location} - no record was written"
        )
    table = pa.concat_tables([pq.read_table(piece["values"]) for piece in work])
    _refuse_other_coverage(plan, table)
    metrics, identical = _means(plan, table)
    warnings: list[str] = []
    metrics[_rfid(plan)] = _distance(plan, home, folder, work, mapper, warnings)
    record = Record(
        key=plan.key,
        model={key: value for key, value in plan.model.items() if key != "source"},
        data=_described(plan),
        protocol={**vars(plan.protocol), "identity": plan.protocol.identity, "originals": ORIGINALS},
        networks=plan.networks,
        n=table.num_rows,
        metrics=metrics,
        identical=identical,
        warnings=tuple(warnings),
        seed=plan.seed,
        batch_size=work[0]["batch_size"],
        lineage={
            "code": code().name,
            **library_versions(*_used(plan)),
            "device": _devices(work, results),
            "solver": SOLVER,
        },
    )
    with whole_file(folder / IMAGES) as path:
        pq.write_table(table, path)
    write_record(folder, record)
    return record


def tidy(folder: Path) -> None:
    """Leave of an evaluation's folder what its readers know: pieces, and what killed processes were writing, go."""
    for path in folder.iterdir():
        if path.name not in (RECORD, IMAGES, PICTURES):
            path.unlink()


def _devices(work: Sequence[Work], results: Sequence[dict[str, Any]]) -> str:
    """Where the pieces were done: an evaluation may have been continued on another device."""
    found: set[str] = {str(result.get("device", work[0]["device"])) for result in results}
    return ", ".join(sorted(found))


def _used(plan: Evaluation) -> Iterator[str]:
    """Libraries whose version can change these numbers, beside those of every record."""
    yield from ("scipy", "torch-fidelity")
    if plan.protocol.lpips:
        yield "lpips"
    if str(plan.model["kind"]).startswith("Autoencoder"):  # classes of diffusers
        yield "diffusers"
    if plan.model["kind"] == "AutoencoderRAE":  # its encoder is transformers'
        yield "transformers"


def reference_key(plan: Evaluation) -> str:
    """Of the original images' moments."""
    weights = plan.networks["inception"]
    return stable_hash([plan.data.manifest.fingerprint, plan.split, plan.protocol.extractor, weights])[:16]


def _rfid(plan: Evaluation) -> str:
    return term_of("rfid", plan.networks["inception"]["weights"])


def _means(plan: Evaluation, table: pa.Table) -> tuple[dict[str, float | None], int]:
    """Means over images, and how many images have no error; their PSNR counts as the protocol says."""
    columns = {name: table.column(name).to_numpy() for name in table.column_names if name not in NAMED}
    for name, values in columns.items():
        if (lost := np.isnan(values)).any():  # outputs can be finite and too large for a metric's arithmetic
            first = table.slice(int(lost.argmax()), 1).to_pylist()[0]
            raise UserError(
                f"evaluate: {plan.model['name']}: {name} of {int(lost.sum())} images is no number, the first that of "
                f"item {first['item']}, view {first['view']}, of {plan.data.location} - no record was written"
            )
    psnr = columns["psnr"]
    perfect = np.isinf(psnr)
    if plan.protocol.identical == "left out":
        columns["psnr"] = psnr[~perfect]
    # fsum: the same number in whatever order the images come
    means = {name: math.fsum(values) / len(values) if len(values) else None for name, values in columns.items()}
    return means, int(perfect.sum())


def _distance(
    plan: Evaluation, home: Path, folder: Path, work: Sequence[Work], mapper: Mapper, warnings: list[str]
) -> float | None:
    count = sum(piece["items"] for piece in work)
    if warning := too_few(count, DIMENSION):
        warnings.append(warning)
    if count < 2:
        return None
    outputs, key = moments_of(work, OUTPUT, DIMENSION, folder, mapper), reference_key(plan)
    originals = kept_reference(home, key)
    if originals is None:
        originals = moments_of(work, ORIGINAL, DIMENSION, folder, mapper)
        keep_reference(home, key, originals)
    distance = frechet_distance(originals, outputs)
    if warning := disagreement(originals, outputs, distance):
        warnings.append(warning)
    return distance


def _refuse_other_coverage(plan: Evaluation, table: pa.Table) -> None:
    expected = plan.data.manifest.samples(plan.split)
    named = table.group_by(list(NAMED)).aggregate([]).num_rows
    if table.num_rows != expected or named != expected:
        raise UserError(
            f"evaluate: {table.num_rows} images were measured, {named} different ones, of {expected} in the manifest "
            f"of {plan.data.location} - see `transvae data verify`"
        )


def _described(plan: Evaluation) -> dict[str, Any]:
    manifest = plan.data.manifest
    left_out = sorted(item.name for item in manifest.quarantined if item.split == plan.split)
    drawn = [manifest.settings.get("holdout"), manifest.settings.get("seed"), manifest.items]
    return {
        "name": plan.data.names[0] if plan.data.names else manifest.fingerprint,
        "fingerprint": manifest.fingerprint,
        "split": plan.split,
        "source": manifest.source.get("location", "unknown"),
        "layout": manifest.source.get("layout", "unknown"),
        "resolution": manifest.resolution,
        "geometry": plan.protocol.geometry,
        "enlarged": bool(manifest.settings.get("view", {}).get("enlarge", False)),
        "drawn": stable_hash(drawn)[:12],
        "left_out": len(left_out),
        "left_out_names": stable_hash(left_out)[:12],
    }
