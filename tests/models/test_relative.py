"""Buckets of distances, shifted scores and rotations against their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.base.types import Disentangled
from pairjax.models.relative import by_distance, deberta_rows, distances, mpnet_bias, mpnet_buckets, rotate, rotation


def test_scores_are_selected_by_distance():
    length = 5
    scores = np.random.default_rng(0).normal(size=(2, length, 2 * length - 1)).astype(np.float32)
    got = np.asarray(by_distance(jnp.asarray(scores)))
    for i in range(length):
        for j in range(length):
            np.testing.assert_array_equal(got[:, i, j], scores[:, i, j - i + length - 1])


def test_every_head_adds_the_number_of_the_distance_s_bucket():
    table = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    bias = np.asarray(mpnet_bias(jnp.asarray(table), 40))
    query, key = np.meshgrid(np.arange(40), np.arange(40), indexing="ij")
    np.testing.assert_array_equal(bias, table[mpnet_buckets(key - query, buckets=32)].transpose(2, 0, 1))


def test_deberta_s_buckets_are_odd_and_grow():
    positions = Disentangled(256, 256, 512, ("c2p",), shared_keys=True, norm=True)
    rows = deberta_rows(distances(512), positions) - 256
    np.testing.assert_array_equal(rows, -rows[::-1])
    assert (np.diff(rows) >= 0).all()
    assert rows[511:].tolist()[:129] == list(range(129))
    assert rows.max() == 255
    plain = Disentangled(24, 0, 24, ("c2p",), shared_keys=True, norm=True)
    assert deberta_rows(np.array([-30, -24, 0, 23, 30]), plain).tolist() == [0, 0, 24, 47, 47]


@pytest.mark.parametrize("theta", [10_000.0, 50.0])
def test_rotated_scores_depend_on_the_distance_alone(theta):
    rng = np.random.default_rng(0)
    q, k = (jnp.tile(jnp.asarray(rng.normal(size=(1, 1, 2, 8)), jnp.float32), (1, 6, 1, 1)) for _ in range(2))
    positions = jnp.arange(6, dtype=jnp.int32)[None]
    angles = rotation(positions, size=8, theta=theta)
    scores = np.einsum("rqhd,rkhd->rhqk", rotate(q, angles), rotate(k, angles))[0, 0]
    for offset in range(-5, 6):
        np.testing.assert_allclose(np.diagonal(scores, offset), np.diagonal(scores, offset)[0], atol=1e-5)


def test_buckets_equal_torch_live():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    deberta = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2")
    mpnet = pytest.importorskip("transformers.models.mpnet.modeling_mpnet")
    far = torch.arange(-600, 601)
    expected = mpnet.MPNetEncoder.relative_position_bucket(far).numpy()
    np.testing.assert_array_equal(mpnet_buckets(far.numpy(), buckets=32), expected)
    for buckets, farthest in ((256, 512), (8, 24), (6, 24), (32, 128)):
        positions = Disentangled(buckets, buckets, farthest, ("c2p",), shared_keys=True, norm=True)
        expected = deberta.make_log_bucket_position(far, buckets, farthest).numpy() + buckets
        rows = deberta_rows(far.numpy(), positions)
        np.testing.assert_array_equal(rows, np.clip(expected, 0, 2 * buckets - 1).astype(int))
