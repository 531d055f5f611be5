"""A linear classifier on frozen latents: what of an image's class can be read off them (table 2a).

The paper cites CLIP for its protocol and its README passes epochs, which is another one; both are here, as keys.
`lbfgs`: L2-regularised logistic regression, at most 1,000 iterations (CLIP); everything in memory. `sgd`: minibatches
of the same objective, for sets that do not fit (ImageNet's latents of f16d32 take 42 GB).
The objective: mean cross-entropy + |W|^2 / (2 C n), biases free. C is chosen on a tenth of the training images.

Legend: N images, F features, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from transvae_platform.errors import SpecError, UserError
from transvae_platform.evaluation.latent_space.vectors import Latents

Ids = NDArray[np.int64]
HELD_BACK = 10  # one of so many training images chooses C (assumption)
POINTS = 20  # of the curve along the epochs (assumption: each reads the validation split once)


@dataclass(frozen=True)
class ProbeProtocol:
    """How the classifier sees latents and learns."""

    features: Literal["flatten", "gap"] = "flatten"
    """All values of the map, or their mean over the positions (reference: flattened is likelier the paper's)."""
    solver: Literal["lbfgs", "sgd"] = "lbfgs"
    c: tuple[float, ...] = (0.316,)
    """Inverse strength of the regularisation; of several the best on held-back images (CLIP's example: 0.316)."""
    iterations: int = 1000
    """Of L-BFGS, at most (CLIP)."""
    epochs: int = 100
    """Of SGD (the paper's README)."""
    batch_size: int = 1024  # assumption
    learning_rate: float = 0.1  # of SGD with momentum 0.9 and a cosine to zero (assumption)
    augment: Literal["none", "flip"] = "none"
    """Whether SGD sees mirrored images, too."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises SpecError for keys that contradict each other or have no meaning."""
        if self.augment != "none" and self.solver != "sgd":
            raise SpecError(
                f"probe: augment {self.augment!r} needs the solver sgd: L-BFGS sees one fixed set of images"
            )
        for name, value in (*(("c", c) for c in self.c), ("learning_rate", self.learning_rate)):
            if not (math.isfinite(value) and value > 0):
                raise SpecError(f"probe: {name} is {value:g}, it must be a finite number above 0")


@dataclass(frozen=True)
class Probed:
    """Top-1 accuracy on the validation split, and what it depends on."""

    accuracy: float
    images: dict[str, int]
    classes: int
    chosen_c: float
    steps: int
    """That the solver took for the last classifier."""
    converged: bool | None
    """Whether L-BFGS ended before the iterations and evaluations that it may take; None of SGD."""
    gradient: float | None
    """The largest of the objective's gradient where L-BFGS ended; None of SGD."""
    protocol: dict[str, Any]
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Epoch of SGD -> accuracy on the validation split, up to `POINTS` of them; nothing is chosen by it. L-BFGS has no
    epochs, and records of earlier releases no curve."""


def probe(train: Latents, validation: Latents, protocol: ProbeProtocol) -> Probed:
    """Fit on the training split, choose C on a part of it, measure on the validation split.

    Raises:
        UserError: a split is empty, there are no labels or fewer than two classes, or the solver diverged.
    """
    if not len(train) or not len(validation):
        raise UserError("probe: the data set needs images of both splits - ingest it with --holdout")
    ids, held = _split(len(train), protocol.seed)
    known = np.unique(train.labels(np.arange(len(train))))
    if len(known) < 2:
        raise UserError(f"probe: there is one class only ({known.tolist()}) - ingest images with labels")
    c = protocol.c[0]
    if len(protocol.c) > 1:
        c = max(protocol.c, key=lambda each: _fit(train, ids, known, protocol, each).worth(train, held))
    curve: list[tuple[int, float]] = []
    everything = np.arange(len(validation))
    classifier = _fit(
        train, np.arange(len(train)), known, protocol, c,
        lambda epoch, now: curve.append((epoch, now.accuracy(validation, everything))),
    )  # fmt: skip
    if not classifier.is_finite:
        raise UserError(
            f"probe: {protocol.solver} with C {c:g} ends with weights that are not finite - take a larger C"
            + (f", or a lower learning rate than {protocol.learning_rate:g}" if protocol.solver == "sgd" else "")
        )
    return Probed(
        accuracy=classifier.accuracy(validation, everything),
        images={"train": len(train), "validation": len(validation)},
        classes=len(known),
        chosen_c=c,
        steps=classifier.steps,
        converged=classifier.converged,
        gradient=classifier.gradient,
        protocol=asdict(protocol),
        curve=curve,
    )


@dataclass(frozen=True)
class Classifier:
    """weight (K, F) and bias (K,) over the classes `known` (K,)."""

    weight: Tensor
    bias: Tensor
    known: NDArray[np.int64]
    protocol: ProbeProtocol
    steps: int
    converged: bool | None = None
    gradient: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether the solver did not diverge: what it left has some accuracy in any case."""
        return bool(self.weight.isfinite().all() and self.bias.isfinite().all())

    def worth(self, latents: Latents, ids: Ids) -> float:
        """What C is chosen by: the accuracy, less than any where the solver diverged."""
        return self.accuracy(latents, ids) if self.is_finite else -1.0

    def accuracy(self, latents: Latents, ids: Ids) -> float:
        """Share of images whose class has the highest score; a class never trained on counts as wrong."""
        right = 0
        for part in _batches(ids, self.protocol.batch_size):
            best = F.linear(_features(latents, part, self.protocol), self.weight, self.bias).argmax(1).numpy()
            right += int((self.known[best] == latents.labels(part)).sum())
        return right / len(ids)


Listener = Callable[[int, Classifier], None]


def _fit(
    latents: Latents, ids: Ids, known: NDArray[np.int64], protocol: ProbeProtocol, c: float,
    listen: Listener | None = None,
) -> Classifier:  # fmt: skip
    """The classifier; `listen` hears how it stands after some epochs of SGD."""
    if protocol.solver == "lbfgs":
        return _lbfgs(latents, ids, known, protocol, c)
    return _sgd(latents, ids, known, protocol, c, listen)


def _lbfgs(latents: Latents, ids: Ids, known: NDArray[np.int64], protocol: ProbeProtocol, c: float) -> Classifier:
    features = torch.cat([_features(latents, part, protocol) for part in _batches(ids, protocol.batch_size)])
    classes = torch.from_numpy(np.searchsorted(known, latents.labels(ids)))
    weight = torch.zeros(len(known), features.shape[1], requires_grad=True)
    bias = torch.zeros(len(known), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=protocol.iterations, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-6, tolerance_change=1e-10,
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(F.linear(features, weight, bias), classes) + weight.square().sum() / (2 * c * len(ids))
        loss.backward()
        return loss

    optimiser.step(closure)
    closure()
    gradient = max(float(values.grad.abs().max()) for values in (weight, bias) if values.grad is not None)
    took, may = optimiser.state[weight], optimiser.param_groups[0]
    converged = took["n_iter"] < may["max_iter"] and took["func_evals"] < may["max_eval"]
    return Classifier(weight.detach(), bias.detach(), known, protocol, took["n_iter"], converged, gradient)


def _sgd(
    latents: Latents, ids: Ids, known: NDArray[np.int64], protocol: ProbeProtocol, c: float, listen: Listener | None
) -> Classifier:
    random = np.random.default_rng(protocol.seed)
    first = _features(latents, ids[:1], protocol)
    layer = nn.Linear(first.shape[1], len(known))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(layer.parameters(), lr=protocol.learning_rate, momentum=0.9)
    steps = protocol.epochs * -(-len(ids) // protocol.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    heard = {round(epoch) for epoch in np.linspace(1, protocol.epochs, min(POINTS, protocol.epochs))}
    for epoch in range(1, protocol.epochs + 1):
        for part in _batches(random.permutation(ids), protocol.batch_size):
            mirrored = random.random(len(part)) < 0.5 if protocol.augment == "flip" else None
            scores = layer(_features(latents, part, protocol, mirrored))
            classes = torch.from_numpy(np.searchsorted(known, latents.labels(part)))
            loss = F.cross_entropy(scores, classes) + layer.weight.square().sum() / (2 * c * len(ids))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the scheduler, about the order of its first step
                schedule.step()
        if listen is not None and epoch in heard:
            listen(epoch, Classifier(layer.weight.detach(), layer.bias.detach(), known, protocol, steps))
    return Classifier(layer.weight.detach(), layer.bias.detach(), known, protocol, steps)


def _features(latents: Latents, ids: Ids, protocol: ProbeProtocol, mirrored: NDArray[np.bool_] | None = None) -> Tensor:
    values = latents.read(ids, mirrored)
    return values.flatten(1) if protocol.features == "flatten" else values.mean((2, 3))


def _split(count: int, seed: int) -> tuple[Ids, Ids]:
    """Training ids and held-back ones, a function of the seed."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, count // HELD_BACK)
    return np.sort(order[held:]), np.sort(order[:held])


def _batches(ids: Ids, size: int) -> list[Ids]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
