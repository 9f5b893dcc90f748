"""The optimiser's options, each by what it does to every leaf; and the default program, which none of them changes."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pairjax.base.config import Config, LossConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import DropoutConfig, ModelConfig
from pairjax.base.optim_config import AverageConfig, LoraConfig
from pairjax.base.params import flatten
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Hypers, Params, TaskSpec
from pairjax.step.average import make_average
from pairjax.step.losses import cross_entropy, make_loss, symmetric_divergence
from pairjax.step.optim import Optimizer, anchors, build_optimizer, decay_mask, make_schedule, rate_multipliers, turns
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step, two_passes
from tests.step import toy
from tests.step.test_optim import hypers, random_like, tree

STEADY = {"schedule": "constant", "warmup": 0.0}


def optimizer_of(config: OptimConfig, params: Params, steps: int) -> Optimizer:
    return build_optimizer(
        config,
        total_steps=steps,
        decay=decay_mask(params),
        multiplier=rate_multipliers(config, params),
        anchored=anchors(config, params, pooler_kept=True),
        turn=turns(config, params, total_steps=steps),
    )


def states(config: OptimConfig, params: Params, steps: int, numbers: Hypers) -> list[tuple[dict, Any]]:
    """Flat parameters and the optimiser's state, before the first update and after each."""
    optimizer = optimizer_of(config, params, steps)
    state = optimizer.init(params)
    seen = [(flatten(params), state)]
    for step in range(steps):
        updates, state = optimizer(numbers).update(random_like(params, 100 + step), state, params)
        params = optax.apply_updates(params, updates)
        seen.append((flatten(params), state))
    return seen


# The default.


def test_the_default_step_is_the_program_of_a_plain_chain() -> None:
    """Letter by letter: the options cost nothing where they are not used."""
    trains = toy.init()
    config = OptimConfig()
    schedule = make_schedule(config, total_steps=10)

    def clip(updates: Any, _: Any) -> Any:
        factor = jnp.minimum(1.0, 1.0 / optax.tree.norm(updates))
        return jax.tree.map(lambda u: u * factor, updates)

    def plain(numbers: Hypers) -> optax.GradientTransformation:
        return optax.chain(
            optax.stateless(clip),
            optax.scale_by_adam(0.9, 0.999, 1e-8),
            optax.add_decayed_weights(numbers.weight_decay, mask=decay_mask(trains)),
            optax.stateless(lambda updates, _: jax.tree.map(lambda u: u * 1.0, updates)),
            optax.scale_by_schedule(schedule),
            optax.scale(-numbers.learning_rate),
        )

    texts = []
    for optimizer in (optimizer_of(config, trains, 10), Optimizer(schedule, plain)):
        state = init_state(trains, optimizer, key=jax.random.key(0))
        step = make_train_step(toy.apply, toy.loss, optimizer)
        texts.append(step.lower(state, {}, toy.make_batch(4), toy.make_hypers(dropout=0.1)).as_text())
    assert texts[0] == texts[1]


# Bias correction.


def test_without_bias_correction_the_moments_stand_for_themselves() -> None:
    """By hand, in float64; the first update is (1 - b1) / sqrt(1 - b2), about 3.16, times as large."""
    config = OptimConfig(bias_correction=False, clip_norm=0.0, **STEADY)
    params = random_like(tree(layers=1), 0)
    seen = states(config, params, 3, hypers(weight_decay=0.0))
    for path, start in flatten(params).items():
        p, m, v = start.astype(np.float64), 0.0, 0.0
        for step in range(3):
            g = flatten(random_like(params, 100 + step))[path].astype(np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            p = p - 1e-2 * m / (np.sqrt(v) + 1e-8)
            np.testing.assert_allclose(seen[step + 1][0][path], p, rtol=1e-5, atol=1e-6, err_msg=path)
        first = np.abs(seen[1][0][path] - start)
        np.testing.assert_allclose(first, 1e-2 * 0.1 / math.sqrt(0.001), rtol=1e-3)


# Gradual unfreezing.


def test_turns_come_from_the_top_down_at_even_intervals_and_the_embeddings_last() -> None:
    actual = flatten(turns(OptimConfig(gradual=0.5), tree(layers=3), total_steps=40) or {})
    expected = {
        "encoder/layer_2/": 5,
        "encoder/layer_1/": 10,
        "encoder/layer_0/": 15,
        "encoder/embeddings/": 20,
        "encoder/projection/": 20,
        "pooler/": 0,
        "interact/": 0,
        "combine/": 0,
        "head/": 0,
    }
    assert actual.keys() == flatten(tree()).keys()
    for path, turn in actual.items():
        assert [turn] == [value for prefix, value in expected.items() if path.startswith(prefix)], path


def test_frozen_layers_take_no_turn() -> None:
    trains = {"encoder": {f"layer_{i}": tree()["encoder"][f"layer_{i}"] for i in (1, 2)}, "head": tree()["head"]}
    actual = flatten(turns(OptimConfig(gradual=0.5), trains, total_steps=40) or {})
    assert {actual[f"encoder/layer_{i}/mlp_in/kernel"] for i in (1, 2)} == {20, 10}
    assert {turn for path, turn in actual.items() if "layer_2" in path} == {10}


@pytest.mark.parametrize("decay_to", ["zero", "initial"])
def test_a_leaf_is_untouched_until_its_turn_and_then_as_if_it_began_there(decay_to: str) -> None:
    """No update, no decay and no moments before; after it, AdamW whose t counts from there, in float64."""
    config = OptimConfig(gradual=0.5, clip_norm=0.0, decay_to=decay_to, **STEADY)
    params, steps = random_like(tree(layers=3), 0), 8
    numbers = hypers(weight_decay=0.1)
    turn = flatten(turns(config, params, total_steps=steps) or {})
    assert sorted(set(turn.values())) == [0, 1, 2, 3, 4]
    seen = states(config, params, steps, numbers)
    decays, anchored = flatten(decay_mask(params)), flatten(anchors(config, params, pooler_kept=True) or {})
    for path, start in flatten(params).items():
        for step in range(turn[path]):
            flat, state = seen[step + 1]
            np.testing.assert_array_equal(flat[path], start, err_msg=path)
            for moments in (state.inner[1].mu, state.inner[1].nu):
                assert not np.any(flatten(moments)[path]), path
        p, m, v = start.astype(np.float64), 0.0, 0.0
        for own, step in enumerate(range(turn[path], steps), start=1):
            g = flatten(random_like(params, 100 + step))[path].astype(np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            towards = start if anchored.get(path, False) else 0.0
            pull = 0.1 * (p - towards) if decays[path] else 0.0
            p = p - 1e-2 * (m / (1 - 0.9**own) / (np.sqrt(v / (1 - 0.999**own)) + 1e-8) + pull)
            np.testing.assert_allclose(seen[step + 1][0][path], p, rtol=1e-4, atol=2e-6, err_msg=path)


def test_gradients_of_leaves_whose_turn_has_not_come_do_not_count_in_clipping() -> None:
    config = OptimConfig(gradual=0.9, clip_norm=1.0, **STEADY)
    params = random_like(tree(layers=1), 0)
    optimizer = optimizer_of(config, params, 100)
    grads = jax.tree.map(np.zeros_like, params)
    grads["head"]["logits"]["bias"] = np.array([0.6, 0.0], np.float32)
    grads["encoder"]["layer_0"]["mlp_in"]["bias"] = np.array([1e6, 0.0], np.float32)
    _, state = optimizer(hypers()).update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(flatten(state.inner[1].mu)["head/logits/bias"], [0.06, 0.0], rtol=1e-6)


# Decay to the initial value.


def test_what_came_from_the_checkpoint_is_anchored_and_nothing_else() -> None:
    config = OptimConfig(decay_to="initial", reinit_layers=1)
    for kept in (False, True):
        actual = flatten(anchors(config, tree(layers=3), pooler_kept=kept) or {})
        fresh = ("encoder/layer_2/", "head/", "interact/", "combine/", *(() if kept else ("pooler/",)))
        assert actual == {path: not path.startswith(fresh) for path in flatten(tree(layers=3))}
    assert anchors(OptimConfig(), tree(), pooler_kept=True) is None


def test_decay_draws_anchored_leaves_to_where_they_started() -> None:
    """With gradients that are zero after the first update, the distance to the start shrinks by 1 - rate * decay."""
    config = OptimConfig(decay_to="initial", clip_norm=0.0, b1=0.0, **STEADY)
    params = random_like(tree(layers=2), 0)
    optimizer, numbers = optimizer_of(config, params, 3), hypers(learning_rate=0.5, weight_decay=0.1)
    zeros = jax.tree.map(np.zeros_like, params)
    state, now, moved = optimizer.init(params), params, []
    for grads in (random_like(params, 1), zeros, zeros):
        updates, state = optimizer(numbers).update(grads, state, now)
        now = optax.apply_updates(now, updates)
        moved.append(flatten(now))
    decays, anchored = flatten(decay_mask(params)), flatten(anchors(config, params, pooler_kept=True) or {})
    assert any(anchored.values())
    assert not all(anchored.values())
    for path, start in flatten(params).items():
        origin, share = (start if anchored[path] else 0.0), (0.95 if decays[path] else 1.0)
        assert np.abs(moved[0][path] - start).min() > 0.1
        for one, other in itertools.pairwise(moved):
            np.testing.assert_allclose(other[path] - origin, share * (one[path] - origin), rtol=1e-4, atol=1e-6)


# Averages.


def run_averaged(average: AverageConfig, steps: int) -> tuple[list[dict], list[dict]]:
    """Parameters and their averages, before the first update and after each."""
    config = OptimConfig(average=average, **STEADY)
    optimizer = optimizer_of(config, toy.init(), steps)
    update = make_average(config, total_steps=steps)
    step = make_train_step(toy.apply, toy.loss, optimizer, average=update)
    state = init_state(toy.init(), optimizer, key=jax.random.key(0), averaged=True)
    seen = [(flatten(toy.init()), flatten(toy.init()))]
    for index in range(steps):
        state, _ = step(state, {}, toy.make_batch(4, seed=index), toy.make_hypers())
        seen.append(jax.tree.map(np.asarray, (flatten(state.params), flatten(state.average))))
    return [one for one, _ in seen], [other for _, other in seen]


def test_the_moving_average_is_the_recurrence_written_out() -> None:
    params, averages = run_averaged(AverageConfig("ema", decay=0.3), 6)
    for path, value in params[0].items():
        expected = value.astype(np.float64)
        for t in range(6):
            decay = min(0.3, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * params[t + 1][path]
            np.testing.assert_allclose(averages[t + 1][path], expected, rtol=1e-5, atol=1e-6, err_msg=path)


def test_the_mean_is_that_of_the_weights_after_each_update_from_its_start_on() -> None:
    params, averages = run_averaged(AverageConfig("mean", start=0.5), 6)
    for path in params[0]:
        for t in range(4):
            np.testing.assert_array_equal(averages[t][path], params[t][path], err_msg=path)
        for t in (4, 5, 6):
            expected = np.mean([params[n][path] for n in range(4, t + 1)], axis=0, dtype=np.float64)
            np.testing.assert_allclose(averages[t][path], expected, rtol=1e-5, atol=1e-6, err_msg=path)


def test_the_trained_weights_do_not_depend_on_their_average() -> None:
    optimizer = optimizer_of(OptimConfig(**STEADY), toy.init(), 3)
    step = make_train_step(toy.apply, toy.loss, optimizer)
    state = init_state(toy.init(), optimizer, key=jax.random.key(0))
    for index in range(3):
        state, _ = step(state, {}, toy.make_batch(4, seed=index), toy.make_hypers())
    params, averages = run_averaged(AverageConfig("ema"), 3)
    for path, leaf in flatten(state.params).items():
        np.testing.assert_array_equal(leaf, params[-1][path])
        assert not np.array_equal(leaf, averages[-1][path])
    assert state.average is None


# R-Drop.


def test_the_symmetric_divergence_is_that_of_scipy() -> None:
    from scipy.special import softmax
    from scipy.stats import entropy

    rng = np.random.default_rng(0)
    one, other = (jnp.asarray(rng.normal(size=(4, 2, 3)), jnp.float32) for _ in range(2))
    p, q = softmax(one, axis=-1), softmax(other, axis=-1)
    expected = (entropy(p, q, axis=-1) + entropy(q, p, axis=-1)) / 2
    np.testing.assert_allclose(symmetric_divergence(one, other), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(symmetric_divergence(one, one), np.zeros((4, 2)))


def test_r_drops_loss_is_the_mean_cross_entropy_of_two_passes_and_their_divergence() -> None:
    """By value, with class weights and an empty slot; and its step draws two masks that differ."""
    task = TaskSpec("classification", ("a", "b", "c"))
    config = LossConfig(r_drop=0.7, class_weights="given", weights=(1.0, 2.0, 3.0))
    batch, rng = toy.make_batch(4), np.random.default_rng(0)
    one, other = (jnp.asarray(rng.normal(size=(4, 2, 3)), jnp.float32) for _ in range(2))
    total, weight = make_loss(config, task, None)((one, other), batch, smoothing=0.1)
    weights = batch.weight * np.array([1.0, 2.0, 3.0])[batch.label]
    label, each = jnp.asarray(batch.label), 0.7 * symmetric_divergence(one, other)
    each += (cross_entropy(one, label, smoothing=0.1) + cross_entropy(other, label, smoothing=0.1)) / 2
    assert float(weight) == pytest.approx(weights.sum(), rel=1e-6)
    assert float(total) == pytest.approx(float((each * weights).sum()), rel=1e-5)

    twice = two_passes(toy.apply)
    rates = toy.make_hypers(dropout=0.5).rates
    first, second = twice(toy.init(), batch, key=jax.random.key(0), rates=rates)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(twice(toy.init(), batch), toy.apply(toy.init(), batch))


def test_r_drop_trains_in_the_step_and_over_micro_batches() -> None:
    """Without dropout the two passes agree, and the step is that of one pass."""
    task = TaskSpec("classification", ("a", "b", "c"))
    optimizer = optimizer_of(OptimConfig(eps=1e-3, **STEADY), toy.init(), 3)
    plain, dropped = (make_loss(LossConfig(r_drop=alpha), task, None) for alpha in (0.0, 5.0))
    actual = []
    for apply, loss, parts in ((toy.apply, plain, 1), (two_passes(toy.apply), dropped, 1)):
        step = make_train_step(apply, loss, optimizer, accumulate=parts)
        state = init_state(toy.init(), optimizer, key=jax.random.key(0))
        state, metrics = step(state, {}, toy.make_batch(12), toy.make_hypers())
        actual.append((flatten(state.params), float(metrics["loss_sum"])))
    assert actual[0][1] == pytest.approx(actual[1][1], rel=1e-5)
    for path, leaf in actual[0][0].items():
        np.testing.assert_allclose(actual[1][0][path], leaf, atol=1e-6, err_msg=path)
    step = make_train_step(two_passes(toy.apply), dropped, optimizer, accumulate=3)
    state = init_state(toy.init(), optimizer, key=jax.random.key(0))
    state, metrics = step(state, {}, toy.make_batch(12), toy.make_hypers(dropout=0.5))
    assert float(metrics["loss_sum"]) > actual[0][1]


# Bad input.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gradual": 1.0}, "--optim.gradual is out of range"),
        ({"gradual": 0.5, "freeze": "encoder"}, "--optim.gradual needs an encoder that trains"),
        ({"decay_to": "initial", "weight_decay": 0.0}, "--optim.decay-to initial does nothing"),
        ({"decay_to": "initial", "freeze": "all_but_head"}, "--optim.decay-to initial needs an encoder that trains"),
        ({"reinit_layers": -1}, "--optim.reinit-layers is too small"),
        ({"reinit_layers": 1, "freeze": "encoder"}, "--optim.reinit-layers needs an encoder that trains"),
        (
            {"lora": LoraConfig(rank=2), "freeze": "layers", "freeze_layers": 1},
            "--optim.lora and --optim.freeze exclude each other",
        ),
        ({"lora": LoraConfig(rank=2), "reinit_layers": 1}, "leaves the encoder's own weights"),
        ({"lora": LoraConfig(rank=2), "decay_to": "initial"}, "already pulls towards the pretrained weights"),
    ],
)
def test_options_that_contradict_each_other_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        OptimConfig(**fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoraConfig(rank=-1), "--optim.lora.rank is too small"),
        (lambda: LoraConfig(rank=2, alpha=0.0), "--optim.lora.alpha must be positive"),
        (lambda: LoraConfig(alpha=8.0), "go with --optim.lora.rank"),
        (lambda: LoraConfig(rank=2, targets=()), "--optim.lora.targets is empty"),
        (lambda: AverageConfig(start=0.5), "--optim.average.start goes with"),
        (lambda: AverageConfig("mean", decay=0.5), "--optim.average.decay goes with --optim.average.kind ema"),
        (lambda: AverageConfig("ema", decay=1.0), "--optim.average.decay is out of range"),
        (lambda: LossConfig(r_drop=-1.0), "--loss.r-drop is too small"),
        (
            lambda: Config(loss=LossConfig(r_drop=1.0), model=ModelConfig(dropout=DropoutConfig(0.0, 0.0, 0.0, 0.0))),
            "every --model.dropout rate is 0",
        ),
        (lambda: PretrainConfig(optim=OptimConfig(gradual=0.5)), "--optim.gradual is for fine-tuning"),
        (lambda: PretrainConfig(optim=OptimConfig(lora=LoraConfig(rank=2))), "--optim.lora.rank is for fine-tuning"),
    ],
)
def test_values_that_do_nothing_or_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_r_drop_of_scores_is_refused() -> None:
    with pytest.raises(UserError, match=r"--loss.r-drop compares probabilities"):
        make_loss(LossConfig(r_drop=1.0), TaskSpec("regression"), None)
