"""A model small enough to check a step by hand: embeddings, one layer, a mean over tokens, a linear head."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pairjax.base.config import OptimConfig
from pairjax.base.params import split
from pairjax.base.types import Batch, DropoutRates, Hypers, Params
from pairjax.step.optim import Optimizer, build_optimizer, decay_mask, rate_multipliers, trainable_paths

WORDS, DIM, CLASSES, LENGTH = 20, 8, 3, 5


def init(seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(scale=0.5, size=shape).astype(np.float32)

    return {
        "encoder": {
            "embeddings": {"word": {"embedding": draw(WORDS, DIM)}},
            "layer_0": {"mlp_in": {"kernel": draw(DIM, DIM), "bias": draw(DIM)}},
        },
        "head": {"logits": {"kernel": draw(DIM, CLASSES), "bias": draw(CLASSES)}},
    }


def apply(params: Params, batch: Batch, *, key: Array | None = None, rates: DropoutRates | None = None) -> Array:
    hidden = jnp.take(params["encoder"]["embeddings"]["word"]["embedding"], batch.input_ids, axis=0)
    if rates is not None:
        hidden = hidden * jax.random.bernoulli(key, 1 - rates.hidden, hidden.shape) / (1 - rates.hidden)
    dense = params["encoder"]["layer_0"]["mlp_in"]
    hidden = jnp.tanh(hidden @ dense["kernel"] + dense["bias"])
    one_hot = jax.nn.one_hot(batch.pair_ids, batch.weight.shape[1] + 1)[..., 1:]
    pooled = jnp.einsum("rld,rlk->rkd", hidden, one_hot) / LENGTH
    return pooled @ params["head"]["logits"]["kernel"] + params["head"]["logits"]["bias"]


def loss(logits: Array, batch: Batch, *, smoothing: float | Array) -> tuple[Array, Array]:
    target = jax.nn.one_hot(batch.label, CLASSES) * (1 - smoothing) + smoothing / CLASSES
    each = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
    return jnp.sum(each * batch.weight), jnp.sum(batch.weight)


def make_batch(rows: int, *, slots: int = 2, seed: int = 0) -> Batch:
    """Random rows; the weights differ from row to row, and some slots are empty."""
    rng = np.random.default_rng(seed)
    pair_ids = np.minimum(np.arange(LENGTH) // 3 + 1, slots).astype(np.int32)
    weight = rng.choice([0.0, 1.0, 1.0, 2.5], size=(rows, slots)).astype(np.float32)
    tokens = rng.integers(0, WORDS, size=(rows, LENGTH)).astype(np.int32)
    return Batch(
        input_ids=tokens,
        token_type_ids=np.zeros_like(tokens),
        position_ids=np.tile(np.arange(LENGTH, dtype=np.int32), (rows, 1)),
        pair_ids=np.tile(pair_ids, (rows, 1)),
        side_ids=np.zeros_like(tokens),
        label=rng.integers(0, CLASSES, size=(rows, slots)).astype(np.int32),
        weight=weight,
        example_id=np.arange(rows * slots, dtype=np.int32).reshape(rows, slots),
    )


def make_hypers(
    *, learning_rate: float = 1e-2, weight_decay: float = 0.1, smoothing: float = 0.1, dropout: float = 0.0
) -> Hypers:
    return Hypers(learning_rate, weight_decay, smoothing, DropoutRates(dropout, dropout, dropout, dropout))


def split_and_build(config: OptimConfig, *, total_steps: int = 10) -> tuple[Params, Params, Optimizer]:
    """Trainable parameters, frozen ones, and the optimiser of the former."""
    trains, frozen = split(init(), trainable_paths(config, init(), pooler_kept=False))
    optimizer = build_optimizer(
        config, total_steps=total_steps, decay=decay_mask(trains), multiplier=rate_multipliers(config, trains)
    )
    return trains, frozen, optimizer
