"""Evaluations: one pass of a pool of model replicas over a data set measures everything.

Protocol
1. The work happens in pieces of one shard each (`data/making/work.py`): a piece writes its metrics and features, then
   its result. An evaluation that was killed does only the pieces without a result, and ends with the same numbers.
2. Every image counts exactly once: nothing is padded, and the rows are compared with the manifest at the end.
3. The noise of a sampled posterior is a function of (seed, item, view), so neither the number of replicas nor the batch
   size decides it.
4. Moments of features merge exactly in any order (`moments.py`), one shard in memory at a time. Those of the original
   images are kept per data set and extractor in `<home>/evaluations/reference` and not computed again. Where they were
   removed or damaged meanwhile, pieces that relied on them are done again, as are pieces whose own files are damaged.
5. Outputs that are not finite are counted, and the evaluation fails with their number and the first one's name.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from transvae.tokenizers import PUBLISHED, TokenizerError, open_tokenizer
from transvae.tokenizers.published import known_by
from transvae_platform.data.making.work import Listener, Mapper, Work, run, work_folder
from transvae_platform.data.sets.catalogue import DataSet
from transvae_platform.data.sets.notes import read_note
from transvae_platform.data.sets.shards import Shard
from transvae_platform.errors import UserError
from transvae_platform.evaluation import finish
from transvae_platform.evaluation.measure import ORIGINAL, measure_shard, networks
from transvae_platform.evaluation.moments import MOST_FEATURES
from transvae_platform.evaluation.protocols import Protocol
from transvae_platform.evaluation.records import PICTURES, VERSION, Record, read_record
from transvae_platform.evaluation.reference import kept_reference
from transvae_platform.study.trial import stable_hash

WHOLE = 256
"""Pixels of a side up to which a batch is whole."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that can be done: all that decides its numbers, known and checked before any work."""

    key: str
    model: dict[str, Any]
    """As in the record, and `source`: the folder or file, visible to every worker."""
    data: DataSet
    split: str
    protocol: Protocol
    frozen: dict[str, dict[str, Any]]
    """Options of `FrozenConfig` for `lpips` and `inception`."""
    networks: dict[str, Any]
    seed: int

    @property
    def shards(self) -> list[Shard]:
        """Of the split."""
        return [shard for shard in self.data.manifest.shards if shard.split == self.split]


def plan_evaluation(
    source: Path,
    data: DataSet,
    protocol: Protocol,
    *,
    model_name: str,
    split: str = "validation",
    frozen: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    published: str | None = None,
    images: int | None = None,
) -> Evaluation:
    """What is to be measured; reads no image.

    Args:
        source: the model's folder or file, visible to every worker.
        protocol: of the images' geometry; other images make another protocol of it (`Protocol.on`).
        model_name: what people call the model; recorded, not part of the identity.
        frozen: options of `FrozenConfig` under `lpips` and `inception`; by default the published weights.
        seed: of the posterior's samples.
        images: how many a registered model saw in its training, where that is known; recorded, decides nothing.
        published: the name of PUBLISHED whose files these are; by default the one that the weights' SHA-256 says.

    Raises:
        UserError: the data set holds no images of the split, or the model or a frozen network cannot be used.
    """
    manifest = data.manifest
    if manifest.kind != "images":
        raise UserError(f"evaluate: {manifest.fingerprint} holds {manifest.kind}, models are evaluated on images")
    if not manifest.samples(split):
        other = "train" if split == "validation" else "validation"
        raise UserError(f"evaluate: {manifest.fingerprint} has no {split} images - take --split {other}")
    if (count := manifest.samples(split)) > MOST_FEATURES:
        raise UserError(
            f"evaluate: {manifest.fingerprint} has {count:,} {split} images, the sums of FID are exact up to "
            f"{MOST_FEATURES:,} - ingest a part of them"
        )
    protocol = protocol.on(geometry_of(manifest.settings))
    try:
        tokenizer = open_tokenizer(source)
        tokenizer.facts.refuse(manifest.resolution, manifest.resolution)
    except TokenizerError as error:
        raise UserError(f"evaluate: {error}") from None
    if not tokenizer.has_pixels:
        raise UserError(
            f"evaluate: {model_name} ({tokenizer.facts.title}) has no pixels: there is no reconstruction to measure - "
            "evaluate the ps-vae that was trained from it; how well its features agree stands in its trial's metrics"
        )
    options = {name: dict((frozen or {}).get(name, {})) for name in ("lpips", "inception")}
    lpips, inception = networks(protocol, options, "cpu")
    if lpips and manifest.resolution < lpips.smallest:
        raise UserError(
            f"evaluate: LPIPS of protocol {protocol.name} takes images of {lpips.smallest} pixels or more, not "
            f"{manifest.resolution} - ingest them at a larger --resolution, or take --preset detok, which has no LPIPS"
        )
    origins = {"inception": asdict(inception.origin), **({"lpips": asdict(lpips.origin)} if lpips else {})}
    facts = asdict(tokenizer.facts)
    published = published or known_by(facts["weights_sha256"])
    if published:
        facts |= {"title": PUBLISHED[published].title, "published": published}
    decides = [
        VERSION,
        facts["weights_sha256"],
        facts["config"],
        manifest.fingerprint,
        split,
        protocol.identity,
        origins,
        *([published] if published else []),
    ]
    drawn = protocol.latent == "sample" and not tokenizer.facts.deterministic
    return Evaluation(
        key=stable_hash([*decides, seed if drawn else None])[:16],
        model={
            "name": model_name,
            "source": str(source),
            "parameters": tokenizer.parameters_count,
            **facts,
            "images": images,
        },
        data=data,
        split=split,
        protocol=protocol,
        frozen=options,
        networks=origins,
        seed=seed if drawn else 0,
    )


def evaluate(
    plan: Evaluation,
    home: Path,
    mapper: Mapper,
    *,
    batch_size: int = 16,  # assumption: 16 of 256 x 256 fill a GPU
    device: str = "cpu",
    listen: Listener | None = None,
) -> Record:
    """Measure, continue measuring, or find the record of an evaluation done already.

    Args:
        home: visible to every worker.
        mapper: `run_locally`, or `run_on_ray` with a pool of processes.
        batch_size: see `images_at_once`.

    Raises:
        UserError: outputs are not finite, or a shard or a network cannot be used.
        UnreachableError: the home cannot be written.
    """
    final = home / "evaluations" / plan.key
    if found := read_record(final):
        return found
    # all that decides the numbers: what somebody else has left unfinished is not to be swept away
    asked = ["evaluation", plan.model["weights_sha256"], plan.model["config"], plan.data.location, plan.split,
             plan.protocol.identity, plan.networks, plan.seed, plan.model.get("published")]  # fmt: skip
    with work_folder(home, plan.key, asked) as folder:
        if found := read_record(final):  # another process has done it meanwhile
            shutil.rmtree(folder)
            return found
        # a process that was killed while it tidied up had measured everything
        record = read_record(folder) or _measured(plan, home, folder, mapper, batch_size, device, listen)
        finish.tidy(folder)
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)  # damaged, or of an older version
        folder.replace(final)
    return record


def _measured(
    plan: Evaluation, home: Path, folder: Path, mapper: Mapper, batch_size: int, device: str, listen: Listener | None
) -> Record:
    """Do the pieces that are not done; their record lies in the folder then."""
    work = _pieces(plan, home, folder, batch_size, device)
    _forget_unusable(work)
    results = run(measure_shard, work, mapper, listen)
    try:
        return finish.close(plan, home, folder, work, results, mapper)
    except ValueError as error:  # features that cannot be summed, or distances that cannot be solved
        raise UserError(f"evaluate: {plan.model['name']}: no FID, {error} - no record was written") from error


def geometry_of(settings: Mapping[str, Any]) -> str:
    """How a data set's images were cut, as protocols name it."""
    view = settings.get("view", {})
    return str(view.get("geometry", "unknown") if view.get("kind") == "centre" else view.get("kind", "unknown"))


def images_at_once(batch_size: int, resolution: int) -> int:
    """Images per forward pass: so many of up to 256 x 256 pixels, of larger ones as many as have the same pixels.

    A decoder's activations grow with the pixels: SD3.5-VAE's take 1 GiB for one image of 512 x 512 (measured on a CPU).
    """
    return max(1, min(batch_size, batch_size * WHOLE**2 // resolution**2))


def _forget_unusable(work: list[Work]) -> None:
    """Pieces whose files cannot be read, or that relied on moments of the originals which are gone, are not done."""
    for piece in work:
        result = read_note(Path(piece["result"]))
        if result is not None and not result["broken"] and not _is_usable(piece):
            Path(piece["result"]).unlink()


def _is_usable(piece: Work) -> bool:
    try:
        pq.read_metadata(piece["values"])
        with safe_open(piece["features"], "numpy") as file:
            return not piece["reference"] or ORIGINAL in file.keys()  # noqa: SIM118 - no mapping
    except (OSError, pa.ArrowInvalid, SafetensorError):
        return False


def _pieces(plan: Evaluation, home: Path, folder: Path, batch_size: int, device: str) -> list[Work]:
    common = {
        "location": plan.data.location, "model": plan.model["source"], "weights_sha256": plan.model["weights_sha256"],
        "protocol": asdict(plan.protocol), "frozen": plan.frozen, "seed": plan.seed,
        "batch_size": images_at_once(batch_size, plan.data.manifest.resolution),
        "device": device, "reference": kept_reference(home, finish.reference_key(plan)) is None,
    }  # fmt: skip
    return [
        {**common, "images": vars(shard), "items": shard.records,
         "values": str(folder / f"values-{number:05d}.parquet"),
         "features": str(folder / f"features-{number:05d}.safetensors"),
         "pictures": None if number else str(folder / PICTURES), "result": str(folder / f"result-{number:05d}.json")}
        for number, shard in enumerate(plan.shards)
    ]  # fmt: skip
