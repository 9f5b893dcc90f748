"""Averages of the parameters over updates, part of the state: evaluation and the model that is kept use them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pairjax.base.config import OptimConfig
from pairjax.base.types import Params

Average = Callable[[Params, Params, Any], Params]
"""`average(averaged, params, step) -> averaged`, after update `step`, which gave `params`."""


def make_average(config: OptimConfig, *, total_steps: int) -> Average | None:
    """The update of an average a, `a = (1 - w) a + w p`; None where nothing is averaged.

    With t updates since averaging began (it begins after the share `start` of the run): w = 1 - min(decay,
    (1 + t) / (10 + t)) for the exponential moving average, as TensorFlow's with `num_updates`; w = 1 / (t + 1) for the
    plain mean (Polyak and Juditsky 1992; Izmailov et al. 2018); w = 1 before.

    Args:
        config: Its `average`.
        total_steps: Updates of the run.
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
