"""What a worker does for an evaluation: the images of one shard become their metrics and features. No Ray.

Legend: B batch, H, W pixels, D features; images (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from transvae.losses.frozen import FrozenConfig, FrozenWeightsError
from transvae.losses.perceptual import LPIPS, load_lpips
from transvae.tokenizers import Tokenizer, TokenizerError, open_tokenizer
from transvae_platform.data.latents.encode import open_whole
from transvae_platform.data.making.work import Work, write_result
from transvae_platform.data.sets.shards import Shard
from transvae_platform.data.stream.batches import to_model_input
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.errors import UserError
from transvae_platform.evaluation.inception import Inception, load_inception
from transvae_platform.evaluation.per_image import per_image
from transvae_platform.evaluation.protocols import Protocol
from transvae_platform.evaluation.reconstruction import to_8bit, write_grid
from transvae_platform.files import whole_file

ORIGINAL, OUTPUT = "original", "output"
PICTURES = 4
"""Most originals that are drawn above their outputs (assumption)."""


def measure_shard(work: Work) -> None:
    """Reconstruct and measure the images of one shard; write values, features and, after them, the result.

    The result counts the images and names those whose outputs are not finite; with any, there are no features.

    Raises:
        UserError: the shard or a network cannot be used, or the memory of the device does not suffice.
    """
    try:
        _measure(work)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"evaluate: the memory of {work['device']} does not suffice for {work['batch_size']} images at a time - "
            "lower --batch-size (in a study file tables.reconstruction.batch_size); what is done is kept"
        ) from error


def _measure(work: Work) -> None:
    shard, protocol, device = Shard(**work["images"]), Protocol(**work["protocol"]), torch.device(work["device"])
    file = open_whole(work["location"], shard)
    tokenizer = _tokenizer(work["model"], work["device"], work["weights_sha256"])
    lpips, inception = networks(protocol, work["frozen"], work["device"])
    items, views = (_numbers(file.column(name), len(file)) for name in ("item", "view"))
    values: dict[str, list[NDArray[np.float64]]] = {}
    features: dict[str, list[NDArray[np.float32]]] = {ORIGINAL: [], OUTPUT: []}
    broken: list[int] = []
    shown: list[list[Tensor]] = [[], []]
    for start in range(0, len(file), work["batch_size"]):
        part = slice(start, start + work["batch_size"])
        x_B3HW = to_model_input(torch.from_numpy(file.array("image")[part].copy()), device).contiguous()
        owners = keys(Purpose.EVALUATION, work["seed"], items[part], views[part])
        output_B3HW = reconstruct(tokenizer, x_B3HW, protocol, torch.from_numpy(owners).to(device))
        finite_B = torch.isfinite(output_B3HW).flatten(1).all(1).cpu().numpy()
        broken += [int(row) for row in start + np.flatnonzero(~finite_B)]
        for name, column_B in per_image(x_B3HW, output_B3HW, protocol, lpips).items():
            values.setdefault(name, []).append(column_B.cpu().numpy())
        if work["pictures"] and start < PICTURES:
            for row, images in zip(shown, (x_B3HW, output_B3HW.nan_to_num()), strict=True):
                row.append(to_8bit(images[: PICTURES - start]))
        if work["reference"]:
            features[ORIGINAL].append(inception(to_8bit(x_B3HW)).cpu().numpy())
        if not broken:
            features[OUTPUT].append(inception(to_8bit(output_B3HW)).cpu().numpy())
    columns = {name: np.concatenate(parts) for name, parts in values.items()}
    with whole_file(Path(work["values"])) as path:
        pq.write_table(pa.table({"item": items, "view": views, **columns}), path)
    if not broken:
        arrays = {name: np.concatenate(parts) for name, parts in features.items() if parts}
        with whole_file(Path(work["features"])) as path:
            save_file(arrays, path)
    if work["pictures"]:
        write_grid([torch.cat(row) for row in shown], Path(work["pictures"]))
    named = [[int(items[row]), int(views[row])] for row in broken]
    write_result(work, {"images": len(file), "broken": named, "device": work["device"]})


@torch.inference_mode()
def reconstruct(tokenizer: Tokenizer, x_B3HW: Tensor, protocol: Protocol, owners_B: Tensor) -> Tensor:
    """What the tokenizer makes of images, float32 and unclamped.

    Args:
        owners_B: (B,) keys of `hashing.keys`: the posterior's noise is a function of them.

    Raises:
        UserError: its outputs have another shape.
    """
    posterior = tokenizer.posterior(x_B3HW)
    if protocol.latent == "sample":
        z = posterior.sample(normal_noise(owners_B, tuple(posterior.mean.shape[1:])))
    else:
        z = posterior.mode()
    output_B3HW = tokenizer.decode(z).float()
    if output_B3HW.shape != x_B3HW.shape:
        raise UserError(
            f"{tokenizer.facts.kind} makes {tuple(output_B3HW.shape)} of images {tuple(x_B3HW.shape)}: pairs cannot be "
            "compared - ingest the images at the resolution that it is made for"
        )
    return output_B3HW


def networks(protocol: Protocol, frozen: dict[str, dict[str, Any]], device: str) -> tuple[LPIPS | None, Inception]:
    """The protocol's frozen networks, as `FrozenConfig`s name their weights under `lpips` and `inception`.

    Raises:
        UserError: weights are missing or damaged, with the ways out.
    """
    try:
        lpips = load_lpips(FrozenConfig(**frozen["lpips"]), device, protocol.trunk) if protocol.trunk else None
        return lpips, load_inception(protocol.extractor, FrozenConfig(**frozen["inception"]), device)
    except FrozenWeightsError as error:
        raise UserError(
            f"{error} - of `transvae evaluate` these options are --lpips FILE and --inception FILE, --download, and "
            "--random-networks, whose metrics bear another name"
        ) from None


@lru_cache(maxsize=1)  # a process measures many shards
def _tokenizer(model: str, device: str, weights_sha256: str) -> Tokenizer:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"evaluate: device is {device}, but this process sees no GPU - ask for one, or for the CPU")
    try:
        tokenizer = open_tokenizer(model, device)
    except TokenizerError as error:
        raise UserError(f"evaluate: {error}") from None
    if tokenizer.facts.weights_sha256 != weights_sha256:
        raise UserError(f"{model} is not the model that it was when the work began - do all nodes see the same?")
    return tokenizer


def _numbers(column: pa.Array | None, count: int) -> NDArray[np.int64]:
    return np.arange(count) if column is None else column.to_numpy().astype(np.int64)
