"""Scores and rotations that depend on the distance between two tokens.

The tokens of a pair are contiguous in a row, and so are those of each side of a bi-encoder. Tokens that may attend to
each other are therefore as far apart in the row as in their pair, and distances need no position ids.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pairjax.base.types import Disentangled

FARTHEST = 128
"""Distance from which MPNet's buckets are the same."""


def distances(length: int) -> Int[np.ndarray, " distances"]:
    """Returns the distances between two tokens of a row, from 1 - length to length - 1."""
    return np.arange(1 - length, length)


def mpnet_buckets(distance: Int[np.ndarray, "*shape"], *, buckets: int) -> Int[np.ndarray, "*shape"]:
    """Returns the bucket of each distance (key minus query), as T5 does: half of the buckets for each sign.

    A quarter of the buckets holds one distance each, and the rest grow logarithmically up to `FARTHEST` (Raffel et al.
    2020). The logarithms are in float32, as in torch.

    >>> mpnet_buckets(np.array([-200, -1, 0, 1, 9]), buckets=32).tolist()
    [15, 1, 0, 17, 24]
    """
    half = buckets // 2
    exact = half // 2
    far = np.abs(distance)
    logarithm = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
    steps = logarithm / np.float32(math.log(FARTHEST / exact)) * np.float32(half - exact)
    large = np.minimum(exact + steps.astype(np.int64), half - 1)
    return np.where(distance > 0, half, 0) + np.where(far < exact, far, large)


def deberta_rows(distance: Int[np.ndarray, "*shape"], positions: Disentangled) -> Int[np.ndarray, "*shape"]:
    """Returns the row of DeBERTa's relative embeddings for each distance (query minus key).

    Distances up to half of the buckets keep their own row, and longer ones share rows logarithmically (He et al. 2021).
    The logarithms are in float32, as in torch.
    """
    row = distance
    if positions.buckets:
        middle = positions.buckets // 2
        far = np.where(np.abs(distance) < middle, middle - 1, np.abs(distance))
        logarithm = np.log((far / middle).astype(np.float32))
        scale = np.log(np.float32((positions.max_distance - 1) / middle))
        steps = np.ceil(logarithm / scale * np.float32(middle - 1)).astype(np.int64) + middle
        row = np.where(far <= middle, distance, steps * np.sign(distance))
    return np.clip(row + positions.span, 0, 2 * positions.span - 1)


def by_distance(scores: Float[Array, "*leading length distances"]) -> Float[Array, "*leading length length"]:
    """Selects scores by distance: result[i, j] is scores[i, j - i + L - 1], for j - i from 1 - L to L - 1.

    Each row is shifted by one against the row before it, which a reshape does without a gather (Dai et al. 2019).

    >>> by_distance(jnp.array([[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    *leading, length, width = scores.shape
    padded = jnp.pad(scores, [(0, 0)] * (len(leading) + 1) + [(0, 1)])
    flat = padded.reshape(*leading, length * (width + 1))[..., length - 1 : length - 1 + length * width]
    return flat.reshape(*leading, length, width)[..., :length]


def mpnet_bias(table: Float[Array, "buckets heads"], length: int) -> Float[Array, "heads length length"]:
    """Returns the number that each head adds to the score of each pair of tokens in a row.

    Args:
        table: The number of each bucket and head.
        length: Token slots of the row.
    """
    buckets = mpnet_buckets(distances(length), buckets=len(table))
    rows = table[buckets].T[:, None, :]
    return by_distance(jnp.broadcast_to(rows, (table.shape[1], length, len(buckets))))


def rotation(
    position_ids: Int[Array, "rows length"], *, size: int, theta: float
) -> tuple[Float[Array, "rows length half"], Float[Array, "rows length half"]]:
    """Returns the cosine and the sine of the angle of each position and frequency, float32 (Su et al. 2021).

    Args:
        position_ids: Positions of the tokens.
        size: Width of a head.
        theta: Base of the frequencies.
    """
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = np.float32(1.0) / np.float32(theta) ** exponents
    angles = position_ids[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "rows length heads size"],
    angles: tuple[Float[Array, "rows length half"], Float[Array, "rows length half"]],
) -> Float[Array, "rows length heads size"]:
    """Rotates the two halves of each head's vector by the angles of its position."""
    cosine, sine = (part[:, :, None] for part in angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x.dtype)
