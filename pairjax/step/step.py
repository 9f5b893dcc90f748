"""One compiled update, and one compiled evaluation of a batch."""

from collections.abc import Callable, Mapping
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
from pairjax.step.optim import Optimizer
from pairjax.step.sharding import replicated
from pairjax.step.state import TrainState

Apply = Callable[..., Any]
"""`apply(params, batch, *, key=None, rates=None) -> logits`, [rows, pairs, outputs] or a tree of such; without both, no
dropout."""

Loss = Callable[..., tuple[Array, Array]]
"""`loss(logits, batch, *, smoothing) -> (sum of the weighted losses, sum of their weights)`, scalars or [terms]."""

Step = Callable[[TrainState, Params, Batch, Hypers], tuple[TrainState, Mapping[str, Array]]]


def two_passes(apply: Apply) -> Apply:
    """The model run twice, for R-Drop: a pair of logits whose dropout differs; without a key, one pass."""

    def twice(params: Params, batch: Batch, *, key: Array | None = None, rates: Any = None) -> Any:
        if key is None:
            return apply(params, batch)
        return tuple(apply(params, batch, key=one, rates=rates) for one in jax.random.split(key))

    return twice


def split_rows(batch: Batch, parts: int) -> Batch:
    """Micro-batches along a new leading axis: [R, ...] to [parts, R / parts, ...].

    Part a holds rows a, a + parts, ...: contiguous parts would each lie on a few of the devices that share the rows.

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
    """A divisor for sums under `weight`: a batch of empty slots alone has mean 0, not 0 / 0."""
    return jnp.where(weight > 0, weight, 1.0)


def _wide(outputs: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.float32), outputs)


def _gatherer(used: Any, stored: Any) -> Callable[[Params], Params]:
    """Parameters laid out as they are used, whose gradient is laid out as they are stored: summed and cut at once."""

    @jax.custom_vjp
    def gather(params: Params) -> Params:
        return jax.lax.with_sharding_constraint(params, used)

    def forward(params: Params) -> tuple[Params, None]:
        return gather(params), None

    def backward(_: None, cotangent: Params) -> tuple[Params]:
        return (jax.lax.with_sharding_constraint(cotangent, stored),)

    gather.defvjp(forward, backward)
    return gather


def make_train_step(
    apply: Apply,
    loss: Loss,
    optimizer: Optimizer,
    *,
    accumulate: int = 1,
    sharding: TrainState | None = None,
    used: tuple[Params, Params] | None = None,
    average: Average | None = None,
) -> Step:
    """`step(state, frozen, batch, hypers) -> (state, metrics)`, jitted; it donates `state` and nothing else.

    The gradient is that of (sum of weighted losses) / (sum of weights) over the whole batch, all devices and
    micro-batches together, so empty slots count for nothing wherever they fall; of several terms, that of the sum of
    their quotients. Only `state.params` is differentiated.
    Hypers are traced: other values compile nothing again, and `vmap` over them and the state trains a population.

    Metrics are float32: `loss_sum` and `weight_sum`, scalars or [terms] as the loss has them, whose quotient is the
    mean loss; `grad_norm` before clipping, `learning_rate` of this update, `pairs`, the slots that are not empty, and
    `tokens`, where the batch has any. A loss that is not finite shows in them and is left to the caller.

    Args:
        apply: The model.
        loss: Its loss.
        optimizer: Of the trainable parameters.
        accumulate: Micro-batches, run one after another; the result is the large batch's (dropout masks differ).
        sharding: Where the new state lies (`state_sharding`); by default XLA chooses.
        used: Where parameters that train, and those that do not, lie while they are used (`used_shardings`); goes with
            `sharding`. By default XLA chooses.
        average: What becomes of the state's averaged parameters (`make_average`), where it has any.

    Raises:
        UserError: When traced, where `accumulate` does not divide the rows.
    """

    gather: Callable[[Params], Params] = lambda params: params  # noqa: E731
    if used is not None and sharding is not None:
        gather = _gatherer(used[0], sharding.params)

    def gradient(
        state: TrainState, frozen: Params, batch: Batch, hypers: Hypers, key: Array, weight: Array | None = None
    ) -> tuple[tuple[Array, Array], Params]:
        """(Sum of losses, sum of weights), and the gradient of the sum over `weight`, by default its own weights."""

        def mean(params: Params) -> tuple[Array, tuple[Array, Array]]:
            logits = apply(merge(gather(params), frozen), batch, key=key, rates=hypers.rates)
            total, own = loss(_wide(logits), batch, smoothing=hypers.label_smoothing)
            return jnp.sum(total / _or_one(own if weight is None else weight)), (total, own)

        if used is not None:
            frozen = jax.lax.with_sharding_constraint(frozen, used[1])
        gradients, sums = jax.grad(mean, has_aux=True)(state.params)
        return sums, gradients

    def weight_of(state: TrainState, frozen: Params, batch: Batch, hypers: Hypers, key: Array) -> Array:
        """The batch's sum of weights, which no model has a part in."""
        shapes = jax.eval_shape(lambda: apply(merge(state.params, frozen), batch, key=key, rates=hypers.rates))
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes)
        return loss(nothing, batch, smoothing=hypers.label_smoothing)[1]

    def accumulated(
        state: TrainState, frozen: Params, batch: Batch, hypers: Hypers, key: Array
    ) -> tuple[tuple[Array, Array], Params]:
        """The same, part by part, each over the whole batch's weights."""
        weight = weight_of(state, frozen, batch, hypers, key)

        def add(total: Any, part: tuple[Array, Batch]) -> tuple[Any, None]:
            index, rows = part
            made = gradient(state, frozen, rows, hypers, jax.random.fold_in(key, index), weight)
            return jax.tree.map(jnp.add, total, made), None

        zero = jnp.zeros_like(weight)
        start = ((zero, zero), jax.tree.map(jnp.zeros_like, state.params))
        return jax.lax.scan(add, start, (jnp.arange(accumulate), split_rows(batch, accumulate)))[0]

    def step(state: TrainState, frozen: Params, batch: Batch, hypers: Hypers) -> tuple[TrainState, Mapping[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        compute = gradient if accumulate == 1 else accumulated
        (loss_sum, weight_sum), gradients = compute(state, frozen, batch, hypers, key)
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
    """`evaluate(params, batch) -> logits`, float32 [rows, pairs, outputs] or a tree of arrays that lead with the rows,
    jitted, without dropout.

    Args:
        apply: The model.
        mesh: Where given, every process gets the logits of all rows; otherwise they lie as the rows do.
    """

    def evaluate(params: Params, batch: Batch) -> Any:
        return _wide(apply(params, batch))

    return jax.jit(evaluate, out_shardings=None if mesh is None else replicated(mesh))
