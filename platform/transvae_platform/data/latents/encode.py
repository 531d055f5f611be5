"""What a worker does for an extraction: the images of one shard become the shard of their latents. No Ray.

Legend: B batch, H, W pixels, f compression, d latent channels, h = H/f, w = W/f.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from transvae import storage
from transvae.posterior import DiagonalGaussian
from transvae.tokenizers import Tokenizer, TokenizerError, open_tokenizer
from transvae.tokenizers.opening import is_ours
from transvae_platform.data.latents.channels import channel_sums, to_float32, to_stored
from transvae_platform.data.making.work import Work, write_result
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.sets.samples import Shelf, manifest_at, open_shelf
from transvae_platform.data.sets.shards import SOURCE, STORED_AS, Field, Shard, ShardFile, write_shard
from transvae_platform.data.stream.batches import to_model_input
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.errors import UserError
from transvae_platform.study.trial import stable_hash

CARRIED = ("item", "view", "sha256", "label", "caption", SOURCE)
"""Columns of the image shard that its latents keep."""


def extract_shard(work: Work) -> None:
    """Encode the images of one shard, write the shard of their latents and, after it, the result."""
    images, settings = Shard(**work["images"]), work["settings"]
    content, dtype = settings["content"], settings["dtype"]
    file = open_whole(work["location"], images)
    model = _load_model(work["model_folder"], work["device"], **settings["model"])
    columns = {name: column for name in CARRIED if (column := file.column(name)) is not None}
    items, views = (columns[name].to_numpy().astype(np.int64) for name in ("item", "view"))
    stored = {
        Field(name, tuple(shape), dtype): np.empty((len(file), *shape), STORED_AS[dtype])
        for name, shape in work["fields"]
    }
    for start in range(0, len(file), work["batch_size"]):
        part = slice(start, start + work["batch_size"])
        encoded = _encode(model, file.array("image")[part], content, settings["seed"], items[part], views[part])
        for records, values in zip(stored.values(), encoded, strict=True):
            try:
                records[part] = to_stored(values, dtype)
            except ValueError as error:
                raise UserError(
                    f"latents of {settings['model']['name']} for {images.file}: {error} - use bfloat16 or float32, "
                    "or another model"
                ) from None
    shard = write_shard(Path(work["shard"]), images.split, stored, columns)
    straight = next(iter(stored.values()))
    sums = channel_sums(to_float32(straight, dtype), content) if images.split == "train" else None
    write_result(work, {"shard": vars(shard), "sums": sums})


@torch.inference_mode()
def _encode(
    model: Tokenizer, images_BHWC: NDArray[np.generic], content: str, seed: int,
    items_B: NDArray[np.int64], views_B: NDArray[np.int64],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The content of (B, H, W, 3) uint8 images and of their mirror images."""
    x_B3HW = to_model_input(torch.from_numpy(images_BHWC.copy()), model.device).to(next(model.parameters()).dtype)
    straight, mirrored = model.posterior(x_B3HW), model.posterior(x_B3HW.flip(3))
    if content == "mean":
        return straight.mean, mirrored.mean
    if content == "posterior":
        assert isinstance(straight, DiagonalGaussian), "planned for tokenizers with a posterior only"
        assert isinstance(mirrored, DiagonalGaussian), "the same tokenizer made both"
        return torch.cat([straight.mean, straight.logvar], 1), torch.cat([mirrored.mean, mirrored.logvar], 1)
    drawn = []
    for side, posterior in enumerate((straight, mirrored)):
        owners = torch.from_numpy(keys(Purpose.LATENT, seed, items_B, views_B, np.full_like(items_B, side)))
        drawn.append(posterior.sample(normal_noise(owners.to(model.device), tuple(posterior.mean.shape[1:]))))
    return drawn[0], drawn[1]


def model_identity(folder: Path, name: str) -> dict[str, str]:
    """What says of which model latents are: its name, the SHA-256 of its weights, a hash of its configuration.

    Args:
        folder: what `save_pretrained` wrote, or another tokenizer's folder or file.

    Raises:
        UserError: it holds no model.
    """
    try:
        if not is_ours(folder):
            facts = open_tokenizer(folder).facts
            return {"name": name, "weights_sha256": facts.weights_sha256, "config": facts.config}
        config = storage.load_config(folder)
        with (folder / storage.WEIGHTS).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, TokenizerError) as error:
        raise UserError(f"latents: {folder} holds no model ({error}) - give what save_pretrained wrote") from None
    return {"name": name, "weights_sha256": sha256, "config": stable_hash(config.to_dict())[:16]}


def open_whole(location: str, shard: Shard) -> ShardFile:
    """A shard of images, mapped; all its bytes were compared with the manifest."""
    where = f"{location}/{shard.file}"
    try:
        file = _shelf(location).open(shard)
        is_whole = file.sha256() == shard.sha256
    except pa.ArrowInvalid:
        is_whole = False
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror or error}) - ingest the source again") from None
    if not is_whole:
        raise UserError(f"{where} is damaged: its SHA-256 is not the manifest's - ingest the source again")
    return file


@lru_cache(maxsize=1)
def _shelf(location: str) -> Shelf:
    return open_shelf(location, manifest_at(location), default_cache(), CACHE_BYTES)


@lru_cache(maxsize=1)  # a process encodes many shards
def _load_model(folder: str, device: str, name: str, weights_sha256: str, config: str) -> Tokenizer:
    if model_identity(Path(folder), name) != {"name": name, "weights_sha256": weights_sha256, "config": config}:
        raise UserError(f"{folder} is not the model that {name} was when the work began - do all nodes see the same?")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"latents: device is {device}, but this process sees no GPU - ask for one, or for the CPU")
    try:
        return open_tokenizer(folder, device)
    except TokenizerError as error:
        raise UserError(f"latents: {error}") from None
