"""Pixel reconstruction.

Legend: B batch, H, W pixels.
"""

from torch import Tensor


def l1(x_B3HW: Tensor, reconstruction_B3HW: Tensor) -> Tensor:
    """Mean absolute error over all pixel values, a scalar >= 0 in fp32 (TransVAE paper, section 3.1; L1 weight 1.0)."""
    return (x_B3HW.float() - reconstruction_B3HW.float()).abs().mean()
