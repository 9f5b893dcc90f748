"""Attention over the tokens of a pair between encoder and pooling (the chapter's "attention over tokens")."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from pairjax.base.types import Batch
from pairjax.models.layers import TransformerLayer

Interact = Literal["self", "joint", "cross"]


def interaction_mask(batch: Batch, *, kind: Interact) -> Bool[Array, "rows length length"]:
    """Returns the attention mask: [r, q, s] is True if token q attends to token s in row r.

    `self`: tokens attend within their side. `joint`: tokens attend to both sides of their pair. `cross`: tokens attend
    to the other side of their pair, and the residual connection carries their own. Padding attends to padding only.
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
            # Padding attends to padding, since a softmax over no key at all would be undefined.
            padding = (pair == 0)[:, :, None]
            return same_pair & (padding | ~same_side)


class Interaction(nn.Module):
    """A stack of transformer layers; the mask determines the kind of interaction.

    Attributes:
        kind: Attention within each side, over both sides, or from each side to the other.
        layers: Number of layers, named `layer_{i}`.
        heads: Number of attention heads; must divide the width of the tokens.
        intermediate: Width of the feed-forward sublayers.
        activation: Activation of the feed-forward sublayers.
        eps: Epsilon of the layer normalisations.
        dtype: Dtype of the activations.
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
        """Computes the tokens after the interaction; with `rate` None there is no dropout."""
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
