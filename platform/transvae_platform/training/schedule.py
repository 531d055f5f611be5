"""Learning rate and weight-average decay as functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from transvae_platform.study.recipe_spec import TrialRecipe


def learning_rate(recipe: TrialRecipe, step: int) -> float:
    """The rate of the update from `step` to `step + 1`: linear warm-up, then constant or cosine to 0, in each stage."""
    start, end, peak, warmup = 0, recipe.stage_edge, recipe.learning_rate, recipe.warmup_steps
    if recipe.second_stage and step >= recipe.stage_edge:
        start, end = recipe.stage_edge, recipe.steps
        peak, warmup = recipe.second_stage.learning_rate or peak, recipe.second_stage.warmup_steps
    done = step - start
    if done < warmup:
        return peak * (done + 1) / warmup
    if recipe.schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (end - start - warmup)))


def ema_decay(recipe: TrialRecipe, updates: int) -> float:
    """The decay after some updates: min(decay, (1 + n) / (10 + n)), the warm-up rule of TensorFlow's moving average,

    without which an average of a short run would still hold its initial weights.
    """
    return min(recipe.ema_decay, (1 + updates) / (10 + updates))
