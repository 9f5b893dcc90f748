"""The compiled update (`make_train_step`) and the compiled evaluation of a batch (`make_eval_step`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array

from pairjax.base.errors import UserError
from pairjax.base.params import merge
from pairjax.base.types import Batch, Hypers, Params
from pairjax.step.average import Average
from pairjax.step.losses import Loss
from pairjax.step.optim import Optimizer
from pairjax.step.sharding import replicated
from pairjax.step.state import TrainState

Apply = Callable[..., Any]
"""`apply(params, batch, *, key=None, rates=None) -> logits`, [rows, pairs, outputs] or a tree of such arrays. Without
`key` and `rates` there is no dropout."""

TrainStep = Callable[[TrainState, Params, Batch, Hypers], tuple[TrainState, Mapping[str, Array]]]
"""`step(state, frozen, batch, hypers) -> (state, metrics)`; see `make_train_step`."""


def two_passes(apply: Apply) -> Apply:
    """Returns the model applied twice, for R-Drop: two logits with different dropout masks; one pass without a key."""

    def apply_twice(params: Params, batch: Batch, *, key: Array | None = None, rates: Any = None) -> Any:
        if key is None:
            return apply(params, batch)
        return tuple(apply(params, batch, key=pass_key, rates=rates) for pass_key in jax.random.split(key))

    return apply_twice


def split_rows(batch: Batch, parts: int) -> Batch:
    """Splits a batch into micro-batches along a new leading axis: [R, ...] to [parts, R / parts, ...].

    Part a holds rows a, a + parts, ...: contiguous parts would each lie on only some of the devices.

    Args:
        batch: The batch.
        parts: Number of micro-batches.

    Raises:
        UserError: `parts` does not divide the rows.
    """
    rows = batch.input_ids.shape[0]
    if rows % parts:
        raise UserError(
            "--optim.accumulate does not divide the rows of a batch",
            got=f"{parts} micro-batches of {rows} rows",
            expected=f"a divisor of {rows}",
        )
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(rows // parts, parts, *x.shape[1:]), 0, 1), batch)


def _or_one(weight: Array) -> Array:
    """Replaces a sum of weights of 0 by 1: the mean over a batch of empty slots is 0, not 0 / 0."""
    return jnp.where(weight > 0, weight, 1.0)


def _to_float32(outputs: Any) -> Any:
    """Converts all arrays of a tree to float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), outputs)


def _make_gather(used: Any, stored: Any) -> Callable[[Params], Params]:
    """Lays parameters out as they are used; their gradient is laid out as they are stored (one reduce-scatter)."""

    @jax.custom_vjp
    def gather(params: Params) -> Params:
        return jax.lax.with_sharding_constraint(params, used)

    def forward(params: Params) -> tuple[Params, None]:
        return gather(params), None

    def backward(_: None, cotangent: Params) -> tuple[Params]:
        return (jax.lax.with_sharding_constraint(cotangent, stored),)

    gather.defvjp(forward, backward)
    return gather


@dataclass(frozen=True)
class _Objective:
    """The model and its loss as a function of the trainable parameters.

    Attributes:
        apply: The model's forward pass.
        loss: The loss.
        gather: Lays the trainable parameters out as they are used.
        frozen_used: The sharding of the frozen parameters while they are used; None leaves it to XLA.
    """

    apply: Apply
    loss: Loss
    gather: Callable[[Params], Params]
    frozen_used: Params | None

    def gradient(
        self, params: Params, frozen: Params, batch: Batch, hypers: Hypers, key: Array, weight: Array | None = None
    ) -> tuple[tuple[Array, Array], Params]:
        """Returns (sum of losses, sum of weights) and the gradient of the mean loss.

        Args:
            params: The trainable parameters, which are differentiated.
            frozen: The frozen parameters.
            batch: The rows.
            hypers: Dropout rates and label smoothing.
            key: Seeds dropout.
            weight: The divisor of the sum of losses; by default the batch's own sum of weights.
        """

        def mean(params: Params) -> tuple[Array, tuple[Array, Array]]:
            logits = self.apply(merge(self.gather(params), frozen), batch, key=key, rates=hypers.rates)
            total, weights = self.loss(_to_float32(logits), batch, smoothing=hypers.label_smoothing)
            return jnp.sum(total / _or_one(weights if weight is None else weight)), (total, weights)

        if self.frozen_used is not None:
            frozen = jax.lax.with_sharding_constraint(frozen, self.frozen_used)
        gradients, sums = jax.grad(mean, has_aux=True)(params)
        return sums, gradients

    def weight_of(self, params: Params, frozen: Params, batch: Batch, hypers: Hypers, key: Array) -> Array:
        """Returns the batch's sum of weights, from the shapes of the logits alone: the model does not run."""
        shapes = jax.eval_shape(lambda: self.apply(merge(params, frozen), batch, key=key, rates=hypers.rates))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes)
        return self.loss(zeros, batch, smoothing=hypers.label_smoothing)[1]

    def accumulated(
        self, params: Params, frozen: Params, batch: Batch, hypers: Hypers, key: Array, *, parts: int
    ) -> tuple[tuple[Array, Array], Params]:
        """Returns what `gradient` returns, computed micro-batch by micro-batch over the whole batch's weights."""
        weight = self.weight_of(params, frozen, batch, hypers, key)

        def add(total: Any, part: tuple[Array, Batch]) -> tuple[Any, None]:
            index, rows = part
            micro = self.gradient(params, frozen, rows, hypers, jax.random.fold_in(key, index), weight)
            return jax.tree.map(jnp.add, total, micro), None

        zero = jnp.zeros_like(weight)
        start = ((zero, zero), jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add, start, (jnp.arange(parts), split_rows(batch, parts)))[0]


def make_train_step(
    apply: Apply,
    loss: Loss,
    optimizer: Optimizer,
    *,
    accumulate: int = 1,
    sharding: TrainState | None = None,
    used: tuple[Params, Params] | None = None,
    average: Average | None = None,
) -> TrainStep:
    """Builds `step(state, frozen, batch, hypers) -> (state, metrics)`, jitted; it donates `state` only.

    The gradient is that of (sum of weighted losses) / (sum of weights) over the whole batch, all devices and
    micro-batches together, so empty slots do not count wherever they are. For a loss of several terms it is the
    gradient of the sum of their quotients. Only `state.params` is differentiated. The hypers are traced: other values
    do not recompile, and `vmap` over them and the state trains a population.

    The metrics are float32: `loss_sum` and `weight_sum`, scalars or [terms], whose quotient is the mean loss;
    `grad_norm` before clipping; `learning_rate` of this update; `pairs`, the number of slots that are not empty; and
    `tokens`, if the batch has token arrays. A loss that is not finite appears in them; the caller must check it.

    Args:
        apply: The model's forward pass.
        loss: The loss.
        optimizer: The optimiser of the trainable parameters.
        accumulate: Number of micro-batches, run one after another. The gradient equals that of the large batch, except
            that dropout masks differ.
        sharding: The sharding of the new state (`state_sharding`); by default XLA chooses.
        used: The shardings of the trainable and of the frozen parameters while they are used (`used_shardings`);
            needs `sharding`. By default XLA chooses.
        average: Updates the state's averaged parameters (`make_average`), if it has any.

    Raises:
        UserError: When traced, if `accumulate` does not divide the rows.
    """
    gather: Callable[[Params], Params] = lambda params: params  # noqa: E731
    if used is not None and sharding is not None:
        gather = _make_gather(used[0], sharding.params)
    objective = _Objective(apply, loss, gather, None if used is None else used[1])
    compute = objective.gradient if accumulate == 1 else partial(objective.accumulated, parts=accumulate)

    def step(state: TrainState, frozen: Params, batch: Batch, hypers: Hypers) -> tuple[TrainState, Mapping[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        (loss_sum, weight_sum), gradients = compute(state.params, frozen, batch, hypers, key)
        updates, opt_state = optimizer(hypers).update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss_sum": loss_sum,
            "weight_sum": weight_sum,
            "grad_norm": optax.tree.norm(gradients),
            "pairs": jnp.sum(batch.weight > 0, dtype=jnp.int32),
            "learning_rate": jnp.asarray(optimizer.learning_rate(state.step, hypers), jnp.float32),
        }
        if batch.pair_ids is not None:
            metrics["tokens"] = jnp.sum(batch.pair_ids > 0, dtype=jnp.int32)
        averaged = None if average is None else average(state.average, params, state.step)
        return TrainState(state.step + 1, params, opt_state, state.key, averaged), metrics

    out = None if sharding is None else (sharding, None)
    return jax.jit(step, donate_argnums=0, out_shardings=out)


def make_eval_step(apply: Apply, *, mesh: Mesh | AbstractMesh | None = None) -> Callable[[Params, Batch], Any]:
    """Builds `evaluate(params, batch) -> logits`, jitted, without dropout.

    The logits are float32 [rows, pairs, outputs], or a tree of arrays with the rows first.

    Args:
        apply: The model's forward pass.
        mesh: The device mesh. If given, every process gets the logits of all rows; otherwise they are sharded like
            the rows.
    """

    def evaluate(params: Params, batch: Batch) -> Any:
        return _to_float32(apply(params, batch))

    return jax.jit(evaluate, out_shardings=None if mesh is None else replicated(mesh))
