"""Multi-head attention with a mask. Each projection has its own parameters, as in path tables and weight files."""

import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from pairjax.models.dropout import dropout

MASKED = -1e30
"""Score of a masked key: its exponential is exactly 0, and a row with all keys masked stays finite (uniform)."""

KERNEL_INIT = nn.initializers.normal(0.02)


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
    """

    size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: int) -> tuple[Float[Array, "inputs size"], Float[Array, " size"]]:
        """Returns kernel and bias for inputs of the given width."""
        kernel = self.param("kernel", KERNEL_INIT, (inputs, self.size), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.size,), jnp.float32)
        return jnp.asarray(kernel, self.dtype), jnp.asarray(bias, self.dtype)


class Attention(nn.Module):
    """Multi-head attention, `softmax(Q K^T / sqrt(d) + mask) V` and an output projection (Vaswani et al. 2017).

    The softmax is computed in float32 for every dtype.

    Attributes:
        heads: Number of heads; must divide the width.
        dtype: Dtype of the products.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "rows queries dim"],
        keys: Float[Array, "rows keys dim"],
        mask: Bool[Array, "rows #queries keys"],
        *,
        rate: ArrayLike | None = None,
    ) -> Float[Array, "rows queries dim"]:
        """Computes the attention of queries over keys.

        Args:
            queries: The tokens that attend.
            keys: The tokens that are attended to; the same array as `queries` for self-attention.
            mask: True if query q may attend to key s; a query with no such key gets a finite, meaningless value.
            rate: Dropout rate of the attention probabilities; if given, the rng stream `dropout` is used.
        """
        dim = queries.shape[-1]
        weights = {name: Projection(dim, dtype=self.dtype, name=name)(dim) for name in ("query", "key", "value", "out")}
        q, k, v = (self._split(part) for part in _project(queries, keys, weights))
        scale = q.shape[-1] ** -0.5
        # Queries are smaller than scores. In bfloat16 their product with the scale would be rounded once more.
        narrow = jnp.finfo(q.dtype).bits < 32
        scores = jnp.einsum("rqhd,rshd->rhqs", q if narrow else q * scale, k, preferred_element_type=jnp.float32)
        scores = scores * scale if narrow else scores
        scores = jnp.where(mask[:, None], scores, MASKED)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        if rate is not None:
            probabilities = dropout(probabilities, rate, self.make_rng("dropout"))
        values = jnp.einsum("rhqs,rshd->rqhd", probabilities, v)
        kernel, bias = weights["out"]
        return affine(values.reshape(queries.shape), kernel, bias)

    def _split(self, x: Float[Array, "rows length dim"]) -> Float[Array, "rows length heads size"]:
        return x.reshape(*x.shape[:-1], self.heads, -1)


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


Weights: TypeAlias = tuple[Array, Array]
"""Kernel and bias of a projection."""


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
