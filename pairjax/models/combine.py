"""Pooled vectors to the pair's vector: which of u, v, u-v, |u-v|, u*v, then plain, gated, or read by attention."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from pairjax.base.config import Feature
from pairjax.models.layers import KERNEL_INIT, TransformerLayer


def pair_features(
    u: Float[Array, "rows slots dim"], v: Float[Array, "rows slots dim"], features: tuple[Feature, ...]
) -> list[Float[Array, "rows slots dim"]]:
    """The features in the order given, each as large as u."""

    def one(feature: Feature) -> Float[Array, "rows slots dim"]:
        match feature:
            case "u":
                return u
            case "v":
                return v
            case "u-v":
                return u - v
            case "|u-v|":
                return jnp.abs(u - v)
            case "u*v":
                return u * v

    return [one(feature) for feature in features]


class Gate(nn.Module):
    """Learnt elementwise weights on the pair's vector: `a * x`, with `a = sigmoid(W x + b)`.

    The chapter gives the product and not where a comes from. One constant weight an element would be absorbed by the
    dense layer that follows, so a is a function of the pair; like the chapter's, it lies in [0, 1] and sums to
    anything: a gate, not a softmax. With W = 0 and b = logit(a) it is the chapter's example to the letter.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "rows slots size"]) -> Float[Array, "rows slots size"]:
        """The pair's vector, weighted."""
        return nn.sigmoid(nn.Dense(x.shape[-1], kernel_init=KERNEL_INIT, name="gate")(x)) * x


class VectorAttention(nn.Module):
    """The parts of the pair as a short sequence, read by self-attention and then flattened.

    Each part gets a learnt vector for its place, or u could not be told from v.

    Attributes:
        layers: Layers, each `layer_{i}`.
        heads: Attention heads; must divide the parts' size.
        intermediate: Width of the feed-forward sublayers.
        activation: Theirs.
        eps: Of the layer normalisations.
    """

    layers: int
    heads: int
    intermediate: int
    activation: str
    eps: float

    @nn.compact
    def __call__(
        self, parts: list[Float[Array, "rows slots dim"]], *, rate: ArrayLike | None = None
    ) -> Float[Array, "rows slots size"]:
        """Parts P of size D to a vector of size P * D; `rate` None means no dropout."""
        rows, slots, size = parts[0].shape
        x = jnp.stack(parts, axis=2).reshape(rows * slots, len(parts), size)
        place = nn.Embed(len(parts), size, embedding_init=KERNEL_INIT, name="position")
        x = x + place.embedding
        mask = jnp.ones((rows * slots, len(parts), len(parts)), bool)
        for index in range(self.layers):
            layer = TransformerLayer(
                heads=self.heads,
                intermediate=self.intermediate,
                activation=self.activation,
                eps=self.eps,
                dtype=jnp.float32,
                name=f"layer_{index}",
            )
            x = layer(x, mask, hidden_rate=rate, attention_rate=rate)
        return x.reshape(rows, slots, len(parts) * size)
