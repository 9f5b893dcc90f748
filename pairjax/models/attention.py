"""Multi-head attention with a mask; parameters per projection, as path tables and checkpoints name them."""

import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from pairjax.models.dropout import dropout

MASKED = -1e30
"""Score of a key that may not be read: exp gives 0 exactly, and a row that masks all stays finite (uniform)."""

KERNEL_INIT = nn.initializers.normal(0.02)


@jax.custom_vjp
def affine(
    x: Float[Array, "*leading inputs"], kernel: Float[Array, "inputs *size"], bias: Float[Array, "*size"]
) -> Float[Array, "..."]:
    """`x @ kernel + bias`, with a gradient that XLA's CPU backend computes a quarter faster than JAX's own.

    The result's cotangent is computed by itself, or else what produces it is fused into a transposed operand, a strided
    write; and of the two operands of the kernel's gradient the narrower one is transposed.
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
    back = jax.lax.dot_general(cotangent, kernel, ((outputs, tuple(range(1, kernel.ndim))), ((), ())))
    return back, gradient, jnp.sum(cotangent, axis=leading)


affine.defvjp(_affine_forward, _affine_backward)


class Projection(nn.Module):
    """The parameters of an affine map, handed out rather than applied, so that several can be applied as one.

    Attributes:
        size: Width of the output.
        dtype: That they are cast to; they are stored in float32.
    """

    size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: int) -> tuple[Float[Array, "inputs size"], Float[Array, " size"]]:
        """Kernel and bias for inputs of that width."""
        kernel = self.param("kernel", KERNEL_INIT, (inputs, self.size), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.size,), jnp.float32)
        return jnp.asarray(kernel, self.dtype), jnp.asarray(bias, self.dtype)


class Attention(nn.Module):
    """`softmax(Q K^T / sqrt(d) + mask) V`, heads side by side, then the output projection (Vaswani et al., 2017).

    The softmax is in float32 whatever the dtype.

    Attributes:
        heads: Must divide the width.
        dtype: Of the products.
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
        """Each query's mixture of the keys' values.

        Args:
            queries: Who reads.
            keys: Who is read; the same array as `queries` for self-attention.
            mask: True where query q may read key s; a query that may read none gets a finite value of no meaning.
            rate: Dropout of the attention probabilities; None means none, otherwise the rng stream `dropout` is read.
        """
        dim = queries.shape[-1]
        weights = {name: Projection(dim, dtype=self.dtype, name=name)(dim) for name in ("query", "key", "value", "out")}
        q, k, v = (self._split(part) for part in _project(queries, keys, weights))
        scores = jnp.einsum("rqhd,rshd->rhqs", q * (q.shape[-1] ** -0.5), k, preferred_element_type=jnp.float32)
        scores = jnp.where(mask[:, None], scores, MASKED)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        if rate is not None:
            probabilities = dropout(probabilities, rate, self.make_rng("dropout"))
        mixed = jnp.einsum("rhqs,rshd->rqhd", probabilities, v)
        kernel, bias = weights["out"]
        return affine(mixed.reshape(queries.shape), kernel, bias)

    def _split(self, x: Float[Array, "rows length dim"]) -> Float[Array, "rows length heads size"]:
        return x.reshape(*x.shape[:-1], self.heads, -1)


def _project(
    queries: Float[Array, "rows queries dim"],
    keys: Float[Array, "rows keys dim"],
    weights: dict[str, tuple[Array, Array]],
) -> tuple[Array, Array, Array]:
    """Queries, keys and values; for self-attention as one product, but on a TPU."""
    if queries is keys:
        q, k, v = _project_self(queries, weights["query"], weights["key"], weights["value"])
    else:
        q, k, v = (affine(x, *weights[name]) for name, x in (("query", queries), ("key", keys), ("value", keys)))
    return q, k, v


Weights: TypeAlias = tuple[Array, Array]
"""Kernel and bias."""


def _as_one(x: Array, *weights: Weights) -> tuple[Array, ...]:
    # On an axis of their own: laid end to end, a split of each over devices is not one of the whole.
    kernel = jnp.stack([kernel for kernel, _ in weights], axis=1)
    projected = affine(x, kernel, jnp.stack([bias for _, bias in weights]))
    return tuple(projected[..., place, :] for place in range(len(weights)))


def _as_one_backward(cotangents: tuple[Array, ...], *saved: Any) -> tuple[Any, ...]:
    return jax.vjp(_as_one, *saved)[1](cotangents)


def _apart(x: Array, *weights: Weights) -> tuple[Array, ...]:
    return tuple(affine(x, *one) for one in weights)


def _apart_backward(cotangents: tuple[Array, ...], x: Array, *weights: Weights) -> tuple[Any, ...]:
    parts = [_affine_backward((x, kernel), one) for (kernel, _), one in zip(weights, cotangents, strict=True)]
    return sum(back for back, _, _ in parts), *((kernel, bias) for _, kernel, bias in parts)


@jax.custom_vjp
def _project_self(x: Array, *weights: Weights) -> tuple[Array, ...]:
    """Each `x @ kernel + bias`.

    As one product they are faster on a CPU. XLA:TPU writes each of three products as the heads read it, and the parts
    of one only by copies, in the backward pass in float32.
    """
    return jax.lax.platform_dependent(x, *weights, tpu=_apart, default=_as_one)


def _project_forward(x: Array, *weights: Weights) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    return _project_self(x, *weights), (x, *weights)


def _project_backward(saved: tuple[Any, ...], cotangents: tuple[Array, ...]) -> tuple[Any, ...]:
    return jax.lax.platform_dependent(cotangents, *saved, tpu=_apart_backward, default=_as_one_backward)


_project_self.defvjp(_project_forward, _project_backward)
