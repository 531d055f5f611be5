"""From noise to latents along the learned velocity, with classifier-free guidance.

Every function is deterministic. With the Euler method a latent depends on its own noise, label and the batch size only
through rounding; dopri5 chooses its steps for a batch as a whole, so a sample is a function of its batch: always sample
in the same groups (`transvae_platform` groups by sample id).

Legend: B batch, d latent channels, h, w latent positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""v(x, t) of latents (B, d, h, w) at times (B,)."""
Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""v(x, t, y) with labels (B,)."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans 2022) as LightningDiT applies it.

    v = v_null + scale (v_label - v_null) on the first `channels` channels, v_label on the others and before `start`.
    """

    scale: float
    """1 is no guidance (LightningDiT: 10.0 after 64 epochs, 6.7 after 800)."""
    start: float = 0.11
    """Time before which labels are not guided (LightningDiT's default)."""
    channels: int | None = 3
    """None guides all channels (LightningDiT: the first 3, inherited from DiT)."""


def guided(network: Network, labels_B: Tensor, null: int, guidance: Guidance | None) -> Velocity:
    """The velocity to follow for these labels; both branches of the guidance run as one batch of 2 B.

    Args:
        null: the label that stands for none.
    """
    if guidance is None or guidance.scale == 1:
        return lambda x_Bdhw, t_B: network(x_Bdhw, t_B, labels_B)
    both_2B = torch.cat([labels_B, torch.full_like(labels_B, null)])

    def velocity(x_Bdhw: Tensor, t_B: Tensor) -> Tensor:
        if float(t_B[0]) < guidance.start:
            return network(x_Bdhw, t_B, labels_B)
        label_Bdhw, null_Bdhw = network(torch.cat([x_Bdhw, x_Bdhw]), torch.cat([t_B, t_B]), both_2B).chunk(2)
        some = slice(0, guidance.channels)
        answer_Bdhw = label_Bdhw.clone()
        answer_Bdhw[:, some] = torch.lerp(null_Bdhw[:, some], label_Bdhw[:, some], guidance.scale)
        return answer_Bdhw

    return velocity


def times(count: int, shift: float = 1.0) -> list[float]:
    """`count` times from 0 to 1; shift s moves them by t' = s t / (1 + (s - 1) t) (LightningDiT: 250 times, s = 0.3).

    Raises ValueError for fewer than two times or a shift that is not positive.
    """
    if count < 2 or shift <= 0:
        raise ValueError(f"at least 2 times and a positive shift are needed, not {count} and {shift}")
    even = [index / (count - 1) for index in range(count - 1)]
    return [*(shift * t / (1 + (shift - 1) * t) for t in even), 1.0]


@torch.no_grad()
def euler(velocity: Velocity, noise_Bdhw: Tensor, at: list[float]) -> Tensor:
    """Follow the velocity from at[0] to at[-1], one evaluation per interval: len(at) - 1 of them."""
    x_Bdhw = noise_Bdhw
    for now, after in itertools.pairwise(at):
        x_Bdhw = x_Bdhw + (after - now) * velocity(x_Bdhw, x_Bdhw.new_full((len(x_Bdhw),), now))
    return x_Bdhw


@torch.no_grad()
def dopri5(velocity: Velocity, noise_Bdhw: Tensor, atol: float = 1e-6, rtol: float = 1e-3) -> tuple[Tensor, int]:
    """Follow the velocity from 0 to 1 by Dormand and Prince's method with adaptive steps (torchdiffeq).

    The tolerances are LightningDiT's. Returns the latents and the number of evaluations.
    """
    from torchdiffeq import odeint

    evaluations = 0

    def derivative(t: Tensor, x_Bdhw: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return velocity(x_Bdhw, t.expand(len(x_Bdhw)).to(x_Bdhw.dtype))

    ends = torch.tensor([0.0, 1.0], device=noise_Bdhw.device, dtype=torch.float32)
    answer_Bdhw: Tensor = odeint(derivative, noise_Bdhw, ends, method="dopri5", atol=atol, rtol=rtol)[-1]
    return answer_Bdhw, evaluations
