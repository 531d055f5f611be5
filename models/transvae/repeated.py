"""Counting a model of many equal blocks by running each kind of block once: exact, and several times quicker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from transvae.layers.stage import Stage


@contextmanager
def equal_blocks_once(model: nn.Module, meter: Callable[[], int], runs: int = 1) -> Iterator[Callable[[], int]]:
    """While open, a block of a stage that is equal to earlier ones on an equal input is not run.

    Args:
        meter: what is counted, so far.
        runs: how often a kind of block is run before its last run stands for all others: 2 where the first one counts
            what it shares with the next.

    Yields a function that says what the blocks that were not run would have added. The model computes nothing useful
    meanwhile (it is on the meta device), and is as before afterwards.
    """
    found: dict[object, list[tuple[Tensor, int]]] = {}
    added = [0]
    stages = [(module, module.blocks) for module in model.modules() if isinstance(module, Stage)]
    for stage, blocks in stages:
        stage.blocks = nn.ModuleList(_Once(block, found, meter, added, runs) for block in blocks)
    try:
        yield lambda: added[0]
    finally:
        for stage, blocks in stages:
            stage.blocks = blocks


class _Once(nn.Module):
    def __init__(
        self, block: nn.Module, found: dict[object, list[tuple[Tensor, int]]], meter: Callable[[], int],
        added: list[int], runs: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self._block, self._key = [block], kind(block)  # in a list: no part of this module
        self._found, self._meter, self._added, self._runs = found, meter, added, runs

    def forward(self, x: Tensor) -> Tensor:
        key = (self._key, x.shape, x.stride(), x.dtype, x.requires_grad)
        known = self._found.setdefault(key, [])
        if len(known) < self._runs:
            before = self._meter()
            y: Tensor = self._block[0](x)
            known.append((y.detach(), self._meter() - before))
            return y
        like, cost = known[-1]
        self._added[0] += cost
        # of storage of its own, as a result has
        return like.new_empty_strided(like.shape, like.stride()).requires_grad_(self._block[0].training)


def kind(module: nn.Module) -> object:
    """Equal for modules that compute the same way: types, settings, shapes of weights, and those of their children."""
    settings = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple) and not name.startswith("_")
    }
    shapes = {name: tuple(weight.shape) for name, weight in module.named_parameters(recurse=False)}
    buffers = {name: tuple(buffer.shape) for name, buffer in module.named_buffers(recurse=False)}
    children = tuple((name, kind(child)) for name, child in module.named_children())
    parts: tuple[Any, ...] = (settings, shapes, buffers)
    return (type(module), *(tuple(sorted(part.items())) for part in parts), children)
