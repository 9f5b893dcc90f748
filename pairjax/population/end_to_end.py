"""Trains small models end to end as populations: encoder, interaction, combiner and head, many runs in one program.

Every pair is a row. All rows have the length of the longest pair, and a member gathers its batches by index. A member
equals the ordinary run with the padded layout, up to rounding.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.params import split
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, PairData, Params, TaskSpec
from pairjax.data.encode import encode_split
from pairjax.data.pipeline import PADDING_POSITION, make_batch
from pairjax.data.tokenizer import check_fit, load_tokenizer
from pairjax.models.build import build_pair_model, initial_params
from pairjax.population.engine import MemberProgram
from pairjax.population.members import TOKEN_ARRAYS, Source, TrainPart, assemble, layer_bytes, number_pairs
from pairjax.step.optim import trainable_paths
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder, weights_hash

EVAL_ROWS = 64
"""Rows evaluated at once."""
LENGTHS_MULTIPLE = 8
"""The length of a row is rounded up to a multiple of this."""


@dataclass(frozen=True)
class EndToEndTask:
    """A task whose pairs are rows of tokens.

    Attributes:
        task: The task; for regression with center and scale of the train split.
        spec: The encoder's architecture.
        encoder: The pretrained encoder; None if each member draws its own.
        pooler: The pretrained pooler, if there is one; None if each member draws its own.
        model: The model's config, every default resolved.
        rows: By split, train first, int32 [N]; the numbers of its examples.
        batch: All examples, one row each, NumPy arrays.
        pad_id: The token id of empty slots.
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


def end_to_end_task(
    data: PairData,
    model: ModelConfig,
    *,
    fresh: bool = False,
    max_length: int,
    truncation: Truncation,
    prefixes: tuple[str, str] = ("", ""),
) -> EndToEndTask:
    """Reads an encoder and lays out a task's pairs for it.

    Args:
        data: The pairs.
        model: The model, which names the encoder.
        fresh: Whether to ignore the encoder's weights, so that members train from scratch with its architecture and
            tokeniser.
        max_length: Tokens of a joint row, or of one side, at most.
        truncation: How longer ones are cut.
        prefixes: Text that is put before each text of side A, and of side B.

    Raises:
        UserError: Encoder, tokeniser and options do not fit together.
    """
    folder = resolve_encoder(model.encoder, download=model.download)
    spec = read_encoder_spec(folder)
    tokenizer = load_tokenizer(folder, family=spec.family, prefixes=prefixes)
    check_fit(max_length, spec=spec, tokenizer=tokenizer, folder=folder)
    numbered = number_pairs(data)
    config = build_pair_model(model, spec, numbered.task.outputs).config
    parts = []
    for name, rows in numbered.rows.items():
        encoded = encode_split(data.splits[name], tokenizer, model=config, max_length=max_length, truncation=truncation)
        parts.append((encoded, numbered.target[rows]))
    longest = max(int(encoded.lengths.max()) for encoded, _ in parts)
    length = -(-longest // LENGTHS_MULTIPLE) * LENGTHS_MULTIPLE
    batches = [
        make_batch(encoded, target, np.arange(len(encoded), dtype=np.int32)[:, None], length)
        for encoded, target in parts
    ]
    batch = Batch(*(None if leaves[0] is None else np.concatenate(leaves) for leaves in zip(*batches, strict=True)))
    digest = hashlib.sha256(batch.input_ids.tobytes() + batch.position_ids.tobytes() + numbered.describe())
    digest.update(f"{'fresh' if fresh else weights_hash(folder)} {spec}".encode())
    loaded = None if fresh else load_encoder(folder, spec)
    return EndToEndTask(
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


class EndToEndSource(Source):
    """The pair model from token ids to logits; `optim.freeze` decides which of its parts train."""

    eval_rows = EVAL_ROWS

    def __init__(self, task: EndToEndTask, optim: OptimConfig, target: np.ndarray | None) -> None:
        model, spec = task.model, task.spec
        self.task, self.train, self.key = task.task, task.rows["train"], f"{task.key} {asdict(model)}"
        self.fns = build_pair_model(model, spec, task.task.outputs)
        self._encoder, self._pooler = task.encoder, task.pooler
        self._blanks = (task.pad_id, 0, PADDING_POSITION, 0, 0)
        self.arrays = tuple(getattr(task.batch, name) for name in TOKEN_ARRAYS)
        self.target = task.batch.label[:, 0] if target is None else target
        shapes = jax.eval_shape(self._init_all, jax.random.key(0))
        pooler_kept = task.pooler is not None and model.pooler != "fresh"
        self._chosen = trainable_paths(optim, shapes, pooler_kept=pooler_kept)
        if task.encoder is None and not all(self._chosen.values()):
            raise UserError(
                "an encoder from scratch must train completely", got=f"--optim.freeze {optim.freeze}", expected="none"
            )
        self.frozen = split(self._init_all(jax.random.key(0)), self._chosen)[1]
        layers = spec.num_layers + (model.interact.layers if model.interact.kind != "none" else 0)
        length = task.batch.input_ids.shape[1]
        self.row_bytes = layer_bytes(spec, heads=spec.num_heads, layers=layers, length=length)

    def _init_all(self, key: Array) -> Params:
        """Returns all parameters, frozen ones included."""
        if self._encoder is None:
            return self.fns.init(key)
        return initial_params(self.fns, key, encoder=self._encoder, pooler=self._pooler)[0]

    def init(self, key: Array) -> Params:
        return split(self._init_all(key), self._chosen)[0]

    def inputs(self, arrays: Sequence[Array], row: Array, real: Array) -> Mapping[str, Array]:
        return {
            name: jnp.where(real[:, None], array[row], blank)
            for name, array, blank in zip(TOKEN_ARRAYS, arrays, self._blanks, strict=True)
        }

    def apply(self, params: Params, batch: Batch, *, key: Array | None, rates: DropoutRates | None) -> Array:
        return self.fns.apply(params, batch, key=key, rates=rates)


def end_to_end_program(
    source: EndToEndTask,
    *,
    optim: OptimConfig,
    loss: LossConfig | None = None,
    steps: int,
    dropout: bool,
    target: np.ndarray | None = None,
    parts: Sequence[TrainPart] = (),
) -> MemberProgram:
    """Builds the program of the pair model from token ids to logits.

    Args:
        source: The task, and the model that reads it.
        optim: Freezing, moments, clipping and schedule; the population sets learning rate and decay.
        loss: Cross-entropy or squared error, with class weights; None takes the defaults.
        steps: Number of updates of each run, for the schedule.
        dropout: Whether any member has a dropout rate above 0; otherwise no random bits are drawn.
        target: [all]; replaces the task's targets (noisy labels, for instance).
        parts: As for `assemble`.

    Raises:
        UserError: An option that only fine-tuning supports, a kept pooler that does not exist, or frozen parts of a
            model that trains from scratch.
    """
    model = EndToEndSource(source, optim, target)
    return assemble(model, optim=optim, loss=loss, steps=steps, dropout=dropout, parts=parts)
