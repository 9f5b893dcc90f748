"""What a step updates and a checkpoint holds: parameters that train, their moments, the step and the key.

Frozen parameters are not in it: they are an argument of the step that is neither donated nor differentiated nor saved.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from pairjax.base.types import Params
from pairjax.step.optim import Optimizer
from pairjax.step.sharding import param_specs, replicated, shardings


class TrainState(NamedTuple):
    """One run's state.

    Attributes:
        step: int32 scalar, updates done.
        params: The trainable parameters.
        opt_state: Their moments, and the optimiser's own counts.
        key: Typed threefry key; never changes. Step t draws its dropout from `fold_in(key, t)`.
        average: Averaged parameters, or None where the run averages none.
    """

    step: Any
    params: Params
    opt_state: Any
    key: Any
    average: Any = None


def init_state(
    params: Params,
    optimizer: Optimizer,
    *,
    key: jax.Array,
    sharding: "TrainState | None" = None,
    averaged: bool = False,
) -> TrainState:
    """The state at step 0.

    Copies: a step donates its state, and must not take the caller's arrays with it.

    Args:
        params: The trainable parameters, NumPy or JAX.
        optimizer: Whose moments to lay out.
        key: Typed key (`jax.random.key`).
        sharding: Where each leaf lies (`state_sharding`); by default where its parameter is.
        averaged: Whether the run averages its parameters.
    """

    def build(params: Params, key: jax.Array) -> TrainState:
        copied = jax.tree.map(jnp.copy, params)
        average = jax.tree.map(jnp.copy, params) if averaged else None
        return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(copied), jnp.copy(key), average)

    return jax.jit(build, out_shardings=sharding)(params, key)


def state_sharding(
    params: Params,
    optimizer: Optimizer,
    mesh: Mesh | AbstractMesh,
    *,
    specs: Params | None = None,
    averaged: bool = False,
) -> TrainState:
    """Where the state lies: parameters by their specs, moments and averages like their parameters, the rest whole.

    Args:
        params: The trainable parameters.
        optimizer: Whose moments to lay out.
        mesh: Over which devices.
        specs: Partition specs, a tree shaped like `params` (`place_params`); by default all is whole everywhere.
        averaged: Whether the run averages its parameters.
    """
    places = shardings(param_specs(params) if specs is None else specs, mesh)
    whole = replicated(mesh)
    moments = jax.eval_shape(optimizer.init, params)
    opt_state = optax.tree.map_params(
        optimizer.init, lambda _, where: where, moments, places, transform_non_params=lambda _: whole
    )
    return TrainState(whole, places, opt_state, whole, places if averaged else None)
