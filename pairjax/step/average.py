"""Averages of the parameters over updates. They are part of the state; evaluation and the saved model use them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pairjax.base.config import OptimConfig
from pairjax.base.types import Params

Average = Callable[[Params, Params, Any], Params]
"""`average(averaged, params, step) -> averaged`, called after update `step` with its new `params`."""


def make_average(config: OptimConfig, *, total_steps: int) -> Average | None:
    """Builds the update of an average a of the parameters p, `a = (1 - w) a + w p`; None if the run does not average.

    Averaging begins after the share `start` of the run; before that w = 1. With t updates since it began,

        w = 1 - min(decay, (1 + t) / (10 + t))   for the exponential moving average, as in TensorFlow's
                                                 `ExponentialMovingAverage` with `num_updates`,
        w = 1 / (t + 1)                          for the plain mean (Polyak and Juditsky, "Acceleration of Stochastic
                                                 Approximation by Averaging", 1992; Izmailov et al., "Averaging Weights
                                                 Leads to Wider Optima and Better Generalization", 2018).

    Args:
        config: The optimiser's config; its `average` is used.
        total_steps: Number of updates of the run.
    """
    if config.average.kind == "none":
        return None
    kind, decay = config.average.kind, config.average.decay
    first = round(config.average.start * total_steps)

    def average(averaged: Params, params: Params, step: Any) -> Params:
        since = jnp.maximum(step - first, 0).astype(jnp.float32)
        ema, mean = 1.0 - jnp.minimum(decay, (1.0 + since) / (10.0 + since)), 1.0 / (since + 1.0)
        weight = jnp.where(step < first, 1.0, ema if kind == "ema" else mean)
        return jax.tree.map(lambda a, p: (1.0 - weight) * a + weight * p, averaged, params)

    return average
