"""Inverted dropout whose rate is data: traced, batched under `vmap`, never static."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, UInt32


def _mix(x: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """A bijection of 32-bit words in which each input bit flips each output bit about half of the time.

    Xorshift and multiply with the constants of Wellons' search (2018, https://nullprogram.com/blog/2018/07/31/, as
    improved by TheIronBorn: bias 0.107).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0x735A2D97)
    return x ^ (x >> 15)


def dropout(x: Float[Array, "*shape"], rate: ArrayLike, key: PRNGKeyArray) -> Float[Array, "*shape"]:
    """Zero each element with probability `rate` and scale the rest so that the expectation stays x.

    Element i is dropped where `mix(mix(i + k0) ^ k1)` is below `rate * 2^32`, (k0, k1) being the threefry key's words.
    Threefry's own bits would be stored for the backward pass and cost a tenth of a training step on a CPU; these are
    few operations, which XLA fuses into whatever reads them. A rate of 0 gives x bit for bit.

    Args:
        x: What is dropped; at most 2^32 elements.
        rate: Scalar in [0, 1); a number or a tracer, never read by Python.
        key: Used up by this call.
    """
    rate = jnp.asarray(rate, jnp.float32)
    words = jax.random.key_data(key)
    # A position is a sum over the axes, so that sharding over rows shards the draw too.
    index, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        index += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride)
        stride *= x.shape[axis]
    kept = _mix(_mix(index + words[0]) ^ words[1]) >= (rate * 2.0**32).astype(jnp.uint32)
    return jnp.where(kept, x * (1 / (1 - rate)).astype(x.dtype), jnp.zeros((), x.dtype))
