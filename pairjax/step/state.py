"""The training state, which a step updates and a checkpoint holds: trainable parameters, moments, step and key.

Frozen parameters are not part of it. They are an argument of the step that is neither donated, differentiated nor
saved.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from pairjax.base.types import Params
from pairjax.step.optim import Optimizer
from pairjax.step.sharding import param_specs, replicated, shardings


class TrainState(NamedTuple):
    """The state of one run.

    Attributes:
        step: int32 scalar; updates done.
        params: The trainable parameters.
        opt_state: The moments of these parameters and the optimiser's counters.
        key: A typed threefry key, which never changes. Step t draws dropout from `fold_in(key, t)`.
        average: The averaged parameters; None if the run does not average.
    """

    step: Any
    params: Params
    opt_state: Any
    key: Any
    average: Any = None


def make_init_state(
    optimizer: Optimizer, *, sharding: "TrainState | None" = None, averaged: bool = False
) -> Callable[[Params, jax.Array], TrainState]:
    """Builds `init(params, key) -> state at step 0`, jitted, from the trainable parameters and a typed key.

    The arrays are copied: a step donates its state, and must not donate the caller's arrays.

    Args:
        optimizer: Creates the moments.
        sharding: The sharding of each leaf (`state_sharding`); by default that of its parameter.
        averaged: Whether the run averages its parameters.
    """

    def build(params: Params, key: jax.Array) -> TrainState:
        copied = jax.tree.map(jnp.copy, params)
        average = jax.tree.map(jnp.copy, params) if averaged else None
        return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(copied), jnp.copy(key), average)

    return jax.jit(build, out_shardings=sharding)


def init_state(
    params: Params,
    optimizer: Optimizer,
    *,
    key: jax.Array,
    sharding: "TrainState | None" = None,
    averaged: bool = False,
) -> TrainState:
    """Returns the state at step 0; see `make_init_state`."""
    return make_init_state(optimizer, sharding=sharding, averaged=averaged)(params, key)


def state_sharding(
    params: Params,
    optimizer: Optimizer,
    mesh: Mesh | AbstractMesh,
    *,
    specs: Params | None = None,
    averaged: bool = False,
) -> TrainState:
    """Returns the sharding of each leaf of the state.

    Parameters follow their specs, moments and averages follow their parameters, and the rest is replicated.

    Args:
        params: The trainable parameters.
        optimizer: Creates the moments.
        mesh: The device mesh.
        specs: Partition specs, a tree shaped like `params` (`place_params`); by default everything is replicated.
        averaged: Whether the run averages its parameters.
    """
    places = shardings(param_specs(params) if specs is None else specs, mesh)
    everywhere = replicated(mesh)
    moments = jax.eval_shape(optimizer.init, params)
    opt_state = optax.tree.map_params(
        optimizer.init, lambda _, sharding: sharding, moments, places, transform_non_params=lambda _: everywhere
    )
    return TrainState(everywhere, places, opt_state, everywhere, places if averaged else None)
