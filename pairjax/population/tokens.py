"""Interactions on cached tokens as populations: the model from tokens to logits trains, the encoder is not in the loop.

A pair is a row of token slots, A's tokens and then B's, as a bi-encoder's batch has them; which cached token stands in
a slot is known beforehand, so a member reads its batch by index. Rows have one length, the longest pair's.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from pairjax.base.config import LossConfig, ModelConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Batch, EncoderSpec, PairData, Pairs, Params
from pairjax.models.build import build_pair_model
from pairjax.population.engine import MemberProgram
from pairjax.population.features import Features
from pairjax.population.members import assemble, row_bytes
from pairjax.population.pooled import HeadTask, head_program, head_task
from pairjax.population.projection import Projection

EVAL_ROWS = 128
"""Rows of tokens evaluated at once."""
LENGTHS_MULTIPLE = 8


@dataclass(frozen=True)
class TokenTask:
    """A task whose texts are the vectors of their tokens.

    Attributes:
        heads: The same pairs as pooled vectors; its spec has the width of the tokens.
        tokens: float32 [tokens, D].
        place: int32 [all, L], which token stands in each slot of a pair's row, -1 for none.
        sides: int32 [all, L], 0 on A's slots and on empty ones, 1 on B's.
        positions: int32 [all, L], within the side.
        key: SHA-256 of tokens, rows and labels.
    """

    heads: HeadTask
    tokens: Float[np.ndarray, "tokens dim"]
    place: Int32[np.ndarray, "all length"]
    sides: Int32[np.ndarray, "all length"]
    positions: Int32[np.ndarray, "all length"]
    key: str


def token_counts(features: Features, pairs: Pairs) -> Int32[np.ndarray, "pairs 2"]:
    """Tokens of A and of B, special ones included.

    Raises:
        UserError: The cache has pooled vectors alone.
    """
    _, offsets = _cached(features)
    return np.diff(offsets)[features.sides(pairs)].astype(np.int32)


def _cached(features: Features) -> tuple[np.ndarray, np.ndarray]:
    if features.tokens is None or features.offsets is None:
        raise UserError(f"{features.folder}: the cache has no token vectors", fix="make it with --features.tokens")
    return features.tokens, features.offsets


def token_task(
    data: PairData, features: Features, *, projection: Projection | None = None, length: int | None = None
) -> TokenTask:
    """A task read through a cache of tokens.

    Args:
        data: The pairs.
        features: Their cache.
        projection: Of tokens and pooled vectors to fewer numbers; goes with mean pooling alone.
        length: Token slots of a row; by default those of the longest pair, up to a multiple of 8.

    Raises:
        UserError: The cache has no tokens; or a pair is longer than the rows; or the pooling does not commute with a
            projection.
    """
    flat, offsets = _cached(features)
    if projection is not None and features.identity["pooling"] != "mean":
        raise UserError("projected tokens go with mean pooling", got=features.identity["pooling"], expected="mean")
    heads = head_task(data, features)
    counts = np.diff(offsets)[heads.sides]
    longest = int(counts.sum(axis=1).max())
    length = length or -(-longest // LENGTHS_MULTIPLE) * LENGTHS_MULTIPLE
    if longest > length:
        raise UserError("a pair is longer than the rows", got=f"{longest} tokens", expected=f"at most {length}")
    slot = np.arange(length)
    in_first, in_pair = slot < counts[:, :1], slot < counts.sum(axis=1, keepdims=True)
    sides = (in_pair & ~in_first).astype(np.int32)
    positions = np.where(in_pair, slot - sides * counts[:, :1], 0).astype(np.int32)
    begin = offsets[np.take_along_axis(heads.sides, sides, axis=1)]
    place = np.where(in_pair, begin + positions, -1).astype(np.int32)
    tokens = np.asarray(flat).astype(np.float32)
    if projection is not None:
        tokens = projection(tokens)
        spec = _narrow(heads.spec, projection.axes.shape[1])
        key = hashlib.sha256(f"{heads.key} {projection.fitted}".encode()).hexdigest()
        heads = replace(heads, vectors=projection(heads.vectors), spec=spec, key=key)
    key = hashlib.sha256(f"{heads.key} tokens {length}".encode()).hexdigest()
    return TokenTask(heads, tokens, place, sides, positions, key)


def _narrow(spec: EncoderSpec, width: int) -> EncoderSpec:
    """The spec that layers on narrower tokens read: the feed-forward sublayers keep their proportion."""
    inner = max(1, round(width * spec.intermediate_size / spec.hidden_size))
    return replace(spec, hidden_size=width, intermediate_size=inner)


def token_program(
    source: TokenTask,
    model: ModelConfig,
    *,
    optim: OptimConfig,
    loss: LossConfig | None = None,
    steps: int,
    dropout: bool,
    target: np.ndarray | None = None,
) -> MemberProgram:
    """All of a bi-encoder's pair model above the encoder, on the cached tokens of a task.

    Without an interaction the pooled vectors say all, and the program is `head_program`'s.

    Args:
        source: The task.
        model: Its `interact`, `combine` and `head` are read; the pooling is the cache's.
        optim: Moments, clipping and schedule; rates and decay are the population's.
        loss: Cross-entropy or squared error, with class weights.
        steps: Of a run, for the schedule.
        dropout: Whether any member has a dropout rate above 0; without, no bits are drawn.
        target: Stands in for the task's targets (labels made noisy, say), for all rows.

    Raises:
        UserError: Options that contradict the tokens' width or each other.
    """
    heads = source.heads
    if model.interact.kind == "none":
        return head_program(heads, model, optim=optim, loss=loss, steps=steps, dropout=dropout, target=target)
    config = replace(model, kind="bi", pooling=heads.pooling, pooler=None)
    fns = build_pair_model(config, heads.spec, heads.task.outputs, freeze_encoder=True)
    target = heads.target if target is None else target

    def gather(data: Any, index: Array) -> Batch:
        tokens, place, sides, positions, labels = data
        real, row = index >= 0, jnp.maximum(index, 0)
        where = jnp.where(real[:, None], place[row], -1)
        held = where >= 0
        return Batch(
            input_ids=None,
            token_type_ids=None,
            position_ids=jnp.where(held, positions[row], 0),
            pair_ids=held.astype(jnp.int32),
            side_ids=jnp.where(held, sides[row], 0),
            label=jnp.where(real, labels[row], 0)[:, None],
            weight=real.astype(jnp.float32)[:, None],
            example_id=index[:, None],
            cached=jnp.where(held[..., None], tokens[jnp.maximum(where, 0)], 0.0),
        )

    def apply(params: Params, batch: Batch, *, key: Any = None, rates: Any = None) -> Array:
        if not dropout:
            key = rates = None
        return fns.head(params, batch.cached, batch, key=key, rates=rates)

    return assemble(
        heads.task,
        fns,
        init=fns.init_above,
        train=heads.rows["train"],
        key=f"{source.key} {asdict(config.interact)}",
        apply=apply,
        gather=gather,
        data=(source.tokens, source.place, source.sides, source.positions, target),
        optim=optim,
        loss=loss,
        steps=steps,
        dropout=dropout,
        target=target,
        eval_rows=EVAL_ROWS,
        row_bytes=row_bytes(
            heads.spec, source.place.shape[1], layers=config.interact.layers, heads=config.interact.heads
        ),
    )


def parameter_count(program: MemberProgram) -> int:
    """Of what trains."""
    params = jax.eval_shape(program.init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def step_flops(source: TokenTask, model: ModelConfig, *, batch_size: int) -> Mapping[str, float]:
    """Products of one update, forward and back: 3 x 2 x multiply-adds, by part of the model.

    A layer has 4 D^2 of projections and 2 D x inner of feed-forward a token, and 2 L D of attention; elementwise work
    is not counted.
    """
    spec, length = source.heads.spec, source.place.shape[1]
    width, inner = spec.hidden_size, spec.intermediate_size

    def layers(count: int, tokens: int) -> float:
        return 6.0 * batch_size * count * tokens * (4 * width**2 + 2 * width * inner + 2 * tokens * width)

    parts = len(model.features)
    interact = layers(model.interact.layers, length) if model.interact.kind != "none" else 0.0
    combine = layers(model.combine.layers, parts) if model.combine.kind == "attention" else 0.0
    if model.combine.kind == "gate":
        combine = 6.0 * batch_size * (parts * width) ** 2
    sizes = [parts * width, *model.head.hidden, source.heads.task.outputs]
    head = 6.0 * batch_size * sum(a * b for a, b in itertools.pairwise(sizes))
    return {"interact": interact, "combine": combine, "head": head}
