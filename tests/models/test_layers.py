"""Dropout, activations, LayerNorm and attention against plain NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax

from pairjax.models.attention import Attention
from pairjax.models.layers import LayerNorm, TransformerLayer, activate, dropout


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dropout_of_rate_zero_gives_x_bit_for_bit(dtype):
    x = jax.random.normal(jax.random.key(0), (5, 7)).astype(dtype)
    assert jnp.array_equal(jax.jit(dropout)(x, 0.0, jax.random.key(1)), x)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_has_the_right_rate_and_expectation(rate):
    x = jnp.ones((400, 501))
    y = np.asarray(jax.jit(dropout)(x, rate, jax.random.key(2)))
    kept = (y > 0).mean()
    spread = np.sqrt(rate * (1 - rate) / y.size)
    assert abs(kept - (1 - rate)) < 5 * spread
    np.testing.assert_allclose(y[y > 0], 1 / (1 - rate), rtol=2e-4)
    assert abs(y.mean() - 1) < 5 * spread / (1 - rate)


def test_dropout_scales_by_the_keep_rate():
    for rate in (0.1, 0.3, 1e-6, 0.99):
        y = np.asarray(dropout(jnp.ones((64, 64)), rate, jax.random.key(0)))
        np.testing.assert_allclose(y[y > 0], 1 / (1 - rate), rtol=1e-5)


def test_dropout_is_exact_at_very_small_rates():
    kept = np.asarray(jax.jit(dropout)(jnp.ones((4000, 4000)), 1e-5, jax.random.key(0)) > 0)
    assert abs((~kept).sum() - 160) < 5 * np.sqrt(160)


def test_dropout_of_neighbours_and_of_keys_is_independent():
    shape = (200, 200)
    first, second = (np.asarray(dropout(jnp.ones(shape), 0.5, jax.random.key(key)) > 0) for key in (0, 1))
    limit = 5 * 0.5 / np.sqrt(first.size)
    assert abs((first == second).mean() - 0.5) < limit
    for axis in (0, 1):
        for step in (1, 2, 3):
            assert abs((first == np.roll(first, step, axis)).mean() - 0.5) < limit


def test_dropout_is_a_function_of_its_key_and_the_same_under_vmap():
    x = jax.random.normal(jax.random.key(0), (3, 4, 9))
    rates, keys = jnp.asarray([0.0, 0.2, 0.5]), jax.random.split(jax.random.key(1), 3)
    together = jax.jit(jax.vmap(dropout))(x, rates, keys)
    for member in range(3):
        alone = jax.jit(dropout)(x[member], rates[member], keys[member])
        assert jnp.array_equal(together[member], alone)
    assert not jnp.array_equal(together[1] == 0, together[2] == 0)


def test_gradient_of_dropout_is_its_mask():
    x, key = jnp.full((8, 8), 2.0), jax.random.key(0)
    grad = jax.jit(jax.grad(lambda x: dropout(x, 0.25, key).sum()))(x)
    np.testing.assert_allclose(grad, dropout(x, 0.25, key) / x, rtol=1e-6)


def test_activations_equal_their_definitions():
    x = np.linspace(-9, 9, 2001, dtype=np.float32)
    wide = x.astype(np.float64)
    exact = wide * 0.5 * (1 + erf(wide / np.sqrt(2)))
    tanh = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    for name, expected in (("gelu", exact), ("gelu_new", tanh), ("relu", np.maximum(wide, 0))):
        np.testing.assert_allclose(activate(jnp.asarray(x), name), expected, atol=1e-6)


def test_gradient_of_gelu_equals_its_derivative():
    x = np.linspace(-6, 6, 501, dtype=np.float32)
    wide = x.astype(np.float64)
    expected = 0.5 * (1 + erf(wide / np.sqrt(2))) + wide * np.exp(-(wide**2) / 2) / np.sqrt(2 * np.pi)
    result = jax.vmap(jax.grad(lambda v: activate(v[None], "gelu")[0]))(jnp.asarray(x))
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_unknown_activation_is_an_error():
    with pytest.raises(ValueError, match="swish"):
        activate(jnp.ones(2), "swish")


def test_layer_norm_keeps_its_precision_far_from_zero():
    x = np.random.default_rng(0).normal(300.0, 0.5, (4, 64)).astype(np.float32)
    scale, bias = np.linspace(0.5, 2, 64), np.linspace(-1, 1, 64)
    params = {"scale": jnp.asarray(scale, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5) * scale + bias
    result = LayerNorm(1e-5).apply({"params": params}, jnp.asarray(x))
    # The mean is accurate to 300 * 2^-24 only; a one-pass variance would be off by 0.1.
    np.testing.assert_allclose(result, expected, atol=3e-4)


def numpy_attention(params, queries, keys, mask, *, heads):
    """Computes attention by loops over rows and heads, in float64."""
    dense = lambda x, part: x @ np.asarray(part["kernel"], np.float64) + np.asarray(part["bias"], np.float64)  # noqa: E731
    q, k, v = dense(queries, params["query"]), dense(keys, params["key"]), dense(keys, params["value"])
    size = q.shape[-1] // heads
    out = np.zeros_like(q)
    for row in range(len(q)):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[row, :, part] @ k[row, :, part].T / np.sqrt(size)
            out[row, :, part] = softmax(np.where(mask[row], scores, -1e30), axis=-1) @ v[row, :, part]
    return dense(out, params["out"])


@pytest.mark.parametrize("same", [True, False])
def test_attention_equals_loops_over_rows_and_heads(same):
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(2, 5, 12)).astype(np.float32)
    keys = queries if same else rng.normal(size=(2, 7, 12)).astype(np.float32)
    mask = rng.random((2, 5, keys.shape[1])) < 0.6
    mask[:, :, 0] = True
    module = Attention(heads=3)
    x = jnp.asarray(queries)
    y = x if same else jnp.asarray(keys)
    allowed = jnp.asarray(mask)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, y, allowed)["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), shapes)
    result = jax.jit(lambda p, m: module.apply({"params": p}, x, x if same else y, m))(params, allowed)
    np.testing.assert_allclose(result, numpy_attention(params, queries, keys, mask, heads=3), atol=2e-6)


def test_masked_keys_have_no_influence_and_no_gradient():
    x = jax.random.normal(jax.random.key(0), (1, 4, 8))
    mask = jnp.asarray([[[True, True, False, True]] * 4])
    module = Attention(heads=2)
    params = jax.jit(module.init)(jax.random.key(1), x, x, mask)
    keys = jax.random.normal(jax.random.key(2), (1, 4, 8))
    grad = jax.jit(jax.grad(lambda keys: module.apply(params, x, keys, mask).sum()))(keys)
    assert not grad[0, 2].any()
    assert grad[0, 1].any()
    far = jax.jit(module.apply)(params, x, keys.at[0, 2].set(1e4), mask)
    assert jnp.array_equal(far, jax.jit(module.apply)(params, x, keys, mask))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_query_without_keys_is_finite_with_finite_gradients(dtype):
    x = jax.random.normal(jax.random.key(0), (2, 4, 8)).astype(dtype)
    mask = jnp.zeros((2, 4, 4), bool)
    layer = TransformerLayer(heads=2, intermediate=16, activation="gelu", eps=1e-12, dtype=dtype)
    params = jax.jit(layer.init)(jax.random.key(1), x, mask)
    value, grads = jax.jit(jax.value_and_grad(lambda p: (layer.apply(p, x, mask).astype(jnp.float32) ** 3).sum()))(
        params
    )
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_a_layer_attends_to_the_given_context():
    x, context = (jax.random.normal(jax.random.key(seed), (1, length, 8)) for seed, length in ((0, 3), (1, 5)))
    layer = TransformerLayer(heads=2, intermediate=16, activation="relu", eps=1e-12)
    mask = jnp.ones((1, 3, 5), bool)
    params = jax.jit(layer.init)(jax.random.key(2), x, mask, context=context)
    apply = jax.jit(lambda context: layer.apply(params, x, mask, context=context))
    assert apply(context).shape == x.shape
    assert jnp.abs(apply(context) - apply(context + 1.0)).max() > 1e-3
    # There are no positions here, so the order of the context does not matter.
    np.testing.assert_allclose(apply(context), apply(context[:, ::-1]), atol=1e-6)
