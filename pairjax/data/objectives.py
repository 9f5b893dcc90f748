"""What a run learns: the task as its loss trains it, and class probabilities as targets, from columns or a teacher."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.optim_config import LossConfig
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.clean import clean_text
from pairjax.data.columns import join_names
from pairjax.data.labels import is_numeric
from pairjax.data.ranking import label_ranking
from pairjax.data.readers import byte_lines
from pairjax.data.table import RawSplit
from pairjax.data.tasks import split_labels

SUM_TOLERANCE = 0.01
"""Largest distance from 1 of the sum of soft labels; published ones are often rounded to two digits (0.33 each)."""
LEAST = 5e-7
"""Probabilities below this are raised to it: predictions are written with six digits, so 0 may be any smaller number,
and a temperature needs its logarithm."""


LOGIT_SCALE = 0.05
"""Change of the cosine that changes the logit of two classes by 1, before the temperature: 1 / 20, as in the in-batch
loss."""


def _cosine_task(task: TaskSpec, loss: LossConfig, train: Pairs | None) -> TaskSpec:
    """Returns the task of a model whose output is a cosine.

    The cosines 0 and 1 are the lowest and highest train score. For two classes, the logit is 0 midway between the
    cosines that the loss gives to the two: 1 for similar pairs and 0, or 1 - margin, for others.
    """
    if task.kind == "regression" and loss.kind == "cosine":
        if train is None or train.label is None:
            return task
        low, high = float(train.label.min()), float(train.label.max())
        return replace(task, center=low, scale=high - low if high > low else 1.0)
    if len(task.labels) != 2:
        raise UserError(
            f"--loss.kind {loss.kind} needs two classes" + (", or scores" if loss.kind == "cosine" else ""),
            got=f"{len(task.labels)} ({join_names(task.labels)})" if task.labels else "scores",
            fix="use --loss.kind cross-entropy" if task.labels else "use --loss.kind cosine",
        )
    margin = loss.margin if loss.kind == "contrastive" else 1.0
    return replace(task, head="cosine", center=1.0 - margin / 2.0, scale=LOGIT_SCALE)


def apply_objective(task: TaskSpec, loss: LossConfig, train: Pairs | None = None) -> TaskSpec:
    """Returns the task with the head that the loss trains.

    Args:
        task: The task that the labels define.
        loss: The loss.
        train: The train pairs, whose scores give the range of cosines; None checks the labels only.

    Raises:
        UserError: The loss does not fit the labels.
    """
    if (task.kind == "multi-label") != (loss.kind == "multi-label"):
        raise UserError(
            "--loss.kind multi-label and --data.task multi-label go together",
            got=f"--loss.kind {loss.kind} and labels for {task.kind}",
        )
    if loss.kind in (None, "multi-label"):
        return task
    if loss.reads_vectors:
        return _cosine_task(task, loss, train)
    if task.kind == "regression":
        raise UserError(
            f"--loss.kind {loss.kind} needs classes, but these labels are scores",
            fix="leave it out, or set --data.task classification",
        )
    if loss.kind == "binary":
        if len(task.labels) != 2:
            raise UserError(
                "--loss.kind binary needs two classes",
                got=f"{len(task.labels)} ({join_names(task.labels)})",
                fix="use --loss.kind cross-entropy",
            )
        return replace(task, head="sigmoid")
    return task


# -------------------------------------------------------------------------------------------------------- soft labels


def prepare_labels(raw: RawSplit, split: str, config: DataConfig, notes: list[str]) -> RawSplit:
    """Returns a split with the labels that ranking, several labels and soft labels give it.

    Args:
        raw: The split as it was read.
        split: Its name.
        config: How labels are read.
        notes: Gets a note if labels come from soft labels.

    Raises:
        UserError: A split that is ranked has no column of groups, or a label cannot be read.
    """
    # Train needs no groups, since only the other splits are ranked.
    if config.group is not None and raw.columns.group is None and split != "train":
        raise UserError(f"{raw.place}: no column {config.group}", fix="give --data.group")
    if config.task == "ranking":
        return label_ranking(raw, train=split == "train", seed=config.seed)
    if config.task == "multi-label":
        return split_labels(raw, config.label_separator)
    if raw.columns.soft and raw.label is None:
        notes.append(f"{split}: the label of a pair is the most probable class of its soft labels")
    return label_by_soft(raw)


def _soft_matrix(raw: RawSplit) -> Float64[np.ndarray, "pairs classes"]:
    """Returns the soft labels of a split, columns in the order of `raw.columns.soft`; rows sum to 1.

    Raises:
        UserError: A value is not a number of at least 0, or those of a row do not sum to 1.
    """
    names = raw.columns.soft
    soft = np.zeros((len(raw.first), len(names)), np.float64)
    for index, values in enumerate(zip(*(raw.extra[name] for name in names), strict=True)):
        wrong = [value for value in values if not is_numeric(value) or float(value) < 0]
        total = 0.0 if wrong else sum(map(float, values))
        if wrong or abs(total - 1.0) > SUM_TOLERANCE + 1e-9:
            got = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
            what = f"the soft label {wrong[0]!r} is not a probability" if wrong else "the soft labels do not sum to one"
            raise UserError(
                f"{raw.locate(index)}: {what}",
                got=got if wrong else f"{got}; the sum is {total:g}",
                expected="probabilities that sum to 1",
                fix="divide each by their sum, or correct the row",
            )
        soft[index] = values
    return soft / soft.sum(axis=1, keepdims=True)


def label_by_soft(raw: RawSplit) -> RawSplit:
    """Returns a split with soft labels and no label column with the most probable class of each pair as its label.

    Raises:
        UserError: As `order_soft_labels`.
    """
    if not raw.columns.soft or raw.label is not None:
        return raw
    return replace(raw, label=[raw.columns.soft[index] for index in _soft_matrix(raw).argmax(axis=1)])


def order_soft_labels(raw: RawSplit, task: TaskSpec) -> Float32[np.ndarray, "pairs classes"] | None:
    """Returns the soft labels of a split with their columns in the order of the task's classes; None if it has none.

    Args:
        raw: The split.
        task: The task.

    Raises:
        UserError: A value is no probability, a row does not sum to 1, or the columns are not the task's classes.
    """
    names = raw.columns.soft
    if not names:
        return None
    if set(names) != set(task.labels):
        raise UserError(
            "--data.soft-labels are not the classes of the task",
            got=join_names(names),
            expected=join_names(task.labels),
        )
    return np.ascontiguousarray(_soft_matrix(raw)[:, [names.index(name) for name in task.labels]], np.float32)


# ------------------------------------------------------------------------------------------------------------ teacher


def soften(
    probability: Float64[np.ndarray, "pairs classes"], temperature: float
) -> Float64[np.ndarray, "pairs classes"]:
    """Returns the softmax of the logits of some probabilities, divided by a temperature: p^(1/T), normalised.

    Args:
        probability: Probabilities of the classes.
        temperature: T, above 0; 1 leaves them as they are.
    """
    logits = np.log(np.maximum(probability, LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softened: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return softened


def _teacher_row(line: bytes, place: str, task: TaskSpec) -> tuple[tuple[str, str], list[float]]:
    """Returns the pair and the probabilities, in the order of the task's classes, of a line of predictions."""
    try:
        row = json.loads(line)
        first, second, given = row["sentence1"], row["sentence2"], dict(row["probabilities"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{place}: not a prediction",
            got=line[:80].decode("utf-8", "replace").strip(),
            expected="a JSON object with sentence1, sentence2 and probabilities",
            fix="write the file with pairjax predict",
        ) from None
    if set(given) != set(task.labels):
        raise UserError(
            f"{place}: the teacher's classes are not those of the data",
            got=join_names(map(str, given)),
            expected=join_names(task.labels),
        )
    values = [given[name] for name in task.labels]
    numbers = all(isinstance(value, int | float) and value >= 0 for value in values)
    if not numbers or abs(sum(values) - 1.0) > SUM_TOLERANCE:
        raise UserError(f"{place}: the teacher's probabilities do not sum to one", got=str(values))
    pair = (
        clean_text(first, place=place, column="sentence1"),
        clean_text(second, place=place, column="sentence2"),
    )
    return pair, values


def read_teacher(
    path: str, train: Pairs, task: TaskSpec, *, temperature: float
) -> tuple[Float32[np.ndarray, "pairs classes"], tuple[str, ...]]:
    """Reads a teacher's class probabilities for the train pairs.

    Args:
        path: Predictions of the teacher, as `pairjax predict` writes them. They are matched with the pairs by their
            texts, so their order does not matter.
        train: The train pairs.
        task: The task.
        temperature: Softens the probabilities.

    Returns:
        float32 [N, C] targets in the order of the train pairs, and notes.

    Raises:
        UserError: A line is not a prediction, has other classes, or a train pair has no prediction.
    """
    known: dict[tuple[str, str], list[float]] = {}
    for number, line in enumerate(byte_lines(Path(path)), 1):
        if line.strip():
            pair, values = _teacher_row(line, f"{path}, line {number}", task)
            known.setdefault(pair, values)
    pairs = list(zip(train.first, train.second, strict=True))
    for index, pair in enumerate(pairs):
        if pair not in known:
            place = train.where[index] if train.where else f"train pair {index + 1}"
            raise UserError(
                f"{path}: the teacher has no prediction for the pair of {place}",
                got=f"predictions for {len(known):,} pairs, {len(known.keys() & set(pairs)):,} of them in train",
                expected="one for each train pair",
                fix="predict the train file: pairjax predict TEACHER TRAIN_FILE --output FILE",
            )
    targets = soften(np.array([known[pair] for pair in pairs], np.float64), temperature)
    unused = len(known.keys() - set(pairs))
    notes = (
        (f"teacher: {unused:,} predictions are for pairs that are not in train, and are not used",) if unused else ()
    )
    return targets.astype(np.float32), notes


def soft_targets(
    loss: LossConfig, train: Pairs, task: TaskSpec
) -> tuple[Float32[np.ndarray, "pairs classes"] | None, tuple[str, ...]]:
    """Returns the class probabilities that a run learns, float32 [N, C], and notes; None for the other losses.

    Args:
        loss: The loss.
        train: The train pairs.
        task: The task.

    Raises:
        UserError: There are no soft labels, or the teacher's predictions do not fit the pairs.
    """
    if loss.kind != "soft":
        return None, ()
    if loss.teacher is not None:
        return read_teacher(loss.teacher, train, task, temperature=loss.temperature)
    if train.soft is None:
        raise UserError(
            "--loss.kind soft has no class probabilities",
            fix="name their columns with --data.soft-labels, or a teacher's predictions with --loss.teacher",
        )
    return train.soft, ()


def matching_pairs(train: Pairs, task: TaskSpec) -> tuple[Int64[np.ndarray, " matches"], tuple[str, ...]]:
    """Returns the train pairs of the positive class, which the in-batch loss reads, and notes.

    Args:
        train: The train pairs.
        task: Two classes.

    Raises:
        UserError: There are fewer than two such pairs.
    """
    assert train.label is not None
    chosen = np.flatnonzero(train.label == task.positive_index).astype(np.int64)
    if len(chosen) < 2:
        raise UserError(
            f"--loss.kind in-batch reads pairs of the class {task.positive}, and compares them with each other",
            got=f"{len(chosen)} in train",
            expected="two or more",
        )
    if len(chosen) == len(train):
        return chosen, ()
    return chosen, (
        f"train: the in-batch loss reads the {len(chosen):,} pairs of the class {task.positive}, not the other "
        f"{len(train) - len(chosen):,}",
    )
