"""Learning rate and weight-average decay as functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from transvae_platform.study.spec import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of the update from `step` to `step + 1`: linear warm-up, then constant or cosine to zero."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def ema_decay(recipe: Recipe, updates: int) -> float:
    """The decay after some updates: min(decay, (1 + n) / (10 + n)), the warm-up rule of TensorFlow's moving average,

    without which an average of a short run would still hold its initial weights.
    """
    return min(recipe.ema_decay, (1 + updates) / (10 + updates))
