"""Builds the members of a population: the examples that each trains on, and the program that they all run."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.optim_config import AverageConfig, LoraConfig
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Hypers, PairData, Params, TaskSpec
from pairjax.data.layout import Layout, plan_epoch, steps_per_epoch
from pairjax.data.subsets import take_pairs
from pairjax.data.tasks import fit_score_scale, label_counts, targets_of
from pairjax.evaluation.metrics import quick_scores
from pairjax.models.build import PairModelFns
from pairjax.population.engine import EVAL_ROWS, MemberProgram, Members
from pairjax.step.losses import class_weights, make_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers

ROWS_MULTIPLE = 16384
"""Arrays of a program are padded to a multiple of this many rows, so tasks of similar size share compiled programs."""
TOKEN_ARRAYS = ("input_ids", "token_type_ids", "position_ids", "pair_ids", "side_ids")
"""Fields of a batch that are None if the model does not read them."""


@dataclass(frozen=True)
class Numbered:
    """The examples of all splits, numbered one after another.

    Attributes:
        task: The task; for regression with center and scale of the train split.
        rows: By split, train first, int32 [N]; the numbers of its examples.
        target: int32 or float32 [all]; what the model learns, 0 if unlabelled.
    """

    task: TaskSpec
    rows: Mapping[str, Int32[np.ndarray, " pairs"]]
    target: np.ndarray

    def describe(self) -> bytes:
        """Returns targets, splits and task as bytes to hash."""
        sizes = [len(rows) for rows in self.rows.values()]
        return self.target.tobytes() + json.dumps([list(self.rows), sizes, self.task.to_json()]).encode()


def number_pairs(data: PairData, *, part: Int[np.ndarray, " part"] | None = None) -> Numbered:
    """Numbers the examples of all splits; the train split comes first.

    Args:
        data: The pairs.
        part: The train examples whose scores give center and scale; None for all of them.
    """
    train = data.splits["train"]
    task = fit_score_scale(data.task, train if part is None else take_pairs(train, part))
    names = ["train", *(name for name in data.splits if name != "train")]
    rows, start = {}, 0
    for name in names:
        rows[name] = np.arange(start, start + len(data.splits[name]), dtype=np.int32)
        start += len(data.splits[name])
    kind = np.int32 if task.kind == "classification" else np.float32
    targets = [targets_of(task, data.splits[name]) for name in names]
    filled = [np.zeros(len(rows[n]), kind) if t is None else t for n, t in zip(names, targets, strict=True)]
    return Numbered(task, rows, np.concatenate(filled).astype(kind))


@dataclass(frozen=True)
class TrainPart:
    """What is fitted on the part of the train split that a run learns from: on no example that it is scored on.

    Attributes:
        task: The task; for regression with center and scale of the part.
        target: int32 or float32 [all]; what the model learns.
        weight: float32 [all]; the balanced weight of each example's class, else 1.
    """

    task: TaskSpec
    target: np.ndarray
    weight: Float[np.ndarray, " all"]


def needs_parts(task: TaskSpec, loss: LossConfig) -> bool:
    """Returns whether something is fitted on the train labels: center and scale of scores, or balanced weights."""
    return task.kind == "regression" or loss.class_weights == "balanced"


def fit_part(data: PairData, part: Int[np.ndarray, " part"], loss: LossConfig) -> TrainPart:
    """Fits targets and class weights on a part of the train split, as an ordinary run on that part does.

    Args:
        data: The pairs.
        part: The train examples that the run learns from.
        loss: The kind of class weights.

    Raises:
        UserError: The weights are balanced, and a class has no example in the part.
    """
    numbered = number_pairs(data, part=part)
    weight = np.ones(len(numbered.target), np.float32)
    if loss.class_weights == "balanced":
        counts = label_counts(data.task, take_pairs(data.splits["train"], part))
        weights = class_weights(loss, data.task, counts)
        assert weights is not None
        weight = weights.astype(np.float32)[numbered.target]
    return TrainPart(numbered.task, numbered.target, weight)


def plan_orders(
    rows: Int[np.ndarray, " pairs"], *, seed: int, batch_size: int, steps: int
) -> Int32[np.ndarray, "steps rows"]:
    """Plans the order of one run over some examples, epoch after epoch, as the trainer does with the padded layout.

    Args:
        rows: The numbers of the examples that train.
        seed: Seeds the order.
        batch_size: Pairs in a step.
        steps: Number of updates of the run.

    Returns:
        The examples of each step by number, -1 for an empty slot.
    """
    per_epoch = steps_per_epoch(len(rows), batch_size)
    lengths, layout = np.ones(len(rows), np.int32), Layout("padded", (8,))
    parts = [
        plan_epoch(seed=seed, epoch=epoch, lengths=lengths, layout=layout, batch_size=batch_size).index[:, :, 0]
        for epoch in range(-(-steps // per_epoch))
    ]
    index = np.concatenate(parts)[:steps]
    return np.where(index >= 0, rows[np.maximum(index, 0)], -1).astype(np.int32)


def make_runs(
    subsets: Sequence[Int[np.ndarray, " _"]], *, seeds: Sequence[int], hypers: Hypers, batch_size: int, steps: int
) -> Members:
    """Builds members with one group for each subset of examples and its seed.

    Args:
        subsets: For each group, the numbers of the examples that train (a fold's complement, a sample).
        seeds: For each group, the seed of parameters, dropout and order.
        hypers: The variants, as `Members` takes them.
        batch_size: Pairs in a step.
        steps: Number of updates of each run.
    """
    orders = [
        plan_orders(rows, seed=seed, batch_size=batch_size, steps=steps)
        for rows, seed in zip(subsets, seeds, strict=True)
    ]
    return Members(np.asarray(seeds, np.int64), np.stack(orders), hypers)


class Source(ABC):
    """The data and the model that a population trains on; `assemble` makes a program of it.

    Attributes:
        task: The task; for regression with center and scale of the train split.
        fns: The pair model.
        arrays: The inputs that `inputs` reads, each with one leading axis of its own.
        target: int32 or float32 [all]; what the members learn.
        train: int32 [N]; the numbers of the train examples, over which class weights are counted.
        key: Identifies the data, and the parts of the model besides combiner and head.
        frozen: Parameters that do not train.
        eval_rows: Rows evaluated at once.
        row_bytes: Bytes that a row needs in one member during training.
    """

    task: TaskSpec
    fns: PairModelFns
    arrays: tuple[np.ndarray, ...]
    target: np.ndarray
    train: Int32[np.ndarray, " pairs"]
    key: str
    frozen: Params
    eval_rows: int = EVAL_ROWS
    row_bytes: int = 256

    @abstractmethod
    def init(self, key: Array) -> Params:
        """Draws the trainable parameters."""

    @abstractmethod
    def inputs(self, arrays: Sequence[Array], row: Array, real: Array) -> Mapping[str, Array]:
        """Gathers what the model reads: fields of `Batch` by name.

        Args:
            arrays: `self.arrays`, on the device.
            row: int32 [B]; numbers of the examples, 0 in an empty slot.
            real: bool [B]; False in an empty slot.
        """

    @abstractmethod
    def apply(self, params: Params, batch: Batch, *, key: Array | None, rates: DropoutRates | None) -> Array:
        """Computes the logits [B, 1, C] of a gathered batch, without dropout if `key` and `rates` are None."""

    def gather(self, data: Sequence[Array], index: Int32[Array, " rows"]) -> Batch:
        """Gathers a batch with one pair a row; a slot with index -1 is empty and has weight 0."""
        *arrays, target = data
        real, row = index >= 0, jnp.maximum(index, 0)
        fields: dict[str, Any] = dict.fromkeys(TOKEN_ARRAYS)
        return Batch(
            **(fields | dict(self.inputs(arrays, row, real))),
            label=jnp.where(real, target[row], 0)[:, None],
            weight=real.astype(jnp.float32)[:, None],
            example_id=index[:, None],
        )


def supported(optim: OptimConfig, loss: LossConfig | None) -> bool:
    """Returns whether populations support these options; the ordinary trainer supports all."""
    plain = replace(optim, reinit_layers=0, gradual=0.0, decay_to="zero", lora=LoraConfig(), average=AverageConfig())
    return plain == optim and (loss is None or (not loss.r_drop and loss.kind in (None, "cross-entropy")))


def assemble(
    source: Source,
    *,
    optim: OptimConfig,
    loss: LossConfig | None,
    steps: int,
    dropout: bool,
    parts: Sequence[TrainPart] = (),
) -> MemberProgram:
    """Builds the program that trains a source's model, with loss and optimiser.

    Args:
        source: The data and the model.
        optim: Moments, clipping and schedule; the population sets learning rate and decay.
        loss: Cross-entropy or squared error, with class weights; None takes the defaults.
        steps: Number of updates of each run, for the schedule.
        dropout: Whether any member has a dropout rate above 0; otherwise no random bits are drawn.
        parts: Targets and class weights of each part of the train split, if groups train on parts. Example i of part p
            then has the number i + p * `padded_size(all)` in the members' orders. By default all members share the
            source's targets, and balanced class weights are those of the whole train split.

    Raises:
        UserError: An option that only fine-tuning supports.
    """
    if not supported(optim, loss):
        raise UserError(
            "populations support no --loss.kind but cross-entropy, and no --loss.r-drop or --optim.gradual, .decay-to, "
            ".reinit-layers, .lora and .average",
            fix="leave them out, or fine-tune with pairjax train",
        )
    task, config, loss = source.task, source.fns.config, loss or LossConfig()
    target, data = source.target, (*source.arrays, source.target)
    gather: Callable[[Any, Array], Batch] = source.gather
    shapes = jax.eval_shape(source.init, jax.random.key(0))
    counts = np.bincount(target[source.train], minlength=task.outputs) if task.kind != "regression" else None

    def apply(params: Params, batch: Batch, *, key: Any = None, rates: Any = None) -> Array:
        return source.apply(params, batch, key=key if dropout else None, rates=rates if dropout else None)

    settings: list[Any] = [asdict(config.combine), asdict(config.head), repr(config.combiner), asdict(optim)]
    settings += [asdict(loss), steps, dropout, hashlib.sha256(target.tobytes()).hexdigest()]
    if parts:
        target, weight = (
            np.concatenate([_padded(getattr(part, name)) for part in parts]) for name in ("target", "weight")
        )
        settings.append(hashlib.sha256(target.tobytes() + weight.tobytes()).hexdigest())
        gather, data = _part_gather(source, padded_size(len(source.target))), (*source.arrays, target, weight)
        # The gathered weights are the class weights.
        loss = replace(loss, class_weights="none") if loss.class_weights == "balanced" else loss
    return MemberProgram(
        init=source.init,
        apply=apply,
        loss=make_loss(loss, task, counts),
        optimizer=build_optimizer(
            optim, total_steps=steps, decay=decay_mask(shapes), multiplier=rate_multipliers(optim, shapes)
        ),
        gather=gather,
        data=tuple(map(_padded, data)),
        frozen=source.frozen,
        identity=f"{source.key} {json.dumps(settings, sort_keys=True)}",
        eval_rows=source.eval_rows,
        row_bytes=source.row_bytes,
    )


def _part_gather(source: Source, size: int) -> Callable[[Any, Array], Batch]:
    """Returns the gather of a program with parts: inputs by example, targets and weights by part and example."""

    def gather(data: Sequence[Array], index: Int32[Array, " rows"]) -> Batch:
        *arrays, target, weight = data
        real, row = index >= 0, jnp.maximum(index, 0)
        batch = source.gather((*arrays, target[:size]), jnp.where(real, index % size, -1))
        label, weights = (jnp.where(real, values[row], 0)[:, None] for values in (target, weight))
        return batch._replace(label=label, weight=weights)

    return gather


def layer_bytes(spec: EncoderSpec, *, heads: int, layers: int, length: int) -> int:
    """Estimates the bytes of a row's activations in transformer layers, forward and backward pass together.

    Args:
        spec: Gives the widths.
        heads: Attention heads of each layer.
        layers: Number of layers.
        length: Token slots of the row.
    """
    layer = 12 * spec.hidden_size + 4 * spec.intermediate_size + 4 * heads * length
    return 4 * length * (4 * spec.hidden_size + layers * layer)


def padded_size(rows: int) -> int:
    """Returns the number of rows that an array of a program has: a multiple of `ROWS_MULTIPLE`."""
    return -(-rows // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _padded(array: np.ndarray) -> np.ndarray:
    """Appends rows of zeros up to `padded_size`."""
    missing = padded_size(len(array)) - len(array)
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


def scores_of(
    task: TaskSpec, outputs: Float[np.ndarray, "groups variants pairs outputs"], label: np.ndarray, metric: str
) -> Float[np.ndarray, "groups variants"]:
    """Computes one metric of every member.

    Accuracy, Spearman and Pearson are computed for all members at once.

    Args:
        task: The task.
        outputs: Logits, or scores before they are scaled back.
        label: [pairs]; labels in the data's own units.
        metric: Name of the metric.

    Returns:
        The scores; NaN for a member whose outputs are not finite.
    """
    finite = np.isfinite(outputs).all(axis=(2, 3))
    safe = np.where(finite[:, :, None, None], outputs, 0.0)
    if metric == "accuracy":
        scores = (safe.argmax(axis=-1) == label).mean(axis=-1)
    elif metric in ("spearman", "pearson"):
        x, y = safe[..., 0].astype(np.float64), label.astype(np.float64)
        if metric == "spearman":
            from scipy.stats import rankdata

            x, y = rankdata(x, axis=-1), rankdata(y)
        # The mean of equal numbers is not exactly one of them, so rounding would make a score of 0 from a constant.
        constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y) == 0)
        x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = (x * y).sum(axis=-1) / np.sqrt((x * x).sum(axis=-1) * (y * y).sum())
        scores = np.where(constant, np.nan, scores)
    else:
        scale, center = (task.scale, task.center) if task.kind == "regression" else (1.0, 0.0)
        scores = np.array(
            [[quick_scores(task, member * scale + center, label)[metric] for member in group] for group in safe]
        )
    return np.where(finite, scores, np.nan)
