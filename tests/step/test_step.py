"""The step: which gradient it takes, what it leaves alone, and what it never compiles twice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from pairjax.base.config import OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.params import flatten, merge
from pairjax.base.types import Batch, Hypers, Params
from pairjax.step.optim import Optimizer
from pairjax.step.state import TrainState, init_state
from pairjax.step.step import TrainStep, make_eval_step, make_train_step
from tests.step import toy

STEADY = OptimConfig(schedule="constant", warmup=0.0)
FROZEN_EMBEDDINGS = OptimConfig(freeze="embeddings", schedule="constant", warmup=0.0)
# Adam's eps above float32's noise, where entries whose gradient is all but zero are compared.
CALM = OptimConfig(schedule="constant", warmup=0.0, eps=1e-3)


@functools.cache
def compiled(config: OptimConfig, accumulate: int) -> tuple[Params, Params, Optimizer, TrainStep]:
    """Trainable and frozen parameters, the optimiser and the step; shared, since compiling is most of the time."""
    trains, frozen, optimizer = toy.split_and_build(config)
    return trains, frozen, optimizer, make_train_step(toy.apply, toy.loss, optimizer, accumulate=accumulate)


def train(
    config: OptimConfig, batches: list[Batch], hypers: Hypers, *, accumulate: int = 1
) -> tuple[TrainState, Params, list[dict[str, float]]]:
    """The state after the batches, the frozen parameters, and the metrics of each step."""
    trains, frozen, optimizer, step = compiled(config, accumulate)
    state = init_state(trains, optimizer, key=jax.random.key(7))
    seen = []
    for batch in batches:
        state, metrics = step(state, frozen, batch, hypers)
        seen.append({name: float(value) for name, value in metrics.items()})
    return state, frozen, seen


def assert_same(left: Params, right: Params, *, atol: float) -> None:
    one, other = flatten(left), flatten(right)
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_allclose(one[path], other[path], rtol=0, atol=atol, err_msg=path)


def test_the_gradient_is_that_of_the_weighted_mean_and_the_metrics_are_its_sums() -> None:
    batch = toy.make_batch(12)

    def mean(params: Params) -> Array:
        total, weight = toy.loss(toy.apply(params, batch), batch, smoothing=0.1)
        return total / weight

    value, gradient = jax.value_and_grad(mean)(toy.init())
    state, _, [metrics] = train(STEADY, [batch], toy.make_hypers(weight_decay=0.0))
    assert metrics["weight_sum"] == pytest.approx(float(batch.weight.sum()))
    assert metrics["loss_sum"] / metrics["weight_sum"] == pytest.approx(float(value), rel=1e-6)
    norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient)))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert metrics["learning_rate"] == pytest.approx(1e-2)
    assert int(state.step) == 1
    # Adam's first update is the gradient's sign.
    moved = flatten(state.params)["head/logits/kernel"] - flatten(toy.init())["head/logits/kernel"]
    np.testing.assert_allclose(moved, -1e-2 * np.sign(gradient["head"]["logits"]["kernel"]), atol=1e-5)


def test_grad_norm_is_taken_before_clipping() -> None:
    batch = toy.make_batch(12)
    loose = train(OptimConfig(clip_norm=0.0), [batch], toy.make_hypers())[2][0]["grad_norm"]
    tight = train(OptimConfig(clip_norm=1e-3), [batch], toy.make_hypers())[2][0]["grad_norm"]
    assert tight == pytest.approx(loose, rel=1e-6)
    assert loose > 1e-2


def test_the_learning_rate_that_is_reported_follows_the_schedule() -> None:
    _, _, seen = train(OptimConfig(warmup=0.2), [toy.make_batch(12)] * 6, toy.make_hypers(learning_rate=1.0))
    actual = [metrics["learning_rate"] for metrics in seen]
    np.testing.assert_allclose(actual, [0.0, 0.5, 1.0, 7 / 8, 6 / 8, 5 / 8], rtol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_micro_batches_equal_the_large_batch(accumulate: int) -> None:
    """Within 1e-6, though the micro-batches' weights differ and some slots are empty."""
    batches = [toy.make_batch(12, seed=seed) for seed in range(4)]
    per_part = {float(batches[0].weight[part::accumulate].sum()) for part in range(accumulate)}
    assert len(per_part) > 1
    whole, _, expected = train(CALM, batches, toy.make_hypers())
    parts, _, actual = train(CALM, batches, toy.make_hypers(), accumulate=accumulate)
    assert_same(parts.params, whole.params, atol=1e-6)
    for one, other in zip(actual, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_accumulation_that_does_not_divide_the_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"--optim.accumulate .* got 5 micro-batches of 12 rows"):
        train(STEADY, [toy.make_batch(12)], toy.make_hypers(), accumulate=5)


def test_micro_batches_draw_different_dropout() -> None:
    batch = toy.make_batch(12)
    twice = Batch(*(None if leaf is None else np.repeat(leaf, 2, axis=0) for leaf in batch))
    hypers = toy.make_hypers(dropout=0.5)
    keys = []

    def apply(params: Params, batch: Batch, *, key: Array, rates: object) -> Array:
        jax.debug.callback(lambda data: keys.append(tuple(map(int, data))), jax.random.key_data(key))
        return toy.apply(params, batch)

    trains, frozen, optimizer = toy.split_and_build(STEADY)
    step = make_train_step(apply, toy.loss, optimizer, accumulate=2)
    state = init_state(trains, optimizer, key=jax.random.key(7))
    for _ in range(2):
        state, _ = step(state, frozen, twice, hypers)
    jax.effects_barrier()
    assert len(set(keys)) == 4


def test_empty_slots_count_for_nothing() -> None:
    batch = toy.make_batch(12)
    padding = toy.make_batch(3, seed=5)
    padding = padding._replace(weight=np.zeros((3, 2), np.float32), pair_ids=np.zeros_like(padding.pair_ids))
    padded = Batch(*(None if a is None else np.concatenate([a, b]) for a, b in zip(batch, padding, strict=True)))
    hypers = toy.make_hypers()
    whole, _, expected = train(CALM, [batch] * 3, hypers)
    actual, _, metrics = train(CALM, [padded] * 3, hypers)
    assert_same(actual.params, whole.params, atol=1e-6)
    assert metrics[0] == pytest.approx(expected[0], rel=1e-5)


def test_a_batch_of_empty_slots_moves_nothing_but_by_decay() -> None:
    batch = toy.make_batch(12)._replace(weight=np.zeros((12, 2), np.float32))
    state, _, [metrics] = train(STEADY, [batch], toy.make_hypers(weight_decay=0.0))
    assert metrics["weight_sum"] == metrics["grad_norm"] == 0.0
    assert_same(state.params, toy.init(), atol=0.0)


def test_a_loss_that_is_not_finite_shows_in_the_metrics() -> None:
    params = toy.init()
    params["head"]["logits"]["bias"][0] = np.nan
    _, frozen, optimizer, step = compiled(STEADY, 1)
    state = init_state(params, optimizer, key=jax.random.key(0))
    _, metrics = step(state, frozen, toy.make_batch(12), toy.make_hypers())
    assert np.isnan(metrics["loss_sum"])
    assert np.isnan(metrics["grad_norm"])
    assert np.isfinite(metrics["weight_sum"])


@pytest.mark.parametrize("freeze", ["embeddings", "all_but_head"])
def test_frozen_leaves_are_bit_identical_after_steps_with_decay(freeze: str) -> None:
    config = OptimConfig(freeze=freeze, schedule="constant", warmup=0.0)
    state, frozen, _ = train(config, [toy.make_batch(12, seed=seed) for seed in range(5)], toy.make_hypers())
    start = flatten(toy.init())
    assert flatten(frozen)
    for path, leaf in flatten(frozen).items():
        np.testing.assert_array_equal(leaf, start[path])
    assert flatten(merge(state.params, frozen)).keys() == start.keys()
    for path, leaf in flatten(state.params).items():
        assert not np.array_equal(leaf, start[path]), path
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert len(moments) == 2 * len(flatten(state.params))


def test_frozen_leaves_get_no_gradient_in_the_compiled_program() -> None:
    """The embeddings' gradient is the program's only scatter."""
    for freeze, scatters in (("none", True), ("embeddings", False)):
        config = OptimConfig(freeze=freeze)
        trains, frozen, optimizer = toy.split_and_build(config)
        state = init_state(trains, optimizer, key=jax.random.key(0))
        step = make_train_step(toy.apply, toy.loss, optimizer)
        text = step.lower(state, frozen, toy.make_batch(12), toy.make_hypers()).as_text()
        assert ("scatter" in text) == scatters


def test_other_hypers_compile_nothing_again() -> None:
    traces = []

    def apply(params: Params, batch: Batch, *, key: Array, rates: object) -> Array:
        traces.append(batch.input_ids.shape)
        return toy.apply(params, batch, key=key, rates=rates)

    trains, frozen, optimizer = toy.split_and_build(STEADY)
    step = make_train_step(apply, toy.loss, optimizer)
    state = init_state(trains, optimizer, key=jax.random.key(0))
    for number in (0.0, 0.1, 0.3):
        hypers = toy.make_hypers(learning_rate=number, weight_decay=number, smoothing=number, dropout=number)
        state, _ = step(state, frozen, toy.make_batch(12), hypers)
    assert traces == [(12, toy.LENGTH)]


def test_the_state_is_donated_and_the_callers_parameters_are_not() -> None:
    trains, frozen, optimizer, step = compiled(FROZEN_EMBEDDINGS, 1)
    trains, frozen = jax.tree.map(jnp.asarray, (trains, frozen))
    state = init_state(trains, optimizer, key=jax.random.key(0))
    new, _ = step(state, frozen, toy.make_batch(12), toy.make_hypers())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((trains, frozen, new)))


def test_steps_draw_different_dropout_and_the_same_step_the_same() -> None:
    trains, frozen, optimizer, step = compiled(STEADY, 1)
    losses = []
    for at in (0, 0, 1):
        state = init_state(trains, optimizer, key=jax.random.key(3))._replace(step=jnp.asarray(at, jnp.int32))
        losses.append(float(step(state, frozen, toy.make_batch(12), toy.make_hypers(dropout=0.5))[1]["loss_sum"]))
    assert losses[0] == losses[1] != losses[2]


def test_a_population_is_the_vmap_of_one_run() -> None:
    """Within 4e-6 of the runs alone, over rates, decay and dropout that differ."""
    trains, frozen, optimizer, step = compiled(CALM, 1)
    members = [toy.make_hypers(learning_rate=1e-3 * n, weight_decay=0.01 * n, dropout=0.1 * n) for n in (1, 2, 3)]
    keys = [jax.random.key(n) for n in range(3)]

    def stack(*leaves: object) -> Array:
        return jnp.stack([jnp.asarray(leaf) for leaf in leaves])

    states = jax.tree.map(stack, *(init_state(trains, optimizer, key=key) for key in keys))
    hypers = jax.tree.map(stack, *members)
    together = jax.jit(jax.vmap(step, in_axes=(0, None, None, 0)))
    batches = [toy.make_batch(12, seed=seed) for seed in range(3)]
    for batch in batches:
        states, metrics = together(states, frozen, batch, hypers)
    for n, (member, key) in enumerate(zip(members, keys, strict=True)):
        state = init_state(trains, optimizer, key=key)
        for batch in batches:
            state, alone = step(state, frozen, batch, member)
        assert_same(jax.tree.map(lambda leaf, n=n: leaf[n], states.params), state.params, atol=4e-6)
        assert float(metrics["loss_sum"][n]) == pytest.approx(float(alone["loss_sum"]), rel=1e-5)


def test_the_step_learns() -> None:
    batch = toy.make_batch(12)
    _, _, seen = train(STEADY, [batch] * 60, toy.make_hypers(learning_rate=0.1, smoothing=0.0, weight_decay=0.0))
    assert seen[-1]["loss_sum"] < 0.1 * seen[0]["loss_sum"]


def test_the_eval_step_gives_float32_logits_without_dropout() -> None:
    batch = toy.make_batch(12)

    def half(params: Params, batch: Batch, *, key: None = None, rates: None = None) -> Array:
        assert key is None
        assert rates is None
        return toy.apply(params, batch).astype(jnp.bfloat16)

    logits = make_eval_step(half)(toy.init(), batch)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, toy.apply(toy.init(), batch), rtol=1e-2, atol=1e-2)
