"""Adaptive weights: how strongly a term pulls at a layer, measured against the reconstruction (VQGAN, VA-VAE)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPSILON = 1e-4  # taming-transformers, calculate_adaptive_weight
Mean = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class BalancedConfig:
    """A term that is weighed against the reconstruction: weight x min(gradient ratio, largest), or the weight alone.

    Weight and bound are meant under the objective's reduction. Raises ValueError for impossible values.
    """

    weight: float
    adaptive: bool = True
    largest: float

    def __post_init__(self) -> None:
        for key in ("weight", "largest"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{key}={value} must be finite and positive; leave the term out to switch it off")


@dataclass(frozen=True)
class Balanced:
    """A term by name, its weight, and the layer at which it is compared with the reconstruction."""

    name: str
    loss: Tensor
    config: BalancedConfig
    layer: nn.Parameter | None


@dataclass(frozen=True)
class Pull:
    """A loss, the layer that it pulls at, and the bound of the ratio."""

    loss: Tensor
    layer: nn.Parameter
    largest: float


def weigh(
    nll: Tensor, terms: Sequence[Balanced], unit: float, mean_over_workers: Mean | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(weighted losses by the terms' names, record of their weights), both in the units of `nll`.

    `unit` says how many of them make one of the units that the weights and bounds are written in (N under
    "sum_per_sample", see objective.py). The record holds <name>_weight, and <name>_clamped for adaptive terms. Raises
    ValueError for an adaptive term without a layer.
    """
    adaptive = [term for term in terms if term.config.adaptive]
    pulls = [Pull(term.loss, _layer(term), term.config.largest / unit) for term in adaptive]
    ratios = gradient_ratios(nll, pulls, mean_over_workers) if pulls else []
    weights = {term.name: nll.new_tensor(term.config.weight / unit) for term in terms if not term.config.adaptive}
    clamped = {}
    for term, (ratio, bound) in zip(adaptive, ratios, strict=True):
        weights[term.name] = term.config.weight * ratio
        clamped[f"{term.name}_clamped"] = bound
    weighted = {term.name: weights[term.name] * term.loss for term in terms}
    return weighted, {f"{name}_weight": weight for name, weight in weights.items()} | clamped


def gradient_ratios(
    nll: Tensor, pulls: Sequence[Pull], mean_over_workers: Mean | None = None
) -> list[tuple[Tensor, Tensor]]:
    """For each pull (ratio, clamped), scalars without gradients: the ratio is at most `largest`, clamped is 0 or 1.

    ratio = |d nll / d layer| / (|d loss / d layer| + 1e-4) in Euclidean norms. The reconstruction's gradients at all
    layers come from one backward pass. `mean_over_workers` is called once, with all gradients in one vector: they are
    averaged before norms are taken, so the ratio is that of the global batch. All graphs are kept for the backward
    pass to come. Raises ValueError where a layer has no part in a loss.
    """
    layers = list(dict.fromkeys(pull.layer for pull in pulls))
    gradients = [*_gradients(nll, layers), *(_gradients(pull.loss, [pull.layer])[0] for pull in pulls)]
    flat = torch.cat([gradient.flatten().float() for gradient in gradients])
    if mean_over_workers is not None:
        flat = mean_over_workers(flat)
    norms = [part.norm() for part in flat.split([gradient.numel() for gradient in gradients])]
    by_layer = dict(zip(layers, norms[: len(layers)], strict=True))
    ratios = []
    for pull, norm in zip(pulls, norms[len(layers) :], strict=True):
        ratio = by_layer[pull.layer] / (norm + EPSILON)
        ratios.append((ratio.clamp(max=pull.largest), (ratio > pull.largest).float()))
    return ratios


def _layer(term: Balanced) -> nn.Parameter:
    if term.layer is None:
        raise ValueError(f"the weight of {term.name} is adaptive and needs the model's last layers; none were given")
    return term.layer


def _gradients(loss: Tensor, layers: list[nn.Parameter]) -> list[Tensor]:
    known = loss.requires_grad and all(layer.requires_grad for layer in layers)
    found = torch.autograd.grad(loss, layers, retain_graph=True, allow_unused=True) if known else ()
    gradients = [gradient for gradient in found if gradient is not None]
    if len(gradients) < len(layers):
        raise ValueError(
            "an adaptive weight compares gradients at a layer that has no part in the loss, or is frozen; "
            "leave the term out or set adaptive=False"
        )
    return gradients
