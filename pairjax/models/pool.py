"""Tokens to vectors: masked reductions over slots, found by comparison, so that packed rows need no index."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from pairjax.base.types import Batch

Pooling = Literal["cls", "pooler", "mean", "max"]
Over = Literal["pair", "sides"]


def parts_mask(batch: Batch, *, over: Over) -> Bool[Array, "rows slots parts length"]:
    """Which token slots belong to pair slot k: all of the pair's (one part), or A's and B's (two).

    The number of pair slots K is that of `batch.weight` [R, K]; slot k holds the tokens with pair id k + 1. Special
    tokens count as tokens of the side that they close.
    """
    slots = jnp.arange(1, batch.weight.shape[1] + 1, dtype=jnp.int32)
    inside = (jnp.asarray(batch.pair_ids)[:, None, :] == slots[None, :, None])[:, :, None, :]
    if over == "pair":
        return inside
    sides = jnp.arange(2, dtype=jnp.int32)
    return inside & (jnp.asarray(batch.side_ids)[:, None, None, :] == sides[None, None, :, None])


def pool(
    hidden: Float[Array, "rows length dim"], batch: Batch, *, pooling: Pooling, over: Over
) -> Float32[Array, "rows slots parts dim"]:
    """One vector for each pair (`over` pair) or for each of its sides, in float32.

    `cls` and `pooler` read h_CLS, the token at position 0 (the pooler's own dense layer comes after, in the pair
    model); over a pair that is A's leading token. `mean` and `max` read all tokens, special ones included, as
    sentence-transformers does. A part without tokens gives zeros.
    """
    mask = parts_mask(batch, over=over)
    match pooling:
        case "cls" | "pooler":
            first = jnp.asarray(batch.position_ids) == 0
            if over == "pair":
                first &= jnp.asarray(batch.side_ids) == 0
            return _weighted_sum(hidden, (mask & first[:, None, None, :]).astype(jnp.float32))
        case "mean":
            count = jnp.sum(mask, axis=-1, keepdims=True, dtype=jnp.float32)
            return _weighted_sum(hidden, mask.astype(jnp.float32)) / jnp.maximum(count, 1.0)
        case "max":
            tokens = hidden.astype(jnp.float32)[:, None, None]
            highest = jnp.max(jnp.where(mask[..., None], tokens, -jnp.inf), axis=-2)
            return jnp.where(jnp.any(mask, axis=-1, keepdims=True), highest, 0.0)


def _weighted_sum(
    hidden: Float[Array, "rows length dim"], weights: Float32[Array, "rows slots parts length"]
) -> Float32[Array, "rows slots parts dim"]:
    return jnp.einsum("rkpl,rld->rkpd", weights, hidden.astype(jnp.float32))
