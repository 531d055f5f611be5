"""The discriminator of a trial: its weights, its optimiser, its gradients over all workers.

It is not wrapped for distributed training: it is run several times per step, which DistributedDataParallel does not
take well with BatchNorm, and its gradients (2.8 M numbers for 256 x 256 images) are one reduction. BatchNorm uses each
worker's own batch, as in VA-VAE.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transvae.losses.adversarial import PatchDiscriminator
from transvae_platform.study.recipe_spec import TrialRecipe
from transvae_platform.training.parts import Moments
from transvae_platform.world import World


class Adversary:
    """A PatchGAN that learns beside the autoencoder from `recipe.gan_start` on."""

    def __init__(self, recipe: TrialRecipe, world: World, skip: Tensor) -> None:
        """Args: skip: 1 while the newest step is bad, else 0; then `update` moves nothing."""
        assert recipe.losses.gan is not None
        self._world = world
        # drawn after the autoencoder's weights from the same generator, so that those are the same without it
        self.network: nn.Module = PatchDiscriminator(layers=recipe.losses.gan.layers).to(world.device).train()
        self._initial = {key: tensor.clone() for key, tensor in self.network.state_dict().items()}
        self._optimizer = torch.optim.Adam(
            self.network.parameters(),
            lr=recipe.losses.gan.learning_rate or recipe.learning_rate,
            betas=recipe.betas,
            fused=True,
        )
        self._optimizer.found_inf = skip  # type: ignore[attr-defined]  # see TrialWeights
        self.moments = Moments(dict(self.network.named_parameters()), self._optimizer)

    def forget(self) -> None:
        """The gradients of the step before."""
        self._optimizer.zero_grad(set_to_none=True)

    def reduce(self) -> Tensor:
        """Make its gradients the mean over all workers; returns their norm."""
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        if self._world.size > 1:
            flat = self._world.sum(torch.cat([gradient.flatten() for gradient in gradients])) / self._world.size
            parts = flat.split([gradient.numel() for gradient in gradients])
            for gradient, mean in zip(gradients, parts, strict=True):
                gradient.copy_(mean.view_as(gradient))
        return nn.utils.get_total_norm(gradients)

    def update(self) -> None:
        """One step of its optimiser."""
        self._optimizer.step()

    def begin_again(self) -> None:
        """As before the first step."""
        self.network.load_state_dict(self._initial)
        self._optimizer.state.clear()
