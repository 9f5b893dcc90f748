"""Pools tokens into vectors by masked reductions; masks come from comparisons, so packed rows need no indices."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Float32

from pairjax.base.model_config import ProjectConfig
from pairjax.base.types import Batch
from pairjax.models.heads import ACTIVATIONS
from pairjax.models.layers import KERNEL_INIT

Pooling = Literal["cls", "pooler", "mean", "max"]
Over = Literal["pair", "sides"]


def parts_mask(batch: Batch, *, over: Over, sides: int = 2) -> Bool[Array, "rows slots parts length"]:
    """Returns which token slots belong to each part of pair slot k: the pair (one part), or its sides.

    There are as many pair slots K as in `batch.weight` [R, K]. Slot k holds the tokens with pair id k + 1. Special
    tokens belong to the side that they close.
    """
    slots = jnp.arange(1, batch.weight.shape[1] + 1, dtype=jnp.int32)
    inside = (jnp.asarray(batch.pair_ids)[:, None, :] == slots[None, :, None])[:, :, None, :]
    if over == "pair":
        return inside
    numbers = jnp.arange(sides, dtype=jnp.int32)
    return inside & (jnp.asarray(batch.side_ids)[:, None, None, :] == numbers[None, None, :, None])


def pool(
    hidden: Float[Array, "rows length dim"], batch: Batch, *, pooling: Pooling, over: Over, sides: int = 2
) -> Float32[Array, "rows slots parts dim"]:
    """Pools hidden states into one vector per pair or per side.

    Args:
        hidden: Hidden states of the tokens.
        batch: The batch that they belong to.
        pooling: `cls` and `pooler` take the token at position 0, which is the first side's if the pair is pooled as
            one; the pair model applies the pooler's dense layer. `mean` and `max` use all tokens, special ones
            included, as sentence-transformers does.
        over: Whether a part is the whole `pair` or one of its `sides`.
        sides: Number of texts of an example: 3 for triplets.

    Returns:
        The vectors in float32; zeros for a part without tokens.

    >>> from pairjax.models.batches import tiny_batch
    >>> hidden = jnp.array([[[1.0], [2.0], [5.0], [6.0]]])  # two tokens of each side
    >>> pool(hidden, tiny_batch(), pooling="mean", over="sides").tolist()
    [[[[1.5], [5.5]]]]
    >>> pool(hidden, tiny_batch(), pooling="cls", over="pair").tolist()
    [[[[1.0]]]]
    """
    mask = parts_mask(batch, over=over, sides=sides)
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


class Project(nn.Module):
    """Dense layers on each pooled vector, and its scaling to length 1, as modules of sentence-transformers do it.

    Attributes:
        config: Widths and activation of the layers, named `dense_{i}`, and whether vectors get length 1.
    """

    config: ProjectConfig

    @nn.compact
    def __call__(self, x: Float32[Array, "rows slots parts dim"]) -> Float32[Array, "rows slots parts size"]:
        """Computes the projected vectors."""
        for index, width in enumerate(self.config.sizes):
            dense = nn.Dense(width, kernel_init=KERNEL_INIT, name=f"dense_{index}")
            x = ACTIVATIONS[self.config.activation](dense(x))
        if self.config.normalize:
            x = x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
        return x
