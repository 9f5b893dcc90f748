"""Combiners and pooling against NumPy and the chapter's worked examples."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.models.combine import Gate, VectorAttention, pair_features
from pairjax.models.pool import pool
from tests.models.rows import lay, random_pairs

U, V = [0.1, 0.2, 0.768], [0.2, 0.1, 0.8]
FEATURES = ("u", "v", "u-v", "|u-v|", "u*v")
SUBSETS = [subset for size in range(1, 6) for subset in combinations(FEATURES, size)]


def slot(values):
    return jnp.asarray([[values]], jnp.float32)


def vectors(seed=0, shape=(3, 2, 8)):
    return jax.random.normal(jax.random.key(seed), shape), jax.random.normal(jax.random.key(seed + 1), shape)


def joined(u, v, features):
    return jnp.concatenate(pair_features(u, v, features), axis=-1)


def test_chapter_difference():
    np.testing.assert_allclose(joined(slot(U), slot(V), ("u-v",))[0, 0], [-0.1, 0.1, -0.032], atol=1e-6)


def test_chapter_product():
    np.testing.assert_allclose(joined(slot(U), slot(V), ("u*v",))[0, 0], [0.02, 0.02, 0.6144], atol=1e-6)


def test_chapter_sizes_of_concatenation_and_combination():
    u, v = vectors(shape=(1, 1, 768))
    assert joined(u, v, ("u", "v")).shape[-1] == 1536
    assert joined(u, v, ("u", "v", "u-v", "u*v")).shape[-1] == 3072


def test_chapter_attention_gate_is_the_elementwise_product():
    h = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    a = np.asarray([0.1, 0.1, 0.3, 0.3, 0.2, 0.2, 0.4, 0.3, 0.0, 0.1])
    with np.errstate(divide="ignore"):
        bias = jnp.asarray(np.log(a) - np.log1p(-a), jnp.float32)
    params = {"params": {"gate": {"kernel": jnp.zeros((10, 10)), "bias": bias}}}
    result = Gate().apply(params, slot(h))[0, 0]
    np.testing.assert_allclose(result, [0.01, 0.02, 0.09, 0.12, 0.10, 0.12, 0.28, 0.24, 0.0, 0.10], atol=1e-6)


@pytest.mark.parametrize("features", SUBSETS, ids=" ".join)
def test_every_subset_of_features_equals_numpy_in_the_given_order(features):
    u, v = map(np.asarray, vectors())
    values = {"u": u, "v": v, "u-v": u - v, "|u-v|": np.abs(u - v), "u*v": u * v}
    for order in (features, features[::-1]):
        expected = np.concatenate([values[name] for name in order], axis=-1)
        np.testing.assert_array_equal(joined(jnp.asarray(u), jnp.asarray(v), order), expected)


def test_only_product_and_distance_are_symmetric():
    u, v = vectors()
    for features in SUBSETS:
        same = np.allclose(joined(u, v, features), joined(v, u, features))
        assert same == (set(features) <= {"|u-v|", "u*v"})


def test_gate_equals_numpy():
    x, _ = vectors()
    params = jax.tree.map(lambda leaf: leaf * 20 + 0.1, Gate().init(jax.random.key(1), x))
    kernel, bias = params["params"]["gate"]["kernel"], params["params"]["gate"]["bias"]
    expected = np.asarray(x) / (1 + np.exp(-(np.asarray(x) @ np.asarray(kernel) + np.asarray(bias))))
    np.testing.assert_allclose(Gate().apply(params, x), expected, rtol=1e-5, atol=1e-6)


def test_attention_over_vectors_mixes_only_the_parts_of_a_pair():
    u, v = vectors()
    module = VectorAttention(layers=2, heads=2, intermediate=16, activation="gelu", eps=1e-12)
    parts = pair_features(u, v, ("u", "v", "u*v"))
    params = module.init(jax.random.key(1), parts)
    assert sorted(params["params"]) == ["layer_0", "layer_1", "position"]
    out = module.apply(params, parts)
    assert out.shape == (3, 2, 24)
    moved = module.apply(params, [u.at[1, 0].add(1.0), *parts[1:]])
    changed = np.abs(np.asarray(moved - out)).reshape(3, 2, 3, 8).max(axis=-1) > 1e-6
    assert changed[1, 0].all()
    assert changed.sum() == 3


def test_attention_over_vectors_distinguishes_u_and_v():
    u, v = vectors()
    module = VectorAttention(layers=1, heads=2, intermediate=16, activation="gelu", eps=1e-12)
    params = module.init(jax.random.key(1), [u, v])
    forward, swapped = module.apply(params, [u, v]), module.apply(params, [v, u])
    assert np.abs(forward - jnp.concatenate([swapped[..., 8:], swapped[..., :8]], axis=-1)).max() > 1e-3


def pooled_by_hand(hidden, batch, pooling, over):
    parts = 1 if over == "pair" else 2
    out = np.zeros((*batch.weight.shape, parts, hidden.shape[-1]))
    for r, k, p in np.ndindex(*out.shape[:3]):
        own = batch.pair_ids[r] == k + 1
        if over == "sides":
            own &= batch.side_ids[r] == p
        places = np.flatnonzero(own)
        if len(places) == 0:
            continue
        tokens = hidden[r, places]
        out[r, k, p] = {"cls": tokens[0], "pooler": tokens[0], "mean": tokens.mean(0), "max": tokens.max(0)}[pooling]
    return out


PLACES = [("cross", "pair"), ("bi", "sides"), ("bi", "pair"), ("cross", "sides")]
POOLINGS = [
    (kind, over, pooling)
    for kind, over in PLACES
    for pooling in ("cls", "pooler", "mean", "max")
    # The second side of a joint row has no [CLS]; the configuration refuses this combination.
    if (kind, over) != ("cross", "sides") or pooling in ("mean", "max")
]


@pytest.mark.parametrize(("kind", "over", "pooling"), POOLINGS)
def test_pooling_of_packed_rows_equals_numpy_and_empty_slots_are_zero(kind, over, pooling):
    batch = lay(random_pairs(5), kind, [[0, 1], [2], [3, 4]], slots=3)
    hidden = np.random.default_rng(0).normal(size=(3, batch.pair_ids.shape[1], 4)).astype(np.float32)
    result = jax.jit(lambda h: pool(h, batch, pooling=pooling, over=over))(jnp.asarray(hidden))
    np.testing.assert_allclose(result, pooled_by_hand(hidden, batch, pooling, over), rtol=1e-5, atol=1e-6)
    grad = jax.grad(lambda h: pool(h, batch, pooling=pooling, over=over).sum())(jnp.asarray(hidden))
    assert np.isfinite(grad).all()
    assert not np.asarray(grad)[np.asarray(batch.pair_ids) == 0].any()
