"""Where a trial runs: the part of `resources` that may differ from trial to trial."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from transvae_platform.study.section import Section


class Workers(Section):
    """Where a trial runs: it changes how fast a trial is, never what it is."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers (processes) per trial; the global batch is divided among them."""
    device: Literal["cpu", "gpu"] = "cpu"
    """One CPU core, or one GPU, per worker."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Pieces that a worker takes its share of a batch in, one after the other: less memory for activations, the same
    global batch. Adaptive weights are those of each piece."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """How workers hold a trial's weights: each all of them (DistributedDataParallel), or each a part of every weight,
    of its moments and its average (FSDP2), which models that do not fit into one device's memory need."""
