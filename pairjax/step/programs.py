"""A run's compiled update: built from its config and its parameters, or from their shapes alone."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh, Mesh

from pairjax.base.config import Config, OptimConfig
from pairjax.base.params import merge, split
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Batch, DropoutRates, Hypers, Params
from pairjax.step.average import make_average
from pairjax.step.losses import Loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers, turns
from pairjax.step.sharding import param_specs, place, put_batch, used_shardings
from pairjax.step.shared import share, tree_key
from pairjax.step.state import TrainState, make_init_state, state_sharding
from pairjax.step.step import Apply, make_train_step

Step = Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, jax.Array]]]
"""`step(state, batch) -> (state, metrics)`: one update. It donates the state."""


def hypers_of(config: Config | PretrainConfig) -> Hypers:
    """Returns the numbers of a config that the compiled step takes as an argument."""
    dropout, pairs = config.model.dropout, isinstance(config, Config)
    # Pretraining has neither an interaction nor a classifier on pairs, and does not smooth labels.
    rates = DropoutRates(
        hidden=dropout.hidden,
        attention=dropout.attention,
        interaction=dropout.interaction if pairs else 0.0,
        head=dropout.head if pairs else 0.0,
    )
    return Hypers(
        learning_rate=config.optim.learning_rate,
        weight_decay=config.optim.weight_decay,
        label_smoothing=config.loss.label_smoothing if isinstance(config, Config) else 0.0,
        rates=rates,
    )


class Start(NamedTuple):
    """A run before its first update (`Update.start`).

    Attributes:
        state: The initial state, placed on the mesh.
        step: The compiled update.
        params: Returns a state's whole parameter tree: the frozen part included, the averaged weights if the run
            averages them, and in the model's own form (LoRA merged).
    """

    state: TrainState
    step: Step
    params: Callable[[TrainState], Params]


@dataclass(frozen=True)
class Update:
    """A run's compiled update and the sharding of its arguments.

    Attributes:
        mesh: The device mesh, real or abstract.
        trainable: The trainable parameters, or their shapes.
        frozen: The frozen parameters, or their shapes.
        sharding: The sharding of each leaf of the state.
        frozen_specs: Partition specs of the frozen parameters.
        initial: `initial(trainable, key) -> state`, jitted.
        compiled: `compiled(state, frozen, batch, hypers) -> (state, metrics)`, jitted.
    """

    mesh: Mesh | AbstractMesh
    trainable: Params
    frozen: Params
    sharding: TrainState
    frozen_specs: Params
    initial: Any
    compiled: Any

    def start(self, hypers: Hypers, *, seed: int, export: Callable[[Params], Params] = lambda params: params) -> Start:
        """Places parameters and state on the mesh; compiles nothing yet. The update must have been built from arrays.

        Args:
            hypers: The numbers that the step takes as an argument.
            seed: Seeds dropout.
            export: Turns the tree that is trained into the model's own (`merge_lora`); the identity by default.
        """
        mesh = self.mesh
        assert isinstance(mesh, Mesh)
        frozen = place(self.frozen, self.frozen_specs, mesh)
        state = self.initial(self.trainable, jax.random.key(seed))

        def step(state: TrainState, batch: Batch) -> tuple[TrainState, Mapping[str, jax.Array]]:
            return self.compiled(state, frozen, put_batch(batch, mesh), hypers)

        def params(state: TrainState) -> Params:
            return export(merge(state.params if state.average is None else state.average, frozen))

        return Start(state, step, params)


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
    program: Hashable = None,
) -> Update:
    """Builds the update that training runs and `pairjax plan` compiles; allocates no array.

    Args:
        params: All initial parameters, or their shapes.
        chosen: Whether each path trains.
        apply: The model's forward pass.
        loss: The loss.
        optim: The optimiser's config.
        total_steps: Number of updates that the schedule spans.
        mesh: The device mesh, real or abstract.
        specs: Partition spec of each parameter (`place_params`); by default every parameter is replicated.
        anchored: Whether each parameter decays to its initial value (`anchors`); by default none does.
        program: Identifies `apply` and `loss` by value (`PairModelFns.program` and what the loss depends on). Updates
            of one process that agree in it and in all other arguments share their compiled programs. By default none
            are shared.
    """
    trainable, frozen = split(params, chosen)
    trainable_specs, frozen_specs = split(param_specs(params) if specs is None else specs, chosen)
    multiplier = split(rate_multipliers(optim, params), chosen)[0]
    optimizer = build_optimizer(
        optim,
        total_steps=total_steps,
        decay=decay_mask(trainable),
        multiplier=multiplier,
        anchored=None if anchored is None else split(anchored, chosen)[0],
        turn=turns(optim, trainable, total_steps=total_steps),
    )
    average = make_average(optim, total_steps=total_steps)
    sharding = state_sharding(trainable, optimizer, mesh, specs=trainable_specs, averaged=average is not None)
    used = None
    if mesh.shape["fsdp"] > 1:
        used = used_shardings(trainable_specs, mesh), used_shardings(frozen_specs, mesh)

    key: Hashable = None
    if program is not None:
        # The learning rate and the decay are arguments of the update.
        settings = replace(optim, learning_rate=1.0, weight_decay=1.0)
        trees = tuple(chosen.items()), tree_key(specs), tree_key(anchored), tree_key(multiplier)
        key = program, settings, total_steps, mesh, trees

    initial = share(
        key and ("initial", key), lambda: make_init_state(optimizer, sharding=sharding, averaged=average is not None)
    )
    compiled = share(
        key and ("update", key),
        lambda: make_train_step(
            *(apply, loss, optimizer), accumulate=optim.accumulate, sharding=sharding, average=average, used=used
        ),
    )
    return Update(mesh, trainable, frozen, sharding, frozen_specs, initial, compiled)
