"""SSIM of every single image, by torchmetrics, which takes two to three seconds to import: who measures waits for it.

A trial that goes on after a preemption trains again before that.
"""

from __future__ import annotations

from torch import Tensor

from transvae.torchvision_cpu import ensure_torchvision


def ssim(x_B3HW: Tensor, output_B3HW: Tensor, span: float) -> Tensor:
    """(B,) float64, for values in a range of `span`: window of sigma 1.5, 11 x 11, borders mirrored."""
    ensure_torchvision()  # torchmetrics imports torchvision
    from torchmetrics.functional.image import structural_similarity_index_measure

    values_B = structural_similarity_index_measure(output_B3HW, x_B3HW, data_range=span, reduction="none", sigma=1.5)
    assert isinstance(values_B, Tensor)
    return values_B.double().reshape(-1)
