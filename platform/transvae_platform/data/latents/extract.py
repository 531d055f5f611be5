"""Latents: what a trained encoder makes of an image data set, once, as records for the training of generators.

A record holds `latent` and `latent_flip`, the latent of the mirrored image with noise of its own, both (d, h, w), or
(2d, h, w) for posteriors: mean, then log-variance. It stands where its image stands: same shard, same row, same id.

What holds: the noise is a function of (seed, item, view, mirrored or not) alone. A network's floats vary in the last
bits with batch size, device and number of threads; with these equal, equal extractions have equal bytes.
Legend: B batch, H, W pixels, f compression, d latent channels, h = H/f, w = W/f.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transvae import storage
from transvae_platform.data.latents.channels import DTYPES, channel_statistics
from transvae_platform.data.latents.encode import extract_shard, model_identity
from transvae_platform.data.making.work import Listener, Mapper, Work, find_made, publish, run, sweep, work_folder
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.shards import Field, Shard
from transvae_platform.errors import SpecError, UserError
from transvae_platform.lineage import library_versions
from transvae_platform.study.grid import stable_hash

FORMAT_VERSION = 3
"""Raised when the same images, model and settings would give other latents (noise, order, mirroring)."""
CONTENTS = ("sample", "mean", "posterior")


def extract_latents(
    manifest: Manifest,
    images: str | Path,
    model_folder: Path,
    home: Path,
    mapper: Mapper,
    *,
    model_name: str,
    content: str = "sample",
    dtype: str = "float16",
    batch_size: int = 64,  # assumption: fills a GPU at 256 x 256
    device: str = "cpu",
    seed: int = 0,
    listen: Listener | None = None,
) -> Manifest:
    """Make the latents of an image data set, continue making them, or find them made already.

    Args:
        manifest: of the images, whose shards lie in `images`, a folder or a URI.
        model_folder: written by `save_pretrained`; like `home` and the images visible to every worker.
        home: the latents are published in `home/data/<fingerprint>`.
        mapper: `run_locally`, or `run_on_ray` (for GPUs `partial(run_on_ray, actors=n, gpus=1)` with device `cuda`).
        model_name: what people call the model, e.g. its address in the registry; recorded, not part of the identity.
        content: `sample` of the posterior, as LightningDiT stores it; its `mean`; or the whole `posterior`.
        dtype: `float16`, `bfloat16` or `float32`.
        seed: of the samples' noise; of no effect, and not recorded, for the other contents.
        listen: told how many images of how many are done.

    Raises:
        SpecError: content or dtype is unknown.
        UserError: the model or a shard cannot be used, or its latents are not finite in `dtype`.
        UnreachableError: the home cannot be written.
    """
    if content not in CONTENTS or dtype not in DTYPES:
        raise SpecError(f"latents: content is one of {', '.join(CONTENTS)}, dtype one of {', '.join(DTYPES)}")
    if manifest.kind != "images":
        raise UserError(f"latents: {manifest.fingerprint} holds {manifest.kind}, latents are made of images")
    settings = {
        "resolution": manifest.resolution, "data": manifest.fingerprint, "content": content, "dtype": dtype,
        "seed": seed if content == "sample" else None, "model": model_identity(model_folder, model_name),
    }  # fmt: skip
    fingerprint = _fingerprint(settings)  # known before: also the key
    asked = [model_name, str(images), content, dtype, settings["seed"]]
    if found := find_made(home, fingerprint):
        sweep(home, asked)
        return found
    fields = _record_layout(model_folder, manifest.resolution, content, dtype)
    common = {
        "location": str(images), "model_folder": str(model_folder), "settings": settings,
        "fields": [[field.name, field.shape] for field in fields], "batch_size": batch_size, "device": device,
    }  # fmt: skip
    with work_folder(home, fingerprint, asked) as folder:
        if found := find_made(home, fingerprint):  # another process has made it meanwhile
            shutil.rmtree(folder)
            return found
        work: list[Work] = [
            {**common, "images": vars(shard), "items": shard.records, "shard": str(folder / shard.file),
             "result": str(folder / f"result-{number:05d}.json")}
            for number, shard in enumerate(manifest.shards)
        ]  # fmt: skip
        results = run(extract_shard, work, mapper, listen)
        latents = Manifest(
            fingerprint=fingerprint,
            kind="latents",
            fields=fields,
            items=manifest.items,
            shards=tuple(Shard(**result["shard"]) for result in results),
            quarantined=manifest.quarantined,
            settings=settings,
            source=manifest.source,
            versions=library_versions(),
            statistics=channel_statistics([result["sums"] for result in results if result["sums"]]),
        )
        publish(folder, home, fingerprint, latents)
    return latents


def _fingerprint(settings: dict[str, Any]) -> str:
    """Of everything that decides the latents: of the model its weights and configuration, however it is called."""
    model = {key: value for key, value in settings["model"].items() if key != "name"}
    return stable_hash({"format": FORMAT_VERSION, "settings": {**settings, "model": model}})[:16]


def _record_layout(model_folder: Path, resolution: int, content: str, dtype: str) -> tuple[Field, ...]:
    config = storage.load_config(model_folder)
    side, rest = divmod(resolution, config.compression)
    if rest:
        raise UserError(f"latents: images of {resolution} pixels do not divide by the model's f={config.compression}")
    shape = (config.latent_dim * (2 if content == "posterior" else 1), side, side)
    return Field("latent", shape, dtype), Field("latent_flip", shape, dtype)
