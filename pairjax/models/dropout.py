"""Inverted dropout whose rate is data: traced, batched under `vmap`, never static."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

LEVELS = 1 << 16


def dropout(x: Float[Array, "*shape"], rate: ArrayLike, key: PRNGKeyArray) -> Float[Array, "*shape"]:
    """Zero each element with probability `rate` and scale the rest so that the expectation stays x.

    The rate is rounded to a multiple of 1/65536, since two elements share one 32-bit draw. The scale follows from the
    rounded rate, hence the expectation is exact; a rate of 0 gives x bit for bit.

    Args:
        x: What is dropped.
        rate: Scalar in [0, 1); a number or a tracer, never read by Python.
        key: Used up by this call.
    """
    if x.ndim == 0:
        return dropout(x[None], rate, key)[0]
    drop = jnp.round(jnp.asarray(rate, jnp.float32) * LEVELS)
    scale = LEVELS / (LEVELS - drop)
    width = x.shape[-1]
    # The draw keeps the leading axes of x, so that sharding over rows shards it too.
    pairs = jax.random.bits(key, (*x.shape[:-1], -(-width // 2)), jnp.uint32)
    halves = jnp.stack([pairs & (LEVELS - 1), pairs >> 16], axis=-1)
    bits = halves.reshape(*x.shape[:-1], -1)[..., :width]
    return jnp.where(bits >= drop.astype(jnp.uint32), x * scale.astype(x.dtype), jnp.zeros((), x.dtype))
