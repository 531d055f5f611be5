"""Latents: what a trained encoder makes of an image data set, once, as records for the training of generators.

A record holds `latent` and `latent_flip`, the latent of the mirrored image with noise of its own, both (d, h, w), or
(2d, h, w) for posteriors: mean, then log-variance. It stands where its image stands: same shard, same row, same id.

What holds: the noise is a function of (seed, item, view, mirrored or not) alone. A network's floats vary in the last
bits with batch size, device and number of threads; with these equal, equal extractions have equal bytes. They are no
part of the fingerprint, but an extraction that was killed continues only with its batch size and device: with others
it begins anew.
Legend: B batch, H, W pixels, f compression, d latent channels, h = H/f, w = W/f.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transvae import storage
from transvae.tokenizers import TokenizerError, open_tokenizer
from transvae.tokenizers.opening import is_ours
from transvae_platform.data.latents.channels import DTYPES, channel_statistics
from transvae_platform.data.latents.encode import extract_shard, model_identity
from transvae_platform.data.making.work import Listener, Mapper, Work, find_made, publish, run, sweep, work_folder
from transvae_platform.data.sets.identity import FORMAT, latents_fingerprint
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.shards import Field, Shard
from transvae_platform.errors import SpecError, UserError
from transvae_platform.lineage import library_versions
from transvae_platform.study.trial import stable_hash

FORMAT_VERSION = 3
"""Raised when the same images, model and settings would give other latents (noise, order, mirroring)."""
CONTENTS = ("sample", "mean", "posterior")


@dataclass(frozen=True)
class Extraction:
    """Latents that can be made: what decides them, known and checked before any work."""

    manifest: Manifest
    """Of the images."""
    location: str
    """Where their shards lie: a folder or a URI."""
    model_folder: Path
    settings: dict[str, Any]
    fields: tuple[Field, ...]

    @property
    def fingerprint(self) -> str:
        """Of the latents: a hash of what decides them but for rounding, of the model its weights and configuration."""
        return latents_fingerprint(FORMAT_VERSION, self.settings)


def plan_extraction(
    manifest: Manifest,
    images: str | Path,
    model_folder: Path,
    *,
    model_name: str,
    content: str = "sample",
    dtype: str = "float16",
    seed: int = 0,
) -> Extraction:
    """What is to be made of an image data set; reads no image.

    Args:
        manifest: of the images, whose shards lie in `images`, a folder or a URI.
        model_folder: written by `save_pretrained`, or another tokenizer's folder or file (`transvae.tokenizers`); like
            the images visible to every worker.
        model_name: what people call the model, e.g. its address in the registry; recorded, not part of the identity.
        content: `sample` of the posterior, as LightningDiT stores it; its `mean`; or the whole `posterior`.
        dtype: `float16`, `bfloat16` or `float32`.
        seed: of the samples' noise; of no effect, and not recorded, for the other contents.

    Raises:
        SpecError: content or dtype is unknown.
        UserError: the data set holds no images, the folder no model, or the images do not divide by its compression.
    """
    if content not in CONTENTS or dtype not in DTYPES:
        raise SpecError(f"latents: content is one of {', '.join(CONTENTS)}, dtype one of {', '.join(DTYPES)}")
    if manifest.kind != "images":
        raise UserError(f"latents: {manifest.fingerprint} holds {manifest.kind}, latents are made of images")
    settings = {
        "resolution": manifest.resolution, "data": manifest.fingerprint, "content": content, "dtype": dtype,
        "seed": seed if content == "sample" else None, "model": model_identity(model_folder, model_name),
    }  # fmt: skip
    fields = _record_layout(model_folder, manifest.resolution, content, dtype)
    return Extraction(manifest, str(images), model_folder, settings, fields)


def extract_latents(
    plan: Extraction,
    home: Path,
    mapper: Mapper,
    *,
    batch_size: int = 64,  # assumption: fills a GPU at 256 x 256
    device: str = "cpu",
    listen: Listener | None = None,
) -> Manifest:
    """Make the latents of an image data set, continue making them, or find them made already.

    Args:
        home: visible to every worker; the latents are published in `home/data/<fingerprint>`.
        mapper: `run_locally`, or `run_on_ray` (for GPUs `partial(run_on_ray, actors=n, gpus=1)` with device `cuda`).
        listen: told how many images of how many are done.

    Raises:
        UserError: the model or a shard cannot be used, or its latents are not finite in their dtype.
        UnreachableError: the home cannot be written.
    """
    fingerprint, images = plan.fingerprint, plan.manifest  # known before: also the key
    asked = [
        plan.settings["model"]["name"],
        plan.location,
        *(plan.settings[key] for key in ("content", "dtype", "seed")),
    ]
    if found := find_made(home, fingerprint):
        sweep(home, asked)
        return found
    common = {
        "location": plan.location, "model_folder": str(plan.model_folder), "settings": plan.settings,
        "fields": [[field.name, field.shape] for field in plan.fields], "batch_size": batch_size, "device": device,
    }  # fmt: skip
    with work_folder(home, stable_hash([fingerprint, batch_size, device])[:16], asked) as folder:
        if found := find_made(home, fingerprint):  # another process has made it meanwhile
            shutil.rmtree(folder)
            return found
        work: list[Work] = [
            {**common, "images": vars(shard), "items": shard.records, "shard": str(folder / shard.file),
             "result": str(folder / f"result-{number:05d}.json")}
            for number, shard in enumerate(images.shards)
        ]  # fmt: skip
        results = run(extract_shard, work, mapper, listen)
        latents = Manifest(
            fingerprint=fingerprint,
            kind="latents",
            fields=plan.fields,
            items=images.items,
            shards=tuple(Shard(**result["shard"]) for result in results),
            quarantined=images.quarantined,
            settings=plan.settings,
            source=images.source,
            versions={FORMAT: json.dumps(FORMAT_VERSION), **library_versions()},
            statistics=channel_statistics([result["sums"] for result in results if result["sums"]]),
        )
        publish(folder, home, fingerprint, latents)
    return latents


def _record_layout(model_folder: Path, resolution: int, content: str, dtype: str) -> tuple[Field, ...]:
    compression, channels = _f_and_d(model_folder, resolution, content)
    side, rest = divmod(resolution, compression)
    if rest:
        raise UserError(f"latents: images of {resolution} pixels do not divide by the model's f={compression}")
    shape = (channels * (2 if content == "posterior" else 1), side, side)
    return Field("latent", shape, dtype), Field("latent_flip", shape, dtype)


def _f_and_d(model: Path, resolution: int, content: str) -> tuple[int, int]:
    """A model's compression and channels. Raises UserError for images or contents that it does not have."""
    if is_ours(model):
        config = storage.load_config(model)
        return config.compression, config.latent_dim
    facts = open_tokenizer(model).facts
    if content == "posterior" and facts.deterministic:
        raise UserError(f"latents: {facts.kind} is deterministic, it has no posterior - take --content mean")
    try:
        facts.refuse(resolution, resolution)
    except TokenizerError as error:
        raise UserError(f"latents: {error}") from None
    return facts.compression, facts.channels
