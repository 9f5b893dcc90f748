"""The members of a population: which pairs each trains on, and the program that trains them together."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.optim_config import AverageConfig, LoraConfig
from pairjax.base.types import Batch, EncoderSpec, Hypers, PairData, Params, TaskSpec
from pairjax.data.layout import Layout, plan_epoch, steps_per_epoch
from pairjax.data.tasks import fit_score_scale, targets_of
from pairjax.evaluation.metrics import quick_scores
from pairjax.models.build import PairModelFns
from pairjax.population.engine import MemberProgram, Members
from pairjax.step.losses import make_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers
from pairjax.step.step import Apply

ROWS_MULTIPLE = 16384


@dataclass(frozen=True)
class Numbered:
    """The pairs of all splits, one after another.

    Attributes:
        task: Regression with center and scale of train.
        rows: By split, train first, int32 [N]: the numbers of its pairs.
        target: int32 or float32 [all], what is learnt; 0 where unlabelled.
    """

    task: TaskSpec
    rows: Mapping[str, Int32[np.ndarray, " pairs"]]
    target: np.ndarray

    def describe(self) -> bytes:
        """For a hash."""
        sizes = [len(rows) for rows in self.rows.values()]
        return self.target.tobytes() + json.dumps([list(self.rows), sizes, asdict(self.task)]).encode()


def number_pairs(data: PairData) -> Numbered:
    """Number the pairs of all splits, train's first."""
    task = fit_score_scale(data.task, data.splits["train"])
    names = ["train", *(name for name in data.splits if name != "train")]
    rows, start = {}, 0
    for name in names:
        rows[name] = np.arange(start, start + len(data.splits[name]), dtype=np.int32)
        start += len(data.splits[name])
    kind = np.int32 if task.kind == "classification" else np.float32
    targets = [targets_of(task, data.splits[name]) for name in names]
    filled = [np.zeros(len(rows[n]), kind) if t is None else t for n, t in zip(names, targets, strict=True)]
    return Numbered(task, rows, np.concatenate(filled).astype(kind))


def plan_orders(
    rows: Int[np.ndarray, " pairs"], *, seed: int, batch_size: int, steps: int
) -> Int32[np.ndarray, "steps rows"]:
    """A run's order over some rows, epoch after epoch: that of the ordinary trainer with the padded layout.

    Args:
        rows: Which rows of the data train.
        seed: Of the order.
        batch_size: Pairs a step.
        steps: Of the whole run.
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
    """A group for each seed and its subset of rows (folds and samples are subsets)."""
    orders = [
        plan_orders(rows, seed=seed, batch_size=batch_size, steps=steps)
        for rows, seed in zip(subsets, seeds, strict=True)
    ]
    return Members(np.asarray(seeds, np.int64), np.stack(orders), hypers)


def assemble(
    task: TaskSpec,
    fns: PairModelFns,
    *,
    init: Callable[[Array], Params],
    frozen: Params | None = None,
    train: Int32[np.ndarray, " pairs"],
    key: str,
    apply: Apply,
    gather: Callable[[Any, Array], Batch],
    data: Sequence[np.ndarray],
    optim: OptimConfig,
    loss: LossConfig | None,
    steps: int,
    dropout: bool,
    target: np.ndarray,
    **sizes: int,
) -> MemberProgram:
    """A program of a model or its part that trains, with its loss and optimiser.

    Args:
        task: What is learnt.
        fns: The model.
        init: What trains, fresh.
        frozen: What does not, of the parameters that `apply` reads.
        train: The pairs that class weights are counted over.
        key: Of the data, and of what of the model is none of combiner and head.
        apply: From a gathered batch to logits.
        gather: As `MemberProgram.gather`.
        data: Its arrays.
        optim: Moments, clipping and schedule.
        loss: Cross-entropy or squared error, with class weights.
        steps: Of a run.
        dropout: Whether any bits are drawn.
        target: What is learnt, for all rows.
        **sizes: `eval_rows` and `row_bytes` of the program.

    Raises:
        UserError: What only fine-tuning does.
    """
    plain = replace(optim, reinit_layers=0, gradual=0.0, decay_to="zero", lora=LoraConfig(), average=AverageConfig())
    if plain != optim or (loss is not None and loss.r_drop):
        raise UserError(
            "populations train without --loss.r-drop and --optim.gradual, .decay-to, .reinit-layers, .lora and "
            ".average",
            fix="leave them out, or fine-tune with pairjax train",
        )
    config, shapes = fns.config, jax.eval_shape(init, jax.random.key(0))
    counts = np.bincount(target[train], minlength=task.outputs) if task.kind != "regression" else None
    optimizer = build_optimizer(
        optim, total_steps=steps, decay=decay_mask(shapes), multiplier=rate_multipliers(optim, shapes)
    )
    described: list[Any] = [asdict(config.combine), asdict(config.head), repr(config.combiner), asdict(optim)]
    described += [asdict(loss or LossConfig()), steps, dropout, hashlib.sha256(target.tobytes()).hexdigest()]
    return MemberProgram(
        init=init,
        apply=apply,
        loss=make_loss(loss or LossConfig(), task, counts),
        optimizer=optimizer,
        gather=gather,
        data=tuple(_padded(array) for array in data),
        frozen=frozen or {},
        identity=f"{key} {json.dumps(described, sort_keys=True)}",
        **sizes,
    )


def _padded(array: np.ndarray) -> np.ndarray:
    """More rows, of zeros, up to a multiple of `ROWS_MULTIPLE`, so that tasks of about one size share programs."""
    more = -len(array) % ROWS_MULTIPLE
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])


def scores_of(
    task: TaskSpec, outputs: Float[np.ndarray, "groups variants pairs outputs"], label: np.ndarray, metric: str
) -> Float[np.ndarray, "groups variants"]:
    """One metric of every member, NaN for one whose outputs are not finite; regression's outputs standardised or not.

    Accuracy, Spearman and Pearson are computed for all members at once.
    """
    finite = np.isfinite(outputs).all(axis=(2, 3))
    safe = np.where(finite[:, :, None, None], outputs, 0.0)
    if metric == "accuracy":
        found = (safe.argmax(axis=-1) == label).mean(axis=-1)
    elif metric in ("spearman", "pearson"):
        x, y = safe[..., 0].astype(np.float64), label.astype(np.float64)
        if metric == "spearman":
            from scipy.stats import rankdata

            x, y = rankdata(x, axis=-1), rankdata(y)
        x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (x * y).sum(axis=-1) / np.sqrt((x * x).sum(axis=-1) * (y * y).sum())
    else:
        scale, center = (task.scale, task.center) if task.kind == "regression" else (1.0, 0.0)
        found = np.array(
            [[quick_scores(task, member * scale + center, label)[metric] for member in group] for group in safe]
        )
    return np.where(finite, found, np.nan)


def row_bytes(spec: EncoderSpec, length: int, *, layers: int, heads: int) -> int:
    """Estimates the memory of one row's activations in one member, forward and backward, in bytes.

    Args:
        spec: Sizes of the encoder.
        length: Length of a row, in tokens.
        layers: Number of transformer layers that train.
        heads: Attention heads of each layer.
    """
    layer = 12 * spec.hidden_size + 4 * spec.intermediate_size + 4 * heads * length
    return 4 * length * (4 * spec.hidden_size + layers * layer)
