"""Attention over the tokens of a pair, after the encoder and before pooling (the chapter's "attention over tokens")."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from pairjax.base.types import Batch
from pairjax.models.layers import TransformerLayer

Interact = Literal["self", "joint", "cross"]


def interaction_mask(batch: Batch, *, kind: Interact) -> Bool[Array, "rows length length"]:
    """Who may read whom: [r, q, s] is whether token q reads token s.

    `self`: pair and side agree. `joint`: the pair agrees. `cross`: the pair agrees and the sides differ, so that each
    side reads the other; its residual keeps what it was. Padding reads padding, which nobody else reads.
    """
    pair, side = jnp.asarray(batch.pair_ids), jnp.asarray(batch.side_ids)
    same_pair = pair[:, :, None] == pair[:, None, :]
    same_side = side[:, :, None] == side[:, None, :]
    match kind:
        case "joint":
            return same_pair
        case "self":
            return same_pair & same_side
        case "cross":
            # A row of the mask without any True would leave a softmax over nothing: padding keeps its own.
            padding = (pair == 0)[:, :, None]
            return same_pair & (padding | ~same_side)


class Interaction(nn.Module):
    """A stack of transformer layers whose mask says what an interaction is.

    Attributes:
        kind: Within each side, over both laid end to end, or each side reading the other.
        layers: Layers, each `layer_{i}`.
        heads: Attention heads; must divide the width of the tokens.
        intermediate: Width of the feed-forward sublayers.
        activation: Theirs.
        eps: Of the layer normalisations.
        dtype: Of the activations.
    """

    kind: Interact
    layers: int
    heads: int
    intermediate: int
    activation: str
    eps: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "rows length dim"], batch: Batch, *, rate: ArrayLike | None = None
    ) -> Float[Array, "rows length dim"]:
        """Tokens after the interaction; `rate` None means no dropout."""
        mask = interaction_mask(batch, kind=self.kind)
        hidden = hidden.astype(self.dtype)
        for index in range(self.layers):
            layer = TransformerLayer(
                heads=self.heads,
                intermediate=self.intermediate,
                activation=self.activation,
                eps=self.eps,
                dtype=self.dtype,
                name=f"layer_{index}",
            )
            hidden = layer(hidden, mask, hidden_rate=rate, attention_rate=rate)
        return hidden
