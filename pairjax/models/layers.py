"""Layers shared by the encoders, the interactions and the attention combiner."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from pairjax.base.types import Disentangled
from pairjax.models.attention import KERNEL_INIT, Angles, Attention, Projection, affine
from pairjax.models.dropout import dropout

__all__ = ["KERNEL_INIT", "LayerNorm", "TransformerLayer", "activate", "dropout"]


def activate(x: Float[Array, "*shape"], name: str) -> Float[Array, "*shape"]:
    """Applies `gelu` (exact, with erf), `gelu_new` (its tanh approximation) or `relu`.

    A bfloat16 input is computed in float32: 1 + erf(x / sqrt(2)) of a negative x cancels, and in bfloat16 nothing would
    be left of it below -3. The result is then the exact one, rounded to bfloat16.
    """
    narrow = jnp.finfo(x.dtype).bits < 32
    wide = x.astype(jnp.float32) if narrow else x
    match name:
        case "gelu" if narrow:
            result = 0.5 * wide * jax.lax.erfc(wide * np.float32(-np.sqrt(0.5)))
        case "gelu":
            # JAX's gelu uses erfc: more accurate in the far tail than torch, in which the weights were trained, but
            # twice as slow on a CPU.
            result = 0.5 * x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))
        case "gelu_new" if narrow:
            # (1 + tanh(z)) / 2 = sigmoid(2 z), without the cancellation.
            result = wide * jax.nn.sigmoid(np.float32(np.sqrt(8 / np.pi)) * (wide + 0.044715 * wide**3))
        case "gelu_new":
            result = jax.nn.gelu(x, approximate=True)
        case "relu":
            result = jax.nn.relu(x)
        case _:
            raise ValueError(f"unknown activation {name}")
    return result.astype(x.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, `(x - mean) / sqrt(var + eps) * scale + bias`, in float32.

    Ba et al. 2016.

    Attributes:
        eps: Constant added to the variance.
        dtype: Dtype of the result.
        use_bias: Whether a bias is added.
    """

    eps: float
    dtype: DTypeLike = jnp.float32
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*leading dim"]) -> Float[Array, "*leading dim"]:
        """Normalises x."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32) if self.use_bias else 0.0
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.eps) * scale + bias).astype(self.dtype)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward sublayer, each with a residual connection and LayerNorm after it (post-LN, BERT).

    Attributes:
        heads: Number of attention heads; must divide the width.
        intermediate: Width of the feed-forward sublayer.
        activation: `gelu`, `gelu_new` or `relu`.
        eps: Epsilon of the layer normalisations.
        dtype: Dtype of the activations.
        disentangled: DeBERTa's position scores; None for none.
    """

    heads: int
    intermediate: int
    activation: str
    eps: float
    dtype: DTypeLike = jnp.float32
    disentangled: Disentangled | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows queries dim"],
        mask: Bool[Array, "rows #queries keys"],
        *,
        context: Float[Array, "rows keys dim"] | None = None,
        hidden_rate: ArrayLike | None = None,
        attention_rate: ArrayLike | None = None,
        bias: Float[Array, "heads queries keys"] | None = None,
        relative: Float[Array, "spans dim"] | None = None,
    ) -> Float[Array, "rows queries dim"]:
        """Computes the tokens after the layer.

        Args:
            x: The tokens.
            mask: True if token q of x may attend to token s of the context.
            context: The tokens that are attended to; x itself by default.
            hidden_rate: Dropout rate of each sublayer's output; None means no dropout.
            attention_rate: Dropout rate of the attention probabilities; None means no dropout.
            bias: Numbers that are added to the attention's scores.
            relative: The relative embeddings of `disentangled`; they have the dropout of sublayers.
        """

        def drop(x: Array) -> Array:
            return x if hidden_rate is None else dropout(x, hidden_rate, self.make_rng("dropout"))

        context = x if context is None else context
        attention = Attention(self.heads, dtype=self.dtype, disentangled=self.disentangled, name="attention")
        relative = None if relative is None else drop(relative)
        attended = attention(x, context, mask, rate=attention_rate, bias=bias, relative=relative)
        x = LayerNorm(self.eps, dtype=self.dtype, name="attention_norm")(x + drop(attended))
        kernel, bias = Projection(self.intermediate, dtype=self.dtype, name="mlp_in")(x.shape[-1])
        inner = activate(affine(x, kernel, bias), self.activation)
        kernel, bias = Projection(x.shape[-1], dtype=self.dtype, name="mlp_out")(self.intermediate)
        return LayerNorm(self.eps, dtype=self.dtype, name="mlp_norm")(x + drop(affine(inner, kernel, bias)))


class GatedLayer(nn.Module):
    """Attention and a gated feed-forward sublayer without biases, each after a LayerNorm (pre-LN, ModernBERT).

    `x + Attention(norm(x))`, then `x + (act(n W_in) * (n W_gate)) W_out` with n = norm(x) (Warner et al. 2024).

    Attributes:
        heads: Number of attention heads; must divide the width.
        intermediate: Width of the feed-forward sublayer.
        activation: `gelu`, `gelu_new` or `relu`.
        eps: Epsilon of the layer normalisations.
        dtype: Dtype of the activations.
        first: Whether this is the first layer, whose attention has no LayerNorm before it.
    """

    heads: int
    intermediate: int
    activation: str
    eps: float
    dtype: DTypeLike = jnp.float32
    first: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows length dim"],
        mask: Bool[Array, "rows length length"],
        *,
        angles: Angles,
        hidden_rate: ArrayLike | None = None,
        attention_rate: ArrayLike | None = None,
    ) -> Float[Array, "rows length dim"]:
        """Computes the tokens after the layer.

        Args:
            x: The tokens.
            mask: True if token q may attend to token s.
            angles: Angles of the tokens' positions.
            hidden_rate: Dropout rate inside the feed-forward sublayer; None means no dropout.
            attention_rate: Dropout rate of the attention probabilities and output; None means no dropout.
        """

        def drop(x: Array, rate: ArrayLike | None) -> Array:
            return x if rate is None else dropout(x, rate, self.make_rng("dropout"))

        def weights(name: str, inputs: int, size: int) -> tuple[Array, Array]:
            return Projection(size, dtype=self.dtype, use_bias=False, name=name)(inputs)

        dim = x.shape[-1]
        normed = x if self.first else LayerNorm(self.eps, dtype=self.dtype, use_bias=False, name="attention_norm")(x)
        attention = Attention(self.heads, dtype=self.dtype, use_bias=False, name="attention")
        x = x + drop(attention(normed, normed, mask, rate=attention_rate, angles=angles), attention_rate)
        normed = LayerNorm(self.eps, dtype=self.dtype, use_bias=False, name="mlp_norm")(x)
        inner = activate(affine(normed, *weights("mlp_in", dim, self.intermediate)), self.activation)
        inner = inner * affine(normed, *weights("mlp_gate", dim, self.intermediate))
        return x + affine(drop(inner, hidden_rate), *weights("mlp_out", self.intermediate, dim))
