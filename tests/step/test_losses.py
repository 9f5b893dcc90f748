"""Losses against NumPy, scikit-learn and the chapter's worked examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from pairjax.base.config import LossConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Batch, TaskSpec
from pairjax.models.heads import two_logits
from pairjax.step.losses import class_weights, cross_entropy, make_loss, squared_error

THREE = TaskSpec(kind="classification", labels=("entailment", "neutral", "contradiction"))
SCORE = TaskSpec(kind="regression")


def batch_of(label, weight) -> Batch:
    label, weight = np.asarray(label), np.asarray(weight, np.float32)
    slots = np.zeros((label.shape[0], 2), np.int32)
    return Batch(slots, slots, slots, slots, slots, label, weight, np.zeros(label.shape, np.int32))


def one(logits, label) -> float:
    return float(cross_entropy(jnp.asarray([[logits]], jnp.float32), jnp.asarray([[label]]))[0, 0])


def reference(logits, label, weight, table, smoothing):
    logits = np.asarray(logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = mass = 0.0
    for place in np.ndindex(*label.shape):
        target = np.full(logits.shape[-1], smoothing / logits.shape[-1])
        target[label[place]] += 1 - smoothing
        here = weight[place] * table[label[place]]
        total += here * -(target * log_p[place]).sum()
        mass += here
    return total, mass


def test_chapter_cross_entropy_of_probability_0_7_is_0_3567():
    assert one(np.log([0.3, 0.7]), 1) == pytest.approx(0.3567, abs=5e-5)


@pytest.mark.parametrize(
    ("logits", "true", "probabilities", "loss"),
    [
        ([0.1, 0.9], 1, [0.3100, 0.6900], 0.3711),
        ([0.5, 0.5], 0, [0.5, 0.5], 0.6931),
        ([0.8, 0.2], 0, [0.6457, 0.3543], 0.4375),
    ],
)
def test_chapter_dropout_rows_with_the_right_figures(logits, true, probabilities, loss):
    np.testing.assert_allclose(jax.nn.softmax(jnp.asarray(logits)), probabilities, atol=5e-5)
    assert one(logits, true) == pytest.approx(loss, abs=5e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "config",
    [LossConfig(), LossConfig(class_weights="balanced"), LossConfig(class_weights="given", weights=(1.0, 2.0, 5.0))],
)
def test_sums_equal_numpy_for_every_class_weighting(config, smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3, 3)).astype(np.float32)
    label = rng.integers(0, 3, (4, 3)).astype(np.int32)
    weight = rng.integers(0, 2, (4, 3)).astype(np.float32)
    counts = np.asarray([50, 30, 20])
    table = {"none": np.ones(3), "balanced": 100 / (3 * counts), "given": np.asarray([1, 2, 5])}[config.class_weights]
    loss = make_loss(config, THREE, counts)
    total, mass = jax.jit(loss)(jnp.asarray(logits), batch_of(label, weight), smoothing=smoothing)
    want_total, want_mass = reference(logits, label, weight, table, smoothing)
    np.testing.assert_allclose(total, want_total, rtol=1e-5)
    np.testing.assert_allclose(mass, want_mass, rtol=1e-6)


def test_class_weights_with_smoothing_weight_the_whole_pair_and_torch_each_term_of_its_target():
    """By hand: two pairs of classes 0 and 1 with probabilities (1/2, 1/2) and (1/4, 3/4), weights 1 and 3, s = 0.2."""
    logits, label = np.log([[[0.5, 0.5], [0.25, 0.75]]]), [[0, 1]]
    config = LossConfig(class_weights="given", weights=(1.0, 3.0), label_smoothing=0.2)
    loss = make_loss(config, TaskSpec(kind="classification", labels=("a", "b")), None)
    total, weight = loss(jnp.asarray(logits, jnp.float32), batch_of(label, [[1, 1]]), smoothing=0.2)
    # The targets are (0.9, 0.1) and (0.1, 0.9).
    ours = (1 * np.log(2) + 3 * (0.1 * np.log(4) + 0.9 * np.log(4 / 3))) / (1 + 3)
    torchs = (1 * 0.9 * np.log(2) + 3 * 0.1 * np.log(2) + 1 * 0.1 * np.log(4) + 3 * 0.9 * np.log(4 / 3)) / (1 + 3)
    assert (round(ours, 4), round(torchs, 4)) == (0.4714, 0.4368)
    assert float(total / weight) == pytest.approx(ours, abs=1e-6)
    # A weight of 3 is the same as having the pair three times.
    plain = make_loss(LossConfig(label_smoothing=0.2), TaskSpec(kind="classification", labels=("a", "b")), None)
    repeated = jnp.asarray(logits, jnp.float32)[:, np.array([0, 1, 1, 1])]
    total, weight = plain(repeated, batch_of([[0, 1, 1, 1]], [[1, 1, 1, 1]]), smoothing=0.2)
    assert float(total / weight) == pytest.approx(ours, abs=1e-6)


def test_balanced_weights_are_scikit_learns():
    label = np.repeat([0, 1, 2], [7, 2, 11])
    ours = class_weights(LossConfig(class_weights="balanced"), THREE, np.bincount(label))
    np.testing.assert_allclose(ours, compute_class_weight("balanced", classes=np.arange(3), y=label))


def test_an_empty_slot_adds_nothing_even_where_its_logits_are_nan():
    logits = jnp.asarray([[[1.0, 2.0, 3.0], [jnp.nan] * 3]])
    loss = make_loss(LossConfig(), THREE, None)
    total, mass = loss(logits, batch_of([[2, 0]], [[1, 0]]), smoothing=0.0)
    assert float(total) == pytest.approx(one([1.0, 2.0, 3.0], 2))
    assert float(mass) == 1.0


def test_nan_logits_of_a_real_pair_are_not_hidden():
    total, _ = make_loss(LossConfig(), THREE, None)(jnp.full((1, 1, 3), jnp.nan), batch_of([[0]], [[1]]))
    assert np.isnan(total)


def test_sums_over_micro_batches_add_up_to_those_of_the_whole():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(6, 2, 3)), jnp.float32)
    label, weight = rng.integers(0, 3, (6, 2)).astype(np.int32), rng.integers(0, 2, (6, 2))
    loss = make_loss(LossConfig(class_weights="given", weights=(0.5, 1.0, 3.0)), THREE, None)
    whole = loss(logits, batch_of(label, weight))
    halves = [loss(logits[part], batch_of(label[part], weight[part])) for part in (slice(0, 2), slice(2, 6))]
    np.testing.assert_allclose(np.sum(halves, axis=0), whole, rtol=1e-6)


def test_smoothing_is_traced_and_differentiates_members_under_vmap():
    logits, batch = jnp.asarray([[[2.0, -1.0, 0.0]]]), batch_of([[0]], [[1]])
    loss = make_loss(LossConfig(), THREE, None)
    many = jax.jit(jax.vmap(lambda s: loss(logits, batch, smoothing=s)[0]))(jnp.asarray([0.0, 0.1, 0.5]))
    alone = [reference(logits, np.asarray([[0]]), np.ones((1, 1)), np.ones(3), s)[0] for s in (0.0, 0.1, 0.5)]
    np.testing.assert_allclose(many, alone, rtol=1e-5)


def test_bfloat16_logits_are_reduced_in_float32():
    logits = jnp.asarray([[[1.0, 2.0]]], jnp.bfloat16)
    assert cross_entropy(logits, jnp.asarray([[1]])).dtype == jnp.float32


def test_regression_loss_is_the_squared_error_of_raw_scores():
    logits, label = jnp.asarray([[[3.5], [9.0]]]), np.asarray([[5.0, 0.0]], np.float32)
    np.testing.assert_allclose(squared_error(logits, jnp.asarray(label)), [[2.25, 81.0]])
    total, mass = make_loss(LossConfig(), SCORE, None)(logits, batch_of(label, [[1, 0]]))
    assert (float(total), float(mass)) == (2.25, 1.0)


@pytest.mark.parametrize(
    ("config", "task", "counts", "says"),
    [
        (
            LossConfig(class_weights="given", weights=(1.0, 2.0)),
            THREE,
            None,
            "got 2 weights; expected 3, for entailment",
        ),
        (LossConfig(class_weights="balanced"), THREE, np.asarray([3, 0, 1]), "no training pair of class neutral"),
        (LossConfig(class_weights="balanced"), SCORE, None, "--loss.class-weights balanced needs classes"),
        (LossConfig(label_smoothing=0.1), SCORE, None, "--loss.label-smoothing needs classes"),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused(config, task, counts, says):
    with pytest.raises(UserError, match=says):
        make_loss(config, task, counts)


def test_the_cross_entropy_of_a_sigmoids_two_logits_is_the_binary_cross_entropy_of_its_logit() -> None:
    logit, label = np.array([[[-3.0], [0.5], [80.0]]], np.float32), np.array([[0, 1, 0]])
    for positive in (0, 1):
        losses = cross_entropy(two_logits(jnp.asarray(logit), positive=positive), jnp.asarray(label))
        sign = np.where(label == positive, -1.0, 1.0)
        np.testing.assert_allclose(losses, np.logaddexp(0.0, sign * logit[..., 0]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("r_drop", [0.0, 0.5])
def test_distillation_equals_numpy(r_drop: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 3, 3))
    soft = rng.dirichlet(np.ones(3), (4, 3))
    label, weight = rng.integers(0, 3, (4, 3)), rng.integers(0, 2, (4, 3)).astype(np.float64)
    log_softmax = lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))  # noqa: E731
    passes = []
    for one_pass in logits:
        hard = -np.take_along_axis(log_softmax(one_pass), label[..., None], -1)[..., 0]
        passes.append(0.75 * 4.0 * -(soft * log_softmax(one_pass / 2.0)).sum(-1) + 0.25 * hard)
    first, second = map(log_softmax, logits)
    divergence = 0.5 * ((np.exp(first) - np.exp(second)) * (first - second)).sum(-1)
    wanted = (passes[0] + passes[1]) / 2 + r_drop * divergence if r_drop else passes[0]
    config = LossConfig(kind="soft", teacher="t", temperature=2.0, hard_share=0.25, r_drop=r_drop)
    batch = batch_of(label, weight)._replace(soft=soft.astype(np.float32))
    given = tuple(jnp.asarray(one_pass, jnp.float32) for one_pass in logits)
    total, mass = make_loss(config, THREE, None)(given if r_drop else given[0], batch)
    np.testing.assert_allclose(total, (wanted * weight).sum(), rtol=1e-5)
    np.testing.assert_allclose(mass, weight.sum())


def test_the_loss_of_several_labels_is_the_mean_binary_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(3, 2, 4)), rng.integers(0, 2, (3, 2, 4)).astype(np.float32)
    weight = np.array([[1, 0], [1, 1], [0, 1]])
    task = TaskSpec("multi-label", ("a", "b", "c", "d"))
    loss = make_loss(LossConfig(kind="multi-label"), task, None)
    for smoothing in (0.0, 0.2):
        target = (1 - smoothing) * label + smoothing / 2
        each = (target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits)).mean(-1)
        total, mass = loss(
            jnp.asarray(logits, jnp.float32), batch_of(weight, weight)._replace(label=label), smoothing=smoothing
        )
        np.testing.assert_allclose(total, (each * weight).sum(), rtol=1e-5)
        assert float(mass) == 4.0
