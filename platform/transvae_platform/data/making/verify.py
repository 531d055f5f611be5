"""Whether a data set is what its manifest says, and the manifest what its shards say: everything is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from transvae_platform.data.latents.channels import channel_statistics, channel_sums, to_float32
from transvae_platform.data.sets.identity import FORMAT, computes_statistics, content_of, fingerprint_again
from transvae_platform.data.sets.manifest import Manifest
from transvae_platform.data.sets.shards import Shard, ShardFile
from transvae_platform.data.sets.stores import first_line, local_path, open_store

MANIFEST = "manifest.json"
SAME = 1e-6
"""By how much statistics may differ, relatively: other versions of NumPy add up in another order (assumption)."""


class Damage(NamedTuple):
    """A file of a data set, and what is wrong with it."""

    file: str
    problem: str


def find_damage(location: str, manifest: Manifest, listen: Callable[[int, int], None] | None = None) -> list[Damage]:
    """What is wrong with the shards, one entry each, and with the manifest.

    Of a manifest everything is computed again that follows from its shards and settings: records, sizes, splits, arrays
    and items, the statistics of latents, and the fingerprint, in which the settings, the class names and the quarantine
    list are; not where a manifest does not say its FORMAT. Where the images lay is not part of it.

    Raises:
        SpecError, UnreachableError: the store cannot be opened.
    """
    store, root = open_store(location)
    found, facts = list[Damage](), list[_Facts]()
    for number, shard in enumerate(manifest.shards, start=1):
        try:
            buffer = _read(store, f"{root}/{shard.file}", shard.bytes, is_local=local_path(location) is not None)
            if (sha256 := hashlib.sha256(buffer).hexdigest()) == shard.sha256:
                file = ShardFile(buffer)
                facts.append(_facts(file, manifest))
                found += [Damage(MANIFEST, wrong) for wrong in _entry(shard, file, len(buffer), manifest)]
            else:
                found.append(Damage(shard.file, f"its SHA-256 is {sha256}, the manifest says {shard.sha256}"))
        except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:  # no shard of ours
            found.append(Damage(shard.file, first_line(error)))
        if listen:
            listen(number, len(manifest.shards))
    if len(facts) == len(manifest.shards):  # or nothing can be said of the whole
        found += [Damage(MANIFEST, wrong) for wrong in _whole(manifest, facts)]
    return found


class _Facts(NamedTuple):
    """Of one shard, what remains to be compared when all are read."""

    content: str
    items: np.ndarray
    views: np.ndarray
    sums: dict[str, Any] | None


def _read(store: Any, path: str, size: int, *, is_local: bool) -> pa.Buffer:
    if is_local:
        with pa.memory_map(path) as file:
            return file.read_buffer()
    with store.open_input_stream(path) as stream:
        return stream.read_buffer(size + 1)  # one more: a longer file has another hash


def _facts(file: ShardFile, manifest: Manifest) -> _Facts:
    is_train = (file.batch.schema.metadata or {}).get(b"split") == b"train"
    sums = None
    if manifest.kind == "latents" and is_train and computes_statistics(manifest):
        values = to_float32(file.array("latent"), str(manifest.settings["dtype"]))
        sums = channel_sums(values, str(manifest.settings["content"]))
    items, views = (
        np.zeros(len(file), np.int64) if (column := file.column(name)) is None else column.to_numpy()
        for name in ("item", "view")
    )
    return _Facts(content_of(file), items, views, sums)


def _entry(shard: Shard, file: ShardFile, size: int, manifest: Manifest) -> Iterator[str]:
    """What the manifest says wrongly of one shard."""
    split = (file.batch.schema.metadata or {}).get(b"split", b"").decode()
    for key, said, is_so in (
        ("records", shard.records, len(file)), ("bytes", shard.bytes, size), ("split", shard.split, split),
        ("fields", manifest.fields, file.fields),
    ):  # fmt: skip
        if said != is_so:
            yield f"{key} of {shard.file}: it says {said}, the shard {is_so}"


def _whole(manifest: Manifest, facts: list[_Facts]) -> Iterator[str]:
    """What the manifest says wrongly of all shards together."""
    items, views = (np.concatenate([getattr(fact, name) for fact in facts]) for name in ("items", "views"))
    used = np.unique(items)
    if len(used) + len(manifest.quarantined) != manifest.items:
        left = f"{len(manifest.quarantined)} left out"
        yield f"items: it says {manifest.items}, the shards hold {len(used)} and {left}"
    if np.unique(np.stack([items, views]), axis=1).shape[1] != len(items):
        yield "shards: they hold a sample twice"
    if computes_statistics(manifest):
        again = channel_statistics([fact.sums for fact in facts if fact.sums])
        if not all(_same(manifest.statistics.get(name), again.get(name)) for name in ("mean", "std")):
            yield "statistics: they are not those of the training latents"
    contents = [(shard.split, fact.content) for shard, fact in zip(manifest.shards, facts, strict=True)]
    try:
        fingerprint = fingerprint_again(manifest, contents)
    except ValueError:
        yield f"versions: {FORMAT} is no JSON"
        return
    if fingerprint not in (None, manifest.fingerprint):
        yield (
            f"fingerprint: it says {manifest.fingerprint}, but its settings, classes and quarantine list with these "
            f"shards make {fingerprint}"
        )


def _same(said: Any, again: Any) -> bool:
    try:
        return len(said) == len(again) and all(map(lambda a, b: math.isclose(a, b, rel_tol=SAME), said, again))
    except TypeError:  # no lists of numbers
        return said == again
