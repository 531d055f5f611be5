"""Latents in the layout of LightningDiT (hustvl, `extract_features.py`), written and read.

A folder holds one split: `latents_rank00_shard000.safetensors` and so on with `latents` and `latents_flip` (n, d, h, w)
and `labels` (n) int64, 10,000 records per file, and `latents_stats.pt`: `mean` and `std`, (1, d, 1, 1) float32.
Written are float32 values, which are those of the shards exactly; read are float32, float16 and bfloat16.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from transvae import storage
from transvae_platform.data.exchange.export import export, open_split, read_data_set
from transvae_platform.data.latents.channels import to_float32
from transvae_platform.data.making.work import Listener, Mapper, Work
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.remote import CACHE_BYTES, default_cache
from transvae_platform.data.sets.samples import SampleSet, open_shelf
from transvae_platform.errors import UserError
from transvae_platform.files import whole_file

RECORDS_PER_FILE = 10_000
FILES_PER_RANK = 1000
"""LightningDiT's readers sort the files by name: a fourth digit of the shard would break their order."""
STATISTICS = "latents_stats.pt"
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
FIELDS = {"latent": "latents", "latent_flip": "latents_flip"}
"""Our name -> LightningDiT's."""


def export_lightningdit(
    latents: str | Path,
    out: Path,
    mapper: Mapper,
    *,
    split: str = "train",
    missing_label: int | None = None,
    listen: Listener | None = None,
) -> list[Path]:
    """Write the files of one split that are not in `out` yet; returns the paths of all shards, in order.

    Args:
        latents: the folder or URI of a latents data set.
        mapper: `run_locally`, or `run_on_ray`: one piece of work per file, which holds that file in memory.
        missing_label: written for records without a label; by default such data sets are refused, because
            LightningDiT would learn the made-up class. The null class of its label table is the number of classes.
        listen: told how many records of how many are done.

    Raises:
        UserError: there is no such data set or split, it holds posteriors, labels are missing, or `out` holds
            something else.
        UnreachableError: `out` cannot be written.
    """
    manifest = read_data_set(latents, "latents")
    count = manifest.samples(split)
    if not count:
        raise UserError(f"{latents} holds no {split} latents")
    if manifest.settings["content"] == "posterior":
        raise UserError(f"{latents} holds posteriors, LightningDiT reads latents - extract samples or means")
    if missing_label is None:
        _refuse_missing_labels(str(latents), manifest, split)
    work: list[Work] = [
        {"latents": str(latents), "split": split, "start": start, "items": min(RECORDS_PER_FILE, count - start),
         "missing_label": missing_label, "file": str(out / _file_name(start // RECORDS_PER_FILE))}
        for start in range(0, count, RECORDS_PER_FILE)
    ]  # fmt: skip
    about = {
        "layout": "lightningdit", "data": manifest.fingerprint, "split": split, "missing_label": missing_label,
        "settings": manifest.settings,
    }  # fmt: skip
    statistics: Work = {"file": str(out / STATISTICS), "items": 0, "statistics": manifest.statistics}
    export(out, about, write_file, [*work, statistics] if manifest.statistics else work, mapper, listen)
    return [Path(piece["file"]) for piece in work]


def write_file(work: Work) -> None:
    """Write one file: records of a split from `start` on, or the statistics."""
    with whole_file(Path(work["file"])) as path:
        if "statistics" in work:
            named = {name: torch.tensor(work["statistics"][name]).reshape(1, -1, 1, 1) for name in ("mean", "std")}
            torch.save(named, path)
            return
        samples = open_split(work["latents"], work["split"])
        ids = np.arange(work["start"], work["start"] + work["items"])
        labels = [work["missing_label"] if label is None else label for label in samples.column(ids, "label")]
        tensors = {
            "latents": torch.from_numpy(_values(samples, ids, "latent")),
            "latents_flip": torch.from_numpy(_values(samples, ids, "latent_flip")),
            "labels": torch.tensor(labels, dtype=torch.int64),
        }
        # the three strings that LightningDiT writes
        save_file(tensors, path, {"total_size": str(len(ids)), "dtype": "torch.float32", "device": "cpu"})
        storage.as_readable_as_folder(path)


def list_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in the order in which LightningDiT reads them.

    Raises:
        UserError: there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no .safetensors files - give a folder that LightningDiT's extraction wrote")
    return files


def read_layout(path: Path) -> tuple[int, tuple[int, ...], str]:
    """(number of records, shape of a latent, dtype) from a file's header.

    Raises:
        UserError: the file is damaged or not of this layout.
    """
    try:
        with safe_open(path, framework="pt") as file:
            there = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in there.items()}
            dtypes = {name: str(tensor.get_dtype()) for name, tensor in there.items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}) - copy or extract it again") from None
    for name in (*FIELDS.values(), "labels"):
        if name not in there:
            raise UserError(f"{path} has no {name!r} - it has: {', '.join(sorted(there))}")
    shape = shapes["latents"]
    if len(shape) != 4 or 0 in shape or shapes["latents_flip"] != shape or shapes["labels"] != shape[:1]:
        raise UserError(f"{path}: latents and latents_flip are (n, d, h, w) and labels (n), but it has {shapes}")
    if dtypes["latents"] not in DTYPES or dtypes["latents_flip"] != dtypes["latents"] or dtypes["labels"] != "I64":
        raise UserError(f"{path}: latents are one of {', '.join(DTYPES)} and labels I64, but it has {dtypes}")
    return shape[0], shape[1:], DTYPES[dtypes["latents"]]


def read_statistics(path: Path, channels: int) -> dict[str, Any]:
    """Mean and standard deviation of each channel as plain numbers; nothing if there is no such file.

    Raises:
        UserError: the file is not of this layout.
    """
    if not path.exists():
        return {}
    try:
        values = torch.load(path, weights_only=True)
        named = {name: values[name].double().reshape(channels).tolist() for name in ("mean", "std")}
        if not all(map(math.isfinite, named["mean"])) or not all(0 < value < math.inf for value in named["std"]):
            raise ValueError("not finite, or a deviation of 0")
    except (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
            pickle.UnpicklingError) as error:  # fmt: skip
        raise UserError(f"{path} is not the statistics of {channels} channels ({error}) - delete or mend it") from None
    return {**named, "of": STATISTICS}


def _values(samples: SampleSet, ids: NDArray[np.int64], name: str) -> NDArray[np.float32]:
    return to_float32(samples.read(ids, name), samples.manifest.settings["dtype"])


def _refuse_missing_labels(location: str, manifest: Manifest, split: str) -> None:
    missing, shelf = 0, open_shelf(location, manifest, default_cache(), CACHE_BYTES)
    for shard in manifest.shards:
        if shard.split == split:
            column: Any = shelf.open(shard).column("label")
            missing += shard.records if column is None else column.null_count
    if missing:
        raise UserError(
            f"{location}: {missing} of {manifest.samples(split)} {split} latents have no label, and LightningDiT needs "
            "one each - say which class they shall get (--missing-label)"
        )


def _file_name(number: int) -> str:
    return "latents_rank{:02d}_shard{:03d}.safetensors".format(*divmod(number, FILES_PER_RANK))
