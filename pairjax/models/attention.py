"""Multi-head attention with a mask. Each projection has its own parameters, as in path tables and weight files."""

import math
from functools import reduce
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from pairjax.base.types import Disentangled
from pairjax.models.dropout import dropout
from pairjax.models.relative import by_distance, deberta_rows, distances, rotate

MASKED = -1e30
"""Score of a masked key: its exponential is exactly 0, and a row with all keys masked stays finite (uniform)."""

KERNEL_INIT = nn.initializers.normal(0.02)

Weights: TypeAlias = tuple[Array, Array]
"""Kernel and bias of a projection."""
Angles: TypeAlias = tuple[Float[Array, "rows length half"], Float[Array, "rows length half"]]
"""Cosine and sine of each token's angles."""


@jax.custom_vjp
def affine(
    x: Float[Array, "*leading inputs"], kernel: Float[Array, "inputs *size"], bias: Float[Array, "*size"]
) -> Float[Array, "..."]:
    """Computes `x @ kernel + bias`, with a gradient that XLA's CPU backend computes a quarter faster than JAX's own.

    On a CPU, a barrier keeps XLA from fusing the computation of the cotangent into a transposed operand, which would
    write with a stride. The kernel's gradient transposes the narrower of its two operands.
    """
    return jnp.tensordot(x, kernel, 1) + bias


def _affine_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return affine(x, kernel, bias), (x, kernel)


def _affine_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array, Array]:
    x, kernel = saved
    cotangent = jax.lax.platform_dependent(cotangent, cpu=jax.lax.optimization_barrier, default=lambda y: y)
    leading = tuple(range(x.ndim - 1))
    outputs = tuple(range(x.ndim - 1, cotangent.ndim))
    inputs, *size = kernel.shape
    if inputs <= math.prod(size):
        gradient = jax.lax.dot_general(x, cotangent, ((leading, leading), ((), ())))
    else:
        gradient = jnp.moveaxis(jax.lax.dot_general(cotangent, x, ((leading, leading), ((), ()))), -1, 0)
    x_gradient = jax.lax.dot_general(cotangent, kernel, ((outputs, tuple(range(1, kernel.ndim))), ((), ())))
    return x_gradient, gradient, jnp.sum(cotangent, axis=leading)


affine.defvjp(_affine_forward, _affine_backward)


class Projection(nn.Module):
    """The parameters of an affine map; they are returned and not applied, so several can be applied as one product.

    Attributes:
        size: Width of the output.
        dtype: The dtype that they are cast to; they are stored in float32.
        use_bias: Whether there is a bias; if not, the returned one is zero.
    """

    size: int
    dtype: DTypeLike = jnp.float32
    use_bias: bool = True

    @nn.compact
    def __call__(self, inputs: int) -> tuple[Float[Array, "inputs size"], Float[Array, " size"]]:
        """Returns kernel and bias for inputs of the given width."""
        kernel = self.param("kernel", KERNEL_INIT, (inputs, self.size), jnp.float32)
        if not self.use_bias:
            return jnp.asarray(kernel, self.dtype), jnp.zeros((self.size,), self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.size,), jnp.float32)
        return jnp.asarray(kernel, self.dtype), jnp.asarray(bias, self.dtype)


class Attention(nn.Module):
    """Multi-head attention, `softmax(Q K^T / sqrt(d) + mask) V` and an output projection (Vaswani et al. 2017).

    The softmax is computed in float32 for every dtype.

    Attributes:
        heads: Number of heads; must divide the width.
        dtype: Dtype of the products.
        use_bias: Whether the projections have a bias.
        disentangled: DeBERTa's position scores; None for none.
    """

    heads: int
    dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    disentangled: Disentangled | None = None

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "rows queries dim"],
        keys: Float[Array, "rows keys dim"],
        mask: Bool[Array, "rows #queries keys"],
        *,
        rate: ArrayLike | None = None,
        bias: Float[Array, "heads queries keys"] | None = None,
        angles: Angles | None = None,
        relative: Float[Array, "spans dim"] | None = None,
    ) -> Float[Array, "rows queries dim"]:
        """Computes the attention of queries over keys.

        Args:
            queries: The tokens that attend.
            keys: The tokens that are attended to; the same array as `queries` for self-attention.
            mask: True if query q may attend to key s; a query with no such key gets a finite, meaningless value.
            rate: Dropout rate of the attention probabilities; if given, the rng stream `dropout` is used.
            bias: Numbers that are added to the scores.
            angles: Angles by which queries and keys are rotated, as `pairjax.models.relative.rotation` returns them.
            relative: The relative embeddings of `disentangled`.
        """
        dim = queries.shape[-1]
        names = ("query", "key", "value", "out", *position_projections(self.disentangled))
        weights = {name: Projection(dim, dtype=self.dtype, use_bias=self.use_bias, name=name)(dim) for name in names}
        q, k, v = (self._split(part) for part in _project(queries, keys, weights))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        terms = 1 if self.disentangled is None else 1 + len(self.disentangled.kinds)
        scale = (terms * q.shape[-1]) ** -0.5
        # Queries are smaller than scores. In bfloat16 their product with the scale would be rounded once more.
        narrow = jnp.finfo(q.dtype).bits < 32
        scores = jnp.einsum("rqhd,rshd->rhqs", q if narrow else q * scale, k, preferred_element_type=jnp.float32)
        scores = scores * scale if narrow else scores
        if bias is not None:
            scores = scores + bias
        if relative is not None and self.disentangled is not None and self.disentangled.kinds:
            scores = scores + scale * self._position_scores(q, k, relative, weights, self.disentangled)
        scores = jnp.where(mask[:, None], scores, MASKED)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        if rate is not None:
            probabilities = dropout(probabilities, rate, self.make_rng("dropout"))
        values = jnp.einsum("rhqs,rshd->rqhd", probabilities, v)
        kernel, bias = weights["out"]
        return affine(values.reshape(queries.shape), kernel, bias)

    def _split(self, x: Float[Array, "*leading dim"]) -> Float[Array, "*leading heads size"]:
        return x.reshape(*x.shape[:-1], self.heads, -1)

    def _position_scores(
        self,
        q: Float[Array, "rows length heads size"],
        k: Float[Array, "rows length heads size"],
        relative: Float[Array, "spans dim"],
        weights: dict[str, Weights],
        positions: Disentangled,
    ) -> Float[Array, "rows heads length length"]:
        """Computes DeBERTa's scores of a content and a relative position (He et al. 2021), before the scale.

        The positions are ordered by distance, so each product's result is shifted into place without a gather.
        """
        length = q.shape[1]
        rows = deberta_rows(distances(length), positions)
        parts = []
        for kind, content, name in (("c2p", q, "key"), ("p2c", k, "query")):
            if kind in positions.kinds:
                own = weights[name if positions.shared_keys else f"position_{name}"]
                # For c2p the columns go from the farthest key before the query to the farthest after it.
                order = rows[::-1] if kind == "c2p" else rows
                projected = self._split(affine(relative.astype(self.dtype), *own))[order]
                by_row = jnp.einsum("rlhd,shd->rhls", content, projected, preferred_element_type=jnp.float32)
                shifted = by_distance(by_row)
                parts.append(shifted if kind == "c2p" else shifted.swapaxes(-1, -2))
        return reduce(jnp.add, parts)


def position_projections(positions: Disentangled | None) -> tuple[str, ...]:
    """Returns the names of the projections of relative positions, if they are not those of the contents."""
    if positions is None or positions.shared_keys:
        return ()
    return tuple({"c2p": "position_key", "p2c": "position_query"}[kind] for kind in positions.kinds)


def _project(
    queries: Float[Array, "rows queries dim"],
    keys: Float[Array, "rows keys dim"],
    weights: dict[str, tuple[Array, Array]],
) -> tuple[Array, Array, Array]:
    """Computes queries, keys and values; for self-attention as one product, except on a TPU."""
    if queries is keys:
        q, k, v = _project_self(queries, weights["query"], weights["key"], weights["value"])
    else:
        q, k, v = (affine(x, *weights[name]) for name, x in (("query", queries), ("key", keys), ("value", keys)))
    return q, k, v


def _as_one(x: Array, *weights: Weights) -> tuple[Array, ...]:
    # Stacked on a new axis: after concatenation, a sharding of each kernel would not be a sharding of the result.
    kernel = jnp.stack([kernel for kernel, _ in weights], axis=1)
    projected = affine(x, kernel, jnp.stack([bias for _, bias in weights]))
    return tuple(projected[..., place, :] for place in range(len(weights)))


def _as_one_backward(cotangents: tuple[Array, ...], *saved: Any) -> tuple[Any, ...]:
    return jax.vjp(_as_one, *saved)[1](cotangents)


def _separately(x: Array, *weights: Weights) -> tuple[Array, ...]:
    return tuple(affine(x, *pair) for pair in weights)


def _separately_backward(cotangents: tuple[Array, ...], x: Array, *weights: Weights) -> tuple[Any, ...]:
    parts = [_affine_backward((x, kernel), part) for (kernel, _), part in zip(weights, cotangents, strict=True)]
    return sum(x_gradient for x_gradient, _, _ in parts), *((kernel, bias) for _, kernel, bias in parts)


@jax.custom_vjp
def _project_self(x: Array, *weights: Weights) -> tuple[Array, ...]:
    """Computes `x @ kernel + bias` for each pair of weights.

    One product is faster on a CPU. On a TPU, XLA writes three products in the layout that the heads read, but needs
    copies to split one product, and in the backward pass these are in float32.
    """
    return jax.lax.platform_dependent(x, *weights, tpu=_separately, default=_as_one)


def _project_forward(x: Array, *weights: Weights) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    return _project_self(x, *weights), (x, *weights)


def _project_backward(saved: tuple[Any, ...], cotangents: tuple[Array, ...]) -> tuple[Any, ...]:
    return jax.lax.platform_dependent(cotangents, *saved, tpu=_separately_backward, default=_as_one_backward)


_project_self.defvjp(_project_forward, _project_backward)
