"""A run's compiled update, from its config and parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh

from pairjax.base.config import OptimConfig
from pairjax.base.params import merge, split
from pairjax.base.types import Batch, Hypers, Params
from pairjax.step.average import make_average
from pairjax.step.optim import Optimizer, build_optimizer, decay_mask, rate_multipliers, turns
from pairjax.step.sharding import param_specs, place, put_batch, used_shardings
from pairjax.step.state import TrainState, init_state, state_sharding
from pairjax.step.step import Apply, Loss, make_train_step

Step = Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, jax.Array]]]
"""One update; the state is donated."""


@dataclass(frozen=True)
class Programs:
    """A run's compiled update with its initial state; the loop's job comes on top.

    Attributes:
        mesh: Of the devices.
        step: The update.
        state: The initial one.
        frozen: Parameters that do not train.
        export: From the tree that is trained to the model's own, where they differ (LoRA).
    """

    mesh: jax.sharding.Mesh
    step: Step
    state: TrainState
    frozen: Params
    export: Callable[[Params], Params] = field(default=lambda params: params)

    def params(self, state: TrainState) -> Params:
        """The model's whole tree, frozen part included; averaged weights where the run averages."""
        return self.export(merge(state.params if state.average is None else state.average, self.frozen))


@dataclass(frozen=True)
class Update:
    """A run's compiled update and where its arguments lie; holds shapes only, no array.

    Attributes:
        mesh: Of the devices, real or not.
        optimizer: Of the trainable parameters.
        trainable: Parameters that train, or their shapes.
        frozen: Those that do not.
        sharding: Of the state.
        frozen_specs: Partition specs of the frozen parameters.
        compiled: `compiled(state, frozen, batch, hypers) -> (state, metrics)`, jitted.
    """

    mesh: Mesh | AbstractMesh
    optimizer: Optimizer
    trainable: Params
    frozen: Params
    sharding: TrainState
    frozen_specs: Params
    compiled: Any


def build_update(
    params: Params,
    chosen: Mapping[str, bool],
    *,
    apply: Apply,
    loss: Loss,
    optim: OptimConfig,
    total_steps: int,
    mesh: Mesh | AbstractMesh,
    specs: Params | None = None,
    anchored: Params | None = None,
) -> Update:
    """The update that training runs and `pairjax plan` compiles; makes no array.

    Args:
        params: The initial parameters, all of them, or their shapes.
        chosen: Which paths train.
        apply: The model.
        loss: Its loss.
        optim: Optimiser and accumulation.
        total_steps: Which the schedule spans.
        mesh: Of the devices, real or not.
        specs: Where each parameter lies (`place_params`); by default whole everywhere.
        anchored: Which parameters decay to their initial value (`anchors`); by default none.
    """
    trainable, frozen = split(params, chosen)
    trainable_specs, frozen_specs = split(param_specs(params) if specs is None else specs, chosen)
    optimizer = build_optimizer(
        optim,
        total_steps=total_steps,
        decay=decay_mask(trainable),
        multiplier=split(rate_multipliers(optim, params), chosen)[0],
        anchored=None if anchored is None else split(anchored, chosen)[0],
        turn=turns(optim, trainable, total_steps=total_steps),
    )
    average = make_average(optim, total_steps=total_steps)
    where = state_sharding(trainable, optimizer, mesh, specs=trainable_specs, averaged=average is not None)
    split_over = mesh.shape["fsdp"] > 1
    compiled = make_train_step(
        apply,
        loss,
        optimizer,
        accumulate=optim.accumulate,
        sharding=where,
        average=average,
        used=(used_shardings(trainable_specs, mesh), used_shardings(frozen_specs, mesh)) if split_over else None,
    )
    return Update(mesh, optimizer, trainable, frozen, where, frozen_specs, compiled)


def build_programs(
    params: Params,
    chosen: Mapping[str, bool],
    *,
    apply: Apply,
    loss: Loss,
    optim: OptimConfig,
    hypers: Hypers,
    total_steps: int,
    seed: int,
    mesh: jax.sharding.Mesh,
    specs: Params | None = None,
    anchored: Params | None = None,
    export: Callable[[Params], Params] = lambda params: params,
) -> Programs:
    """Compile nothing yet; lay out the state and the update.

    Args:
        params: The initial parameters, all of them.
        chosen: Which paths train.
        apply: The model.
        loss: Its loss.
        optim: Optimiser and accumulation.
        hypers: Numbers that the step takes as an argument.
        total_steps: Which the schedule spans.
        seed: Of dropout.
        mesh: Of the devices.
        specs: Where each parameter lies (`place_params`); by default whole everywhere.
        anchored: Which parameters decay to their initial value (`anchors`); by default none.
        export: From the tree that is trained to the model's own.
    """
    update = build_update(
        params,
        chosen,
        apply=apply,
        loss=loss,
        optim=optim,
        total_steps=total_steps,
        mesh=mesh,
        specs=specs,
        anchored=anchored,
    )
    frozen = place(update.frozen, update.frozen_specs, mesh)
    averaged = update.sharding.average is not None
    state = init_state(
        update.trainable, update.optimizer, key=jax.random.key(seed), sharding=update.sharding, averaged=averaged
    )

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Mapping[str, jax.Array]]:
        return update.compiled(state, frozen, put_batch(batch, mesh), hypers)

    return Programs(mesh, step, state, frozen, export)
