"""Whole small models as populations: encoder and all above it train, many runs in one program.

Every pair is a row of one length, the longest pair's, so that a member reads its batch by index. A member is the
ordinary run with the padded layout, but for rounding.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32

from pairjax.base.config import LossConfig, ModelConfig, OptimConfig, Truncation
from pairjax.base.errors import UserError
from pairjax.base.params import split
from pairjax.base.types import Batch, EncoderSpec, PairData, Params, TaskSpec
from pairjax.data.encode import encode_split
from pairjax.data.pipeline import PADDING_POSITION, make_batch
from pairjax.data.tokenizer import check_fit, load_tokenizer
from pairjax.models.build import build_pair_model, initial_params
from pairjax.population.engine import MemberProgram
from pairjax.population.members import assemble, number_pairs, row_bytes
from pairjax.step.optim import trainable_paths
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder, weights_hash

EVAL_ROWS = 64
"""Rows evaluated at once."""
LENGTHS_MULTIPLE = 8


@dataclass(frozen=True)
class WholeTask:
    """A task whose pairs are rows of tokens.

    Attributes:
        task: Classes, or scores with their center and scale.
        spec: Of the encoder.
        encoder: Its parameters; None where each member draws its own.
        pooler: Likewise, where it has one.
        model: What reads the rows, every default resolved.
        rows: By split, int32 [N]: the numbers of its pairs among all, train first.
        batch: All pairs, a row each, NumPy.
        pad_id: The token of empty slots.
        key: SHA-256 of encoder, rows and labels.
    """

    task: TaskSpec
    spec: EncoderSpec
    encoder: Params | None
    pooler: Params | None
    model: ModelConfig
    rows: Mapping[str, Int32[np.ndarray, " pairs"]]
    batch: Batch
    pad_id: int
    key: str


def whole_task(
    data: PairData, model: ModelConfig, *, fresh: bool = False, max_length: int, truncation: Truncation
) -> WholeTask:
    """Read an encoder and lay out a task's pairs for it.

    Args:
        data: The pairs.
        model: Names the encoder.
        fresh: Whether the encoder's weights are left, its architecture and tokeniser kept: members begin from scratch.
        max_length: Tokens of a joint row, or of a side.
        truncation: Of what is longer.

    Raises:
        UserError: Encoder, tokeniser and options that do not fit.
    """
    folder = resolve_encoder(model.encoder, download=model.download)
    spec = read_encoder_spec(folder)
    tokenizer = load_tokenizer(folder, family=spec.family)
    check_fit(max_length, spec=spec, tokenizer=tokenizer, folder=folder)
    numbered = number_pairs(data)
    config = build_pair_model(model, spec, numbered.task.outputs).config
    parts = []
    for name, rows in numbered.rows.items():
        encoded = encode_split(data.splits[name], tokenizer, model=config, max_length=max_length, truncation=truncation)
        parts.append((encoded, numbered.target[rows]))
    longest = max(int(encoded.lengths.max()) for encoded, _ in parts)
    length = -(-longest // LENGTHS_MULTIPLE) * LENGTHS_MULTIPLE
    laid = [
        make_batch(encoded, target, np.arange(len(encoded), dtype=np.int32)[:, None], length)
        for encoded, target in parts
    ]
    batch = Batch(*(None if leaves[0] is None else np.concatenate(leaves) for leaves in zip(*laid, strict=True)))
    digest = hashlib.sha256(batch.input_ids.tobytes() + batch.position_ids.tobytes() + numbered.describe())
    digest.update(f"{'fresh' if fresh else weights_hash(folder)} {spec}".encode())
    loaded = None if fresh else load_encoder(folder, spec)
    return WholeTask(
        task=numbered.task,
        spec=spec,
        encoder=None if loaded is None else loaded.params,
        pooler=None if loaded is None else loaded.pooler,
        model=config,
        rows=numbered.rows,
        batch=batch,
        pad_id=parts[0][0].pad_id,
        key=digest.hexdigest(),
    )


def whole_program(
    source: WholeTask,
    *,
    optim: OptimConfig,
    loss: LossConfig | None = None,
    steps: int,
    dropout: bool,
    target: np.ndarray | None = None,
) -> MemberProgram:
    """The pair model from tokens to logits; `optim.freeze` says what of it trains.

    Args:
        source: The task, and the model that reads it.
        optim: Freezing, moments, clipping and schedule; rates and decay are the population's.
        loss: Cross-entropy or squared error, with class weights.
        steps: Of a run, for the schedule.
        dropout: Whether any member has a dropout rate above 0; without, no bits are drawn.
        target: Stands in for the task's targets (labels made noisy, say), for all rows.

    Raises:
        UserError: What only fine-tuning does; a kept pooler where there is none; parts frozen that no file gave.
    """
    fns = build_pair_model(source.model, source.spec, source.task.outputs)
    kept_pooler = source.pooler is not None and source.model.pooler != "fresh"

    def start(key: Array) -> Params:
        if source.encoder is None:
            return fns.init(key)
        return initial_params(fns, key, encoder=source.encoder, pooler=source.pooler)[0]

    whole = jax.eval_shape(start, jax.random.key(0))
    chosen = trainable_paths(optim, whole, pooler_kept=kept_pooler)
    if source.encoder is None and not all(chosen.values()):
        raise UserError("an encoder from scratch trains wholly", got=f"--optim.freeze {optim.freeze}", expected="none")
    frozen = split(start(jax.random.key(0)), chosen)[1]
    interact = fns.config.interact
    layers = fns.spec.num_layers + (interact.layers if interact.kind != "none" else 0)
    labels = source.batch.label[:, 0] if target is None else target
    tokens = source.batch
    empty = {
        "input_ids": source.pad_id,
        "token_type_ids": 0,
        "position_ids": PADDING_POSITION,
        "pair_ids": 0,
        "side_ids": 0,
    }

    def gather(data: Any, index: Array) -> Batch:
        *columns, label = data
        real, row = index >= 0, jnp.maximum(index, 0)
        return Batch(
            label=jnp.where(real, label[row], 0)[:, None],
            weight=real.astype(jnp.float32)[:, None],
            example_id=index[:, None],
            **{
                name: jnp.where(real[:, None], column[row], blank)
                for (name, blank), column in zip(empty.items(), columns, strict=True)
            },
        )

    def apply(params: Params, batch: Batch, *, key: Any = None, rates: Any = None) -> Array:
        if not dropout:
            key = rates = None
        return fns.apply(params, batch, key=key, rates=rates)

    return assemble(
        source.task,
        fns,
        init=lambda key: split(start(key), chosen)[0],
        frozen=frozen,
        train=source.rows["train"],
        key=f"{source.key} {asdict(source.model)}",
        apply=apply,
        gather=gather,
        data=(*(getattr(tokens, name) for name in empty), labels),
        optim=optim,
        loss=loss,
        steps=steps,
        dropout=dropout,
        target=labels,
        eval_rows=EVAL_ROWS,
        row_bytes=row_bytes(fns.spec, tokens.input_ids.shape[1], layers=layers, heads=fns.spec.num_heads),
    )
