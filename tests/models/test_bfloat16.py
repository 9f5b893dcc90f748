"""bfloat16 against float64: each result is the exact one for its bfloat16 inputs, rounded about once.

Errors are in units of the spacing of bfloat16 at the exact value; correct rounding gives at most 0.5.
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from scipy.special import log_softmax, ndtr, softmax

from pairjax.models.attention import Attention
from pairjax.models.batches import tiny_batch
from pairjax.models.dropout import dropout
from pairjax.models.layers import LayerNorm, activate
from pairjax.models.pool import pool
from pairjax.step.losses import cross_entropy, masked_cross_entropy, symmetric_divergence

SLOPE = np.sqrt(8 / np.pi)


def wide(x) -> np.ndarray:
    return np.asarray(jnp.asarray(x).astype(jnp.float32)).astype(np.float64)


def narrow(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32).astype(jnp.bfloat16)


def errors(result: jax.Array, exact: np.ndarray) -> np.ndarray:
    """Returns the error of each bfloat16 result in units of the spacing at the exact value."""
    assert result.dtype == jnp.bfloat16
    spacing = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(exact), 2.0**-126))) - 7)
    return np.abs(wide(result) - exact) / spacing


def every_bfloat16() -> jax.Array:
    """Returns every bfloat16 in [-12, 30] whose magnitude is above 1e-30; GELU of -12 is 2e-32."""
    values = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    with np.errstate(invalid="ignore"):
        values = values[(values >= -12) & (values <= 30)]
    return jnp.asarray(values[np.abs(values.astype(np.float32)) > 1e-30])


def gelu(x: np.ndarray) -> np.ndarray:
    return x * ndtr(x)


def gelu_slope(x: np.ndarray) -> np.ndarray:
    return ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def gelu_new(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-SLOPE * (x + 0.044715 * x**3)))


def gelu_new_slope(x: np.ndarray) -> np.ndarray:
    gate = 1 / (1 + np.exp(-SLOPE * (x + 0.044715 * x**3)))
    return gate + x * gate * (1 - gate) * SLOPE * (1 + 3 * 0.044715 * x**2)


@pytest.mark.parametrize(
    ("name", "exact", "slope", "low"), [("gelu", gelu, gelu_slope, -12), ("gelu_new", gelu_new, gelu_new_slope, -6)]
)
def test_gelu_of_every_bfloat16_is_the_exact_one_rounded_and_better_than_jaxs(name, exact, slope, low):
    x = every_bfloat16()
    x = x[x >= low]
    expected = exact(wide(x))
    error = errors(jax.jit(activate, static_argnums=1)(x, name), expected)
    # Measured: 0.503. Computed in bfloat16, 90 % of the inputs in [-4, -3] gave 0, an error of up to 255.
    assert error.max() < 0.51
    approximate = name == "gelu_new"
    jaxs = errors(jax.jit(lambda x: jax.nn.gelu(x, approximate=approximate))(x), expected)
    assert jaxs.max() > 1.1
    assert error.mean() < jaxs.mean()
    # The slope passes through 0, where no relative error is small, so its spacing is at least that of 2^-6.
    gradient = jax.jit(jax.vmap(jax.grad(lambda x: activate(x, name))))(x)
    away = np.abs(slope(wide(x))) > 2.0**-6
    assert errors(gradient[away], slope(wide(x))[away]).max() < 0.51
    np.testing.assert_allclose(wide(gradient), slope(wide(x)), atol=2.0**-8)


def test_layer_norm_is_the_exact_one_rounded():
    generator = np.random.default_rng(0)
    x = narrow(generator.normal(3.0, 2.0, (64, 384)))
    params = {"scale": jnp.asarray(generator.uniform(0.5, 2, 384), jnp.float32), "bias": jnp.zeros(384)}
    centred = wide(x) - wide(x).mean(-1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * wide(params["scale"])
    result = LayerNorm(1e-12, dtype=jnp.bfloat16).apply({"params": params}, x)
    assert errors(result, exact).max() < 0.51


def attention_error(heads: int) -> float:
    """Returns the mean error of attention of width 96, in units of 2^-7 times the output's standard deviation."""
    generator = np.random.default_rng(heads)
    x = narrow(generator.normal(0, 1, (4, 24, 96)))
    mask = jnp.ones((4, 24, 24), bool)
    module = Attention(heads, dtype=jnp.bfloat16)
    params = module.init(jax.random.key(0), x, x, mask)["params"]
    params = jax.tree.map(lambda leaf: narrow(leaf * 5).astype(jnp.float32), params)
    weights = {name: (wide(part["kernel"]), wide(part["bias"])) for name, part in params.items()}
    q, k, v = ((wide(x) @ weights[n][0] + weights[n][1]).reshape(4, 24, heads, -1) for n in ("query", "key", "value"))
    probabilities = softmax(np.einsum("rqhd,rshd->rhqs", q, k) / np.sqrt(96 / heads), axis=-1)
    exact = np.einsum("rhqs,rshd->rqhd", probabilities, v).reshape(4, 24, 96) @ weights["out"][0]
    result = wide(module.apply({"params": params}, x, x, mask))
    return float(np.abs(result - exact).mean() / exact.std() * 2**7)


@pytest.mark.parametrize("heads", [6, 3, 2])
def test_attention_stays_within_the_rounding_of_its_products(heads):
    # Measured: 0.39, 0.41, 0.39. With queries scaled in bfloat16: 0.39, 0.42, 0.43.
    assert attention_error(heads) < 0.41


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_survivors_of_dropout_are_scaled_exactly_and_rounded(rate):
    x = narrow(np.random.default_rng(0).normal(size=(64, 64)))
    kept = dropout(x, rate, jax.random.key(0))
    alive = np.asarray(kept != 0)
    assert errors(kept[alive], wide(x)[alive] / (1 - rate)).max() < 0.51
    # In bfloat16 the scale 1 / 0.9 itself is too small by 0.16 %.
    total = np.abs(wide(kept)[alive]).sum()
    assert total == pytest.approx(np.abs(wide(x)[alive]).sum() / (1 - rate), rel=2e-4)


def test_pooling_and_the_poolers_tanh_are_in_float32():
    hidden = narrow(np.random.default_rng(0).normal(size=(1, 4, 16)))
    for pooling in ("cls", "mean", "max"):
        pooled = pool(hidden, tiny_batch(), pooling=pooling, over="pair")
        assert pooled.dtype == jnp.float32
    mean = pool(hidden, tiny_batch(), pooling="mean", over="pair")
    np.testing.assert_allclose(mean[0, 0, 0], wide(hidden)[0].mean(0), rtol=1e-6, atol=1e-7)


def test_losses_of_bfloat16_logits_are_in_float32():
    generator = np.random.default_rng(0)
    left, right = (narrow(generator.normal(0, 4, (8, 3, 1000))) for _ in range(2))
    label = generator.integers(0, 1000, (8, 3))
    log_p, log_q = log_softmax(wide(left), axis=-1), log_softmax(wide(right), axis=-1)
    true = np.take_along_axis(log_p, label[..., None], axis=-1)[..., 0]
    smoothed = -(0.9 * true + 0.1 * log_p.mean(-1))
    np.testing.assert_allclose(cross_entropy(left, jnp.asarray(label), smoothing=0.1), smoothed, rtol=1e-6)
    np.testing.assert_allclose(masked_cross_entropy(left, jnp.asarray(label)), -true, rtol=1e-6)
    divergence = 0.5 * ((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q)).sum(-1)
    np.testing.assert_allclose(symmetric_divergence(left, right), divergence, rtol=1e-5)
