"""Divergence of the posterior from the standard normal.

Legend: B batch, d latent channels, h, w latent map.
"""

from torch import Tensor


def kl(mu_Bdhw: Tensor, logvar_Bdhw: Tensor) -> Tensor:
    """0.5 x mean(mu^2 + exp(logvar) - 1 - logvar) over all latent values: a scalar >= 0 in nats per value, in fp32.

    (CompVis latent-diffusion's KL, divided by the number of latent values.)
    """
    mu, logvar = mu_Bdhw.float(), logvar_Bdhw.float()
    return 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).mean()
