"""Conditions that are dropped in training and followed in sampling: text, and the source image of an edit.

Everything here is linear in the network's answers, so it guides velocities and noise predictions alike, at every time
and in all channels.

Legend: B batch, d latent channels, h, w latent positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from transvae.generation.sampling import Velocity
from transvae.generation.text import Text
from transvae.generation.text_dit import TextDiT

TEXT_DROP = 0.1  # of captions, without editing (the guide's configuration; DiT's of labels)
EDIT_DROP = 0.05  # of text alone, source alone, and both (InstructPix2Pix, section 3.2.1)


@dataclass(frozen=True)
class TextGuidance:
    """Scales of guidance; 1 is none. Raises ValueError for scales that are negative."""

    text: float = 7.5  # guide; InstructPix2Pix, too
    source: float = 1.5  # InstructPix2Pix; without a source it is not read

    def __post_init__(self) -> None:
        if not (self.text >= 0 and self.source >= 0):
            raise ValueError(f"scales of guidance are not negative: text={self.text}, source={self.source}")


def drop_text(uniform_B: Tensor, rate: float = TEXT_DROP) -> Tensor:
    """Which captions are dropped, bool, from numbers in [0, 1). Raises ValueError for a rate that is no probability."""
    if not 0 <= rate < 1:
        raise ValueError(f"the rate of dropped captions is a probability below 1, not {rate}")
    return uniform_B < rate


def drop_for_editing(uniform_B: Tensor, rate: float = EDIT_DROP) -> tuple[Tensor, Tensor]:
    """(text, source): which are dropped. Text alone, both, source alone: each with probability `rate`.

    Raises ValueError for a rate of which three are more than 1.
    """
    if not 0 <= 3 * rate <= 1:
        raise ValueError(f"text, source and both are dropped at this rate each, so it is 0 to 1/3, not {rate}")
    return uniform_B < 2 * rate, (uniform_B >= rate) & (uniform_B < 3 * rate)


def guided_by_text(
    network: TextDiT, text: Text, guidance: TextGuidance | None, source_Bdhw: Tensor | None = None
) -> Velocity:
    """The answer to follow for these captions; all branches of the guidance run as one batch.

    Without a source: none + s (text - none) (the guide's). With one, as InstructPix2Pix, equation 3:
    none + s_source (source - none) + s_text (both - source).
    """
    if guidance is None or (guidance.text == 1 and (source_Bdhw is None or guidance.source == 1)):
        return lambda x_Bdhw, t_B: network(x_Bdhw, t_B, text, source_Bdhw)
    with torch.no_grad():
        nothing = network.without(text, torch.ones(len(text.mask), dtype=torch.bool, device=text.mask.device))
    if source_Bdhw is None:
        branches, sources = [nothing, text], None
    else:
        branches = [nothing, nothing, text]
        sources = torch.cat([torch.zeros_like(source_Bdhw), source_Bdhw, source_Bdhw])
    every = Text(*(torch.cat(parts) for parts in zip(*branches, strict=True)))

    def velocity(x_Bdhw: Tensor, t_B: Tensor) -> Tensor:
        count = len(branches)
        answers = network(x_Bdhw.repeat(count, 1, 1, 1), t_B.repeat(count), every, sources).chunk(count)
        if source_Bdhw is None:
            return torch.lerp(answers[0], answers[1], guidance.text)
        by_source = torch.lerp(answers[0], answers[1], guidance.source)
        return by_source + guidance.text * (answers[2] - answers[1])

    return velocity
