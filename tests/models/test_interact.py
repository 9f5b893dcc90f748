"""Which tokens attend to which in an interaction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.models.interact import Interaction, interaction_mask
from tests.models.rows import lay, random_pairs

KINDS = ("self", "joint", "cross")


def packed():
    return lay(random_pairs(4), "cross", [[0, 1], [2, 3]], length=40)


def attends(kind, pair_q, side_q, pair_s, side_s):
    if pair_q != pair_s:
        return False
    if pair_q == 0:
        return True
    return {"self": side_q == side_s, "joint": True, "cross": side_q != side_s}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_masks_equal_the_definition_token_by_token(kind):
    batch = packed()
    mask = np.asarray(interaction_mask(batch, kind=kind))
    for r, q, s in np.ndindex(*mask.shape):
        expected = attends(kind, batch.pair_ids[r, q], batch.side_ids[r, q], batch.pair_ids[r, s], batch.side_ids[r, s])
        assert mask[r, q, s] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_attends_to_some_token(kind):
    assert np.asarray(interaction_mask(packed(), kind=kind)).any(axis=-1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_depends_on_itself_and_on_the_tokens_that_the_mask_allows(kind):
    batch = packed()
    module = Interaction(kind=kind, layers=1, heads=2, intermediate=16, activation="gelu", eps=1e-12)
    hidden = jax.random.normal(jax.random.key(0), (2, 40, 8))

    @jax.jit
    def jacobian(hidden):
        params = module.init(jax.random.key(1), hidden, batch)
        return jax.jacrev(lambda x: module.apply(params, x, batch)[0, :, 0])(hidden)

    depends = np.abs(np.asarray(jacobian(hidden)[:, 0])).max(axis=-1) > 0  # [query, slot]
    expected = np.asarray(interaction_mask(batch, kind=kind))[0] | np.eye(40, dtype=bool)
    np.testing.assert_array_equal(depends, expected)


def test_each_layer_has_a_subtree_of_parameters():
    module = Interaction(kind="joint", layers=3, heads=2, intermediate=16, activation="relu", eps=1e-12)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((2, 40, 8)), packed())["params"]
    assert sorted(params) == ["layer_0", "layer_1", "layer_2"]


def test_dropout_at_rate_zero_equals_none_and_at_a_half_does_not():
    batch, hidden = packed(), jax.random.normal(jax.random.key(0), (2, 40, 8))
    module = Interaction(kind="joint", layers=1, heads=2, intermediate=16, activation="gelu", eps=1e-12)
    params = jax.jit(lambda key: jax.tree.map(lambda leaf: leaf * 8, module.init(key, hidden, batch)))(
        jax.random.key(1)
    )
    rng = {"dropout": jax.random.key(2)}
    apply = jax.jit(lambda params, rate: module.apply(params, hidden, batch, rate=rate, rngs=rng))
    plain = jax.jit(module.apply)(params, hidden, batch)
    np.testing.assert_allclose(apply(params, 0.0), plain, atol=1e-5)
    assert np.abs(apply(params, 0.5) - plain).max() > 0.1
