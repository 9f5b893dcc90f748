"""The classifier against NumPy and the chapter's worked example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from pairjax.models.heads import Head


def test_chapter_relu_on_logits_then_softmax():
    head = Head(outputs=2, relu_logits=True)
    params = {"params": {"logits": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
    logits = head.apply(params, jnp.asarray([[[-0.15, 0.25]]]))
    np.testing.assert_allclose(logits[0, 0], [0.0, 0.25], atol=1e-7)
    np.testing.assert_allclose(jax.nn.softmax(logits)[0, 0], [0.4378, 0.5622], atol=5e-5)


def test_logits_may_be_negative_without_relu():
    params = {"params": {"logits": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
    logits = Head(outputs=2).apply(params, jnp.asarray([[[-0.15, 0.25]]]))
    np.testing.assert_allclose(logits[0, 0], [-0.15, 0.25], atol=1e-7)


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("tanh", np.tanh),
        ("gelu", lambda x: 0.5 * x * (1 + erf(x / 2**0.5))),
    ],
    ids=["relu", "tanh", "gelu"],
)
def test_hidden_layers_equal_numpy(activation, reference):
    head = Head(outputs=3, hidden=(7, 5), activation=activation)
    x = jax.random.normal(jax.random.key(0), (2, 3, 6))
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(head.init, jax.random.key(1), x)["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    assert sorted(params) == ["hidden_0", "hidden_1", "logits"]
    h = np.asarray(x, np.float64)
    for name in ("hidden_0", "hidden_1"):
        h = reference(h @ np.asarray(params[name]["kernel"], np.float64) + np.asarray(params[name]["bias"]))
    expected = h @ np.asarray(params["logits"]["kernel"], np.float64) + np.asarray(params["logits"]["bias"])
    np.testing.assert_allclose(head.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-5)


def test_new_kernels_have_berts_spread_and_biases_are_zero():
    params = Head(outputs=64).init(jax.random.key(0), jnp.zeros((1, 1, 512)))["params"]["logits"]
    assert float(jnp.std(params["kernel"])) == pytest.approx(0.02, rel=0.02)
    assert not params["bias"].any()


def test_dropout_precedes_each_dense_layer():
    head = Head(outputs=4, hidden=(64,))
    params = {
        "hidden_0": {"kernel": jnp.eye(64), "bias": jnp.zeros(64)},
        "logits": {"kernel": jnp.eye(64)[:, :4], "bias": jnp.ones(4)},
    }
    x = jnp.ones((200, 1, 64))
    out = head.apply({"params": params}, x, rate=0.5, rngs={"dropout": jax.random.key(1)})
    values, counts = np.unique(np.asarray(out), return_counts=True)
    np.testing.assert_allclose(values, [1.0, 5.0])  # kept twice: 2 * 2 + 1; dropped once: the bias
    assert counts[1] / counts.sum() == pytest.approx(0.25, abs=0.05)
