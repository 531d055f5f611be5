"""The features of an evaluation's pieces become moments where the pieces were made: sums of groups, merged exactly.

Of 50,000 images the sums are three products of (2048, 50,000) matrices in float64 for outputs and for originals each,
44 s on one core: a pool shares them, and what merges is 100 MB per group whatever it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from transvae_platform.data.making.work import Mapper, Work, run, run_locally, write_result
from transvae_platform.errors import UserError
from transvae_platform.evaluation.moments import Gaussian, Moments
from transvae_platform.files import whole_file

GROUP = 4096  # images at least: from here on a group's sums take longer than writing and reading them (assumption)
MOST_GROUPS = 8  # 100 MB of sums each (assumption: more cores than that wait for the disk)


def sum_features(work: Work) -> None:
    """Sum one kind of features of a group of pieces; write the sums and, after them, the result."""
    moments = Moments.empty(work["dimension"])
    for path in work["features"]:
        moments.add(_features(path, work["which"]))
    with whole_file(Path(work["sums"])) as path:
        save_file(moments.as_arrays(), path)
    write_result(work, {"count": moments.count})


def moments_of(pieces: Sequence[Work], which: str, dimension: int, folder: Path, mapper: Mapper) -> Gaussian:
    """Mean and covariance of the features of all pieces.

    Args:
        which: their name in the pieces' files.
        folder: for the sums of groups.
        mapper: shares the groups; a single one is summed here.

    Raises:
        ValueError: as `Moments`.
        UserError: a piece has no such features.
    """
    groups = _groups(pieces)
    work: list[Work] = [
        {"features": [piece["features"] for piece in group], "items": sum(piece["items"] for piece in group),
         "which": which, "dimension": dimension, "sums": str(folder / f"sums-{which}-{number}.safetensors"),
         "result": str(folder / f"sums-{which}-{number}.json")}
        for number, group in enumerate(groups)
    ]  # fmt: skip
    run(sum_features, work, mapper if len(work) > 1 else run_locally, None)
    total = Moments.empty(dimension)
    for part in work:
        total.merge(Moments.from_arrays(load_file(part["sums"])))
    for part in work:
        for name in ("result", "sums"):  # a result without its sums could not be continued
            Path(part[name]).unlink(missing_ok=True)
    return total.gaussian()


def _groups(pieces: Sequence[Work]) -> list[list[Work]]:
    """Neighbours together, in groups of about equally many images."""
    images = sum(piece["items"] for piece in pieces)
    count = max(1, min(MOST_GROUPS, images // GROUP))
    groups: list[list[Work]] = [[] for _ in range(count)]
    before = 0
    for piece in pieces:
        groups[min(count - 1, before * count // max(1, images))].append(piece)
        before += piece["items"]
    return [group for group in groups if group]


def _features(path: str, which: str) -> Any:
    arrays = load_file(path)
    if which not in arrays:  # the kept moments were there when the piece was done, and were removed since
        raise UserError(
            "evaluate: the kept moments of the originals were removed while this evaluation ran - the same command "
            f"measures again what lacks them, first {Path(path).name}"
        )
    return arrays[which]
