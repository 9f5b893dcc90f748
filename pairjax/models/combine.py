"""Combines pooled vectors into the pair's vector: features of u and v, then concatenated, gated or with attention."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from pairjax.base.model_config import Feature
from pairjax.models.layers import KERNEL_INIT, TransformerLayer


def pair_features(
    u: Float[Array, "rows slots dim"], v: Float[Array, "rows slots dim"], features: tuple[Feature, ...]
) -> list[Float[Array, "rows slots dim"]]:
    """Computes features of two vectors.

    Args:
        u: Vectors of the first texts.
        v: Vectors of the second texts.
        features: The features, each of the same shape as `u`.

    Returns:
        The features in the given order.

    >>> u, v = jnp.array([[[1.0, 2.0]]]), jnp.array([[[3.0, 1.0]]])
    >>> [feature.tolist() for feature in pair_features(u, v, ("u", "|u-v|", "u*v"))]
    [[[[1.0, 2.0]]], [[[2.0, 1.0]]], [[[3.0, 2.0]]]]
    """

    def compute(feature: Feature) -> Float[Array, "rows slots dim"]:
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

    return [compute(feature) for feature in features]


class Gate(nn.Module):
    """Learned elementwise weights of the pair's vector: `a * x` with `a = sigmoid(W x + b)`.

    The chapter gives the product but does not say how a is computed. A constant weight per element would be absorbed by
    the dense layer that follows, so here a is a function of the pair. As in the chapter, a is in [0, 1] and need not
    sum to 1: it is a gate, not a softmax. W = 0 and b = logit(a) give the chapter's example exactly.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "rows slots size"]) -> Float[Array, "rows slots size"]:
        """Weights the pair's vector."""
        return nn.sigmoid(nn.Dense(x.shape[-1], kernel_init=KERNEL_INIT, name="gate")(x)) * x


class VectorAttention(nn.Module):
    """Self-attention over the parts of the pair as a short sequence, then flattened.

    Each part gets a learned position vector; without it, u and v would be interchangeable.

    Attributes:
        layers: Number of layers, named `layer_{i}`.
        heads: Number of attention heads; must divide the parts' size.
        intermediate: Width of the feed-forward sublayers.
        activation: Activation of the feed-forward sublayers.
        eps: Epsilon of the layer normalisations.
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
        """Maps P parts of size D to a vector of size P * D; with `rate` None there is no dropout."""
        rows, slots, size = parts[0].shape
        x = jnp.stack(parts, axis=2).reshape(rows * slots, len(parts), size)
        position = nn.Embed(len(parts), size, embedding_init=KERNEL_INIT, name="position")
        x = x + position.embedding
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
