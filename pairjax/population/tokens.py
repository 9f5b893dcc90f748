"""Trains interactions on cached tokens as populations: everything above the encoder trains, on token vectors.

A pair is a row of token slots, A's tokens and then B's, as in a bi-encoder's batch. The cached token of each slot is
known in advance, so a member gathers its batches by index. All rows have the length of the longest pair.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, PairData, Pairs, Params
from pairjax.models.build import build_pair_model
from pairjax.population.engine import MemberProgram
from pairjax.population.features import Features
from pairjax.population.members import Source, assemble, layer_bytes
from pairjax.population.pooled import HeadTask, head_program, head_task
from pairjax.population.projection import Projection

EVAL_ROWS = 128
"""Rows of tokens evaluated at once."""
LENGTHS_MULTIPLE = 8
"""The length of a row is rounded up to a multiple of this."""


@dataclass(frozen=True)
class TokenTask:
    """A task whose texts are the vectors of their tokens.

    Attributes:
        heads: The same task on pooled vectors; its spec has the width of the tokens.
        tokens: float32 [tokens, D]; the vectors of all texts' tokens.
        place: int32 [all, L]; the row of `tokens` in each slot of an example, -1 for an empty slot.
        sides: int32 [all, L]; 1 in B's slots, 0 in A's and in empty ones.
        positions: int32 [all, L]; the position of each token in its text.
        key: SHA-256 of tokens, rows and labels.
    """

    heads: HeadTask
    tokens: Float[np.ndarray, "tokens dim"]
    place: Int32[np.ndarray, "all length"]
    sides: Int32[np.ndarray, "all length"]
    positions: Int32[np.ndarray, "all length"]
    key: str


def token_counts(features: Features, pairs: Pairs) -> Int32[np.ndarray, "pairs 2"]:
    """Returns the number of tokens of each pair's texts, special ones included.

    Raises:
        UserError: The cache has no token vectors.
    """
    _, offsets = features.token_vectors()
    return np.diff(offsets)[features.sides(pairs)].astype(np.int32)


def token_task(
    data: PairData, features: Features, *, projection: Projection | None = None, length: int | None = None
) -> TokenTask:
    """Builds a task from pairs and a cache of their token vectors.

    Args:
        data: The pairs.
        features: The cache of their texts.
        projection: Maps token vectors and pooled vectors to fewer numbers; supports only mean pooling.
        length: Token slots of a row; the default is the longest pair's length, rounded up to a multiple of 8.

    Raises:
        UserError: The cache has no tokens, a pair is longer than the rows, or the pooling does not commute with the
            projection.
    """
    flat, offsets = features.token_vectors()
    if projection is not None and features.identity["pooling"] != "mean":
        raise UserError("projected tokens need mean pooling", got=features.identity["pooling"], expected="mean")
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
    """Returns the spec of layers on narrower tokens; the feed-forward sublayers keep their proportion."""
    inner = max(1, round(width * spec.intermediate_size / spec.hidden_size))
    return replace(spec, hidden_size=width, intermediate_size=inner)


class TokenSource(Source):
    """A bi-encoder's pair model above the encoder, on cached tokens."""

    eval_rows = EVAL_ROWS

    def __init__(self, task: TokenTask, model: ModelConfig, target: np.ndarray | None) -> None:
        heads, interact = task.heads, model.interact
        config = replace(model, kind="bi", pooling=heads.pooling, pooler=None)
        self.task, self.train, self.frozen = heads.task, heads.rows["train"], {}
        self.fns = build_pair_model(config, heads.spec, heads.task.outputs, freeze_encoder=True)
        self.arrays = (task.tokens, task.place, task.sides, task.positions)
        self.target = heads.target if target is None else target
        self.key = f"{task.key} {asdict(interact)}"
        self.row_bytes = layer_bytes(
            heads.spec, heads=interact.heads, layers=interact.layers, length=task.place.shape[1]
        )

    def init(self, key: Array) -> Params:
        return self.fns.init_above(key)

    def inputs(self, arrays: Sequence[Array], row: Array, real: Array) -> Mapping[str, Array]:
        tokens, place, sides, positions = arrays
        slots = jnp.where(real[:, None], place[row], -1)
        filled = slots >= 0
        return {
            "position_ids": jnp.where(filled, positions[row], 0),
            "pair_ids": filled.astype(jnp.int32),
            "side_ids": jnp.where(filled, sides[row], 0),
            "cached": jnp.where(filled[..., None], tokens[jnp.maximum(slots, 0)], 0.0),
        }

    def apply(self, params: Params, batch: Batch, *, key: Array | None, rates: DropoutRates | None) -> Array:
        return self.fns.head(params, batch.cached, batch, key=key, rates=rates)


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
    """Builds the program of a bi-encoder's pair model above the encoder, on the cached tokens of a task.

    Without an interaction the pooled vectors are enough, and the program is that of `head_program`.

    Args:
        source: The task.
        model: Its `interact`, `combine` and `head` are used; the pooling is the cache's.
        optim: Moments, clipping and schedule; the population sets learning rate and decay.
        loss: Cross-entropy or squared error, with class weights; None takes the defaults.
        steps: Number of updates of each run, for the schedule.
        dropout: Whether any member has a dropout rate above 0; otherwise no random bits are drawn.
        target: [all]; replaces the task's targets (noisy labels, for instance).

    Raises:
        UserError: Options do not fit the tokens' width or each other, or are not supported.
    """
    if model.interact.kind == "none":
        return head_program(source.heads, model, optim=optim, loss=loss, steps=steps, dropout=dropout, target=target)
    tokens = TokenSource(source, model, target)
    return assemble(tokens, optim=optim, loss=loss, steps=steps, dropout=dropout)


def parameter_count(program: MemberProgram) -> int:
    """Returns the number of trainable parameters of a member."""
    params = jax.eval_shape(program.init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
