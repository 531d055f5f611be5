"""An ingested data set, opened: random access to the records of a split, wherever its shards lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transvae_platform.data.sets.gather import Empty, Piece, gather
from transvae_platform.data.sets.in_memory import fits_in_memory
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest, read_manifest
from transvae_platform.data.sets.remote import RemoteShelf, read_remote_manifest
from transvae_platform.data.sets.shards import SOURCE, Shard, ShardFile
from transvae_platform.data.sets.stores import first_line
from transvae_platform.data.stream.order import FullOrder, Order, ShardOrder
from transvae_platform.errors import UserError

LABEL = "label"
FEW_SHARDS = 4
"""Of a distant data set, for a look at it (assumption: half a gigabyte is worth the wait)."""


class Shelf(Protocol):
    """Where shards lie: maps them, after a download if need be."""

    distant: bool
    """Whether a shard that is read has to come from elsewhere."""

    def open(self, shard: Shard) -> ShardFile:
        """The shard, mapped."""

    def expect(self, shards: Iterable[Shard]) -> None:
        """These shards will be needed soon, the first ones first."""

    def fetch(self, pieces: Sequence[Piece]) -> None:
        """These records are copied next."""

    def refuse_order(self, window: int | None) -> None:
        """Raises SpecError if the shards of an order (see `SampleSet.order`) could not all stay at hand."""


class SampleSet:
    """Random access to the samples of one split: ids count from 0 in the order of the manifest's shards."""

    def __init__(self, manifest: Manifest, shelf: Shelf, split: str, centre: int | None = None) -> None:
        """Open a split.

        Args:
            centre: read the central square of this size out of each image.
        """
        self.manifest, self.split, self._shelf, self._centre = manifest, split, shelf, centre
        self._shards = [shard for shard in manifest.shards if shard.split == split]
        self._starts = np.cumsum([0, *(shard.records for shard in self._shards)])
        # what lies in a folder stays mapped; what came to a cache is held there only while records are copied out of it
        self._open, self._array = self._open_shard, self._array_of
        if not shelf.distant:
            self._open, self._array = lru_cache(None)(self._open), lru_cache(None)(self._array)

    @property
    def parts(self) -> tuple[tuple[Manifest, float], ...]:
        """The one data set, with its share of the samples."""
        return ((self.manifest, 1.0),)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def order(self, window: int | None = None) -> Order:
        """Every epoch shuffled over all samples, or within `window` shards at a time.

        Raises:
            SpecError: the samples are distant, and the cache too small for this order.
        """
        self._shelf.refuse_order(window)
        return FullOrder(len(self)) if window is None else ShardOrder([s.records for s in self._shards], window)

    def read(
        self, ids_B: NDArray[np.int64], *fields: str, choice_B: NDArray[Any] | None = None, empty: Empty = np.empty
    ) -> NDArray[Any]:
        """One field of some samples, (B, *shape), copied out of the shards; `image` if none is named.

        Args:
            fields: several must be of one shape and dtype.
            choice_B: which of them, by its number, each sample is read from; by default the first one.
            empty: gives the array that is returned.
        """
        return gather(len(ids_B), self.pieces(ids_B, fields, choice_B, np.arange(len(ids_B))), empty)

    def pieces(
        self,
        ids_B: NDArray[np.int64],
        fields: tuple[str, ...],
        choice_B: NDArray[Any] | None,
        places_B: NDArray[np.int64],
    ) -> Iterator[Piece]:
        """What `read` copies, and to which places: views into one shard after the other; no distant one is kept.

        Raises:
            UserError: the data set has no such field, or a shard is not the manifest's.
        """
        names = fields or ("image",)
        which_B, within_B = self._places(ids_B)
        groups = list(_groups(which_B * len(names) + (0 if choice_B is None else choice_B)))
        pieces = (
            (places_B[mine], self._array(key // len(names), names[key % len(names)]), within_B[mine])
            for key, mine in groups
        )
        if self._shelf.distant:
            yield from pieces
        else:
            self._shelf.expect(self._shards[key // len(names)] for key, _ in groups)
            self._shelf.fetch(here := list(pieces))
            yield from here

    def labels(self, ids_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) class numbers of some samples.

        Raises:
            UserError: a shard holds records without a label.
        """
        which_B, within_B = self._places(ids_B)
        labels_B = np.empty(len(ids_B), np.int64)
        for shard, mine in _groups(which_B):
            labels_B[mine] = self._array(shard, LABEL)[within_B[mine]]
        return labels_B

    def sources(self) -> NDArray[np.int64]:
        """(n,) for every sample the one that it is an edit of, -1 where it is of none.

        Raises:
            UserError: that one is not in the split, as it could not be read for instance.
        """
        every = np.arange(len(self))
        items = np.array(self.column(every, "item"), np.int64)
        wanted = np.array([-1 if item is None else item for item in self.column(every, SOURCE)], np.int64)
        order = np.argsort(items)
        places = order[np.searchsorted(items, wanted, sorter=order).clip(max=len(items) - 1)]
        missing = np.flatnonzero((wanted >= 0) & (items[places] != wanted))
        if len(missing):
            raise UserError(
                f"data: sample {missing[0]} of {self.manifest.fingerprint} is an edit of item {wanted[missing[0]]}, "
                f"which is no {self.split} sample - see `transvae data show {self.manifest.fingerprint}` for what was "
                "left out, and remove the edit"
            )
        return np.where(wanted >= 0, places, -1)

    def spread(self, count: int) -> NDArray[np.int64]:
        """Up to `count` ids, evenly spread over the split; of a distant data set, over a few of its shards."""
        few = FEW_SHARDS if self._shelf.distant else len(self._shards)
        chosen = np.unique(np.linspace(0, len(self._shards) - 1, min(few, len(self._shards))).round().astype(np.int64))
        sizes = np.diff(self._starts)[chosen]
        ends = np.cumsum(sizes)
        positions = np.linspace(0, ends[-1] - 1, min(count, int(ends[-1]))).round().astype(np.int64)
        place = np.searchsorted(ends, positions, side="right")
        return self._starts[chosen[place]] + positions - (ends[place] - sizes[place])

    def expect(self, ids: NDArray[np.int64]) -> None:
        """These samples will be read soon, in this order: shards that are far away may begin to come."""
        if self._shelf.distant:
            indices, firsts = np.unique(self._places(ids)[0], return_index=True)
            self._shelf.expect(self._shards[index] for index in indices[np.argsort(firsts)])

    def column(self, ids_B: NDArray[np.int64], name: str) -> list[Any]:
        """A plain column of some samples, such as `label` or `caption`: null where a shard has no such column."""
        which_B, within_B = self._places(ids_B)
        cells: list[Any] = [None] * len(ids_B)
        for shard, mine in _groups(which_B):
            if (column := self._open(shard).column(name)) is not None:
                for place in mine.tolist():
                    cells[place] = column[int(within_B[place])].as_py()
            del column
        return cells

    def _array_of(self, index: int, name: str) -> NDArray[Any]:
        file, shard = self._open(index), self._shards[index]
        try:
            values = file.labels() if name == LABEL else file.array(name)
        except (KeyError, ValueError) as error:
            raise UserError(f"data: {shard.file} of {self.manifest.fingerprint}: {error.args[0]}") from None
        if self._centre is None or name != "image":
            return values
        top, left = ((side - self._centre) // 2 for side in values.shape[1:3])
        return values[:, top : top + self._centre, left : left + self._centre]

    def _open_shard(self, index: int) -> ShardFile:
        shard = self._shards[index]
        where = f"{shard.file} of {self.manifest.fingerprint}"
        see = f"see `transvae data verify {self.manifest.fingerprint}`"
        try:
            file = self._shelf.open(shard)
        except (FileNotFoundError, pa.ArrowException) as error:
            raise UserError(f"data: {where} cannot be read ({first_line(error)}) - {see}") from None
        if len(file) != shard.records:
            raise UserError(f"data: {where} holds {len(file)} records, its manifest says {shard.records} - {see}")
        return file

    def _places(self, ids_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if len(ids_B) and not 0 <= ids_B.min() <= ids_B.max() < len(self):
            raise IndexError(f"ids from {ids_B.min()} to {ids_B.max()} are not all below {len(self)}")
        which = np.searchsorted(self._starts, ids_B, side="right") - 1
        return which, ids_B - self._starts[which]


def _groups(keys_B: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(key, where it stands) of each key."""
    order_B = np.argsort(keys_B, kind="stable")
    needed, firsts = np.unique(keys_B[order_B], return_index=True)
    yield from zip(needed.tolist(), np.split(order_B, firsts[1:]), strict=False)  # of no keys there is one empty part


def manifest_at(location: str) -> Manifest:
    """The manifest of a data set in a folder, or on a store.

    Raises:
        UserError: the data set is not there (the ingest did not finish, or the folder is not shared between nodes).
        UnreachableError: the store does not answer.
    """
    if "://" in location:
        return read_remote_manifest(location)
    if (manifest := read_manifest(Path(location))) is None:
        raise UserError(f"data: {location} holds no finished data set - is the study's home on a shared file system?")
    return manifest


def open_shelf(location: str, manifest: Manifest, cache: Path, cache_bytes: int, sharing: int = 1) -> Shelf:
    """Where the shards of a data set lie; see `open_data`."""
    if "://" in location:
        return RemoteShelf(location, manifest, cache, cache_bytes, sharing)
    return LocalShelf(Path(location), fits_in_memory(manifest.bytes * sharing))


def open_data(
    location: str, cache: Path, cache_bytes: int, centre: int | None = None, sharing: int = 1
) -> tuple[SampleSet, SampleSet]:
    """(training samples, validation samples) of a data set in a folder, or on a store.

    Args:
        location: a folder, or the URI of one on an object store.
        cache: local folder for shards of a store, shared by the processes of a node.
        cache_bytes: how large it may grow, with the shards of all data sets in it.
        centre: validation reads the central square of this size out of each image.
        sharing: how many data sets are read at once, through the cache or out of the memory.

    Raises: as `manifest_at`.
    """
    manifest = manifest_at(location)
    shelf = open_shelf(location, manifest, cache, cache_bytes, sharing)
    return SampleSet(manifest, shelf, "train"), SampleSet(manifest, shelf, "validation", centre)
