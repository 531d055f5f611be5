"""The parts of a training whose state a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Stateful(Protocol):
    """A part of the training whose state belongs into checkpoints: a flat dict of tensors and JSON values."""

    def state_dict(self) -> dict[str, Any]:
        """The state now: the same keys at every step, the same on every rank."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take a state that `state_dict` gave, its tensors on the CPU."""


class Moments:
    """An optimiser's state by the names of its parameters; learning rate and the like are the recipe's."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        self._parameters, self._optimizer = dict(parameters), optimizer

    def state_dict(self) -> dict[str, Any]:
        states = {name: self._optimizer.state.get(parameter) for name, parameter in self._parameters.items()}
        known = {name: state for name, state in states.items() if state}
        tensors: dict[str, Any] = {"names": list(known)}
        numbers: dict[str, list[Tensor]] = {}
        for name, state in known.items():
            for kind, value in state.items():
                if value.dim():
                    tensors[f"{kind}/{name}"] = value
                else:
                    numbers.setdefault(kind, []).append(value)
        # as one vector: hundreds of single numbers would cost more than all the rest
        return tensors | {kind: torch.stack(values) for kind, values in numbers.items()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        order = list(self._parameters)
        states: dict[int, dict[str, Tensor]] = {order.index(name): {} for name in state_dict["names"]}
        for key, value in state_dict.items():
            kind, _, name = key.partition("/")
            if name:
                # in the parameter's memory order: the fused kernel on CPUs walks through all of them side by side
                states[order.index(name)][kind] = torch.empty_like(self._parameters[name]).copy_(value)
            elif kind != "names":
                for known, number in zip(state_dict["names"], value, strict=True):
                    states[order.index(known)][kind] = number.clone()
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": states, "param_groups": groups})


def split_parts(parts: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """(tensors by `part/key`, the other values by part) of the parts' states."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for name, state in parts.items():
        values[name] = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
        tensors |= {f"{name}/{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    return tensors, values
