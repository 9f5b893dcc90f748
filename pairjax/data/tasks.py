"""From labels as they are written to a task: its kind, the names of its classes and their order, arrays of labels.

Labels are names. Numbers with a decimal point are scores and make a regression; whole numbers are names of classes.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from pairjax.base.config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec, default_positive
from pairjax.data.columns import listed
from pairjax.data.readers import RawSplit

INTEGER = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)
MISSING = ("", "-")  # SNLI writes "-" where annotators did not agree.
SCORE_BINS = 10

Kind = Literal["classification", "regression"]


def label_name(label: object) -> str:
    """A label as a name: `True` is true, 1.0 (a typed float) is 1."""
    if isinstance(label, bool | np.bool_):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return unicodedata.normalize("NFC", str(label).strip())


def is_numeric(label: object) -> bool:
    """Whether it is a number, or is written as one; nan and inf are not."""
    if isinstance(label, bool):
        return False
    if isinstance(label, int | float):
        return math.isfinite(label)
    return NUMBER.fullmatch(str(label).strip()) is not None


def _is_score(label: object) -> bool:
    if isinstance(label, bool | int):
        return False
    return isinstance(label, float) or (is_numeric(label) and INTEGER.fullmatch(str(label).strip()) is None)


def _is_missing(raw: RawSplit, label: object) -> bool:
    if raw.class_names is not None and isinstance(label, int) and label == -1:
        return True
    return label is None or (isinstance(label, str) and label.strip() in MISSING)


def _is_minus_one(label: object) -> bool:
    return not isinstance(label, bool) and is_numeric(label) and float(str(label)) == -1.0


def _not_finite(label: object) -> bool:
    if isinstance(label, float):
        return not math.isfinite(label)
    return isinstance(label, str) and NOT_FINITE.fullmatch(label.strip()) is not None


def labels_of(raw: RawSplit, *, may_lack: bool, known: TaskSpec | None = None) -> list[Any] | None:
    """The labels of a split; None where it carries none.

    A split carries none where its label column is missing, or where every label is empty or, as in GLUE's tests, -1
    (unless -1 is one of the task's own classes).

    Args:
        raw: The split.
        may_lack: Whether it may be unlabelled: a test split may, train and dev may not.
        known: The task, where it is settled already.

    Raises:
        UserError: Some labels are missing, or all of them where none may.
    """
    labels = raw.label
    if labels is None:
        return None
    own = known is not None and "-1" in known.labels
    if may_lack and all(_is_missing(raw, label) or (not own and _is_minus_one(label)) for label in labels):
        return None
    for row, label in enumerate(labels):
        if _is_missing(raw, label):
            raise UserError(
                f"{raw.at(row)}: the label ({raw.columns.label}) is missing",
                got=repr(label),
                fix="fill it in, drop the row, or give --data.empty skip",
            )
    return labels


def drop_unlabelled(raw: RawSplit) -> tuple[RawSplit, int]:
    """The rows that have a label, and how many had none; a split of which no row has one is left as it is."""
    if raw.label is None:
        return raw, 0
    kept = [row for row, label in enumerate(raw.label) if not _is_missing(raw, label)]
    if not kept or len(kept) == len(raw.label):
        return raw, 0
    less = replace(
        raw,
        first=[raw.first[row] for row in kept],
        second=[raw.second[row] for row in kept],
        label=[raw.label[row] for row in kept],
        number=[raw.number[row] for row in kept],
    )
    return less, len(raw.label) - len(kept)


def _kind_of(raw: RawSplit, labels: Sequence[Any], wanted: str) -> Kind:
    """The kind of the train labels; `wanted` is the option.

    Raises:
        UserError: Scores and names are mixed, or a number is not finite.
    """
    if wanted == "classification":
        return "classification"
    if wanted == "regression":
        return "regression"
    odd = [row for row, label in enumerate(labels) if not is_numeric(label)]
    if not odd:
        return "regression" if any(_is_score(label) for label in labels) else "classification"
    if len(odd) < len(labels) and all(_not_finite(labels[row]) for row in odd):
        raise _no_score(raw.at(odd[0]), labels[odd[0]])
    if not any(_is_score(label) for label in labels):
        return "classification"
    raise UserError(
        f"{raw.at(odd[0])}: the label is a name, while others are numbers",
        got=repr(labels[odd[0]]),
        expected="names only, or numbers only",
        fix="fix it, or give --data.task classification",
    )


def _no_score(place: str, label: object) -> UserError:
    return UserError(f"{place}: the score is no finite number", got=label, fix="fix it, or drop the row")


def _ordered(names: Collection[str], fixed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names in the source's order where it has one, by value where all are numbers, else by the alphabet."""
    if fixed is not None and set(names) <= set(fixed):
        return tuple(name for name in fixed if name in names)
    if all(is_numeric(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _named(raw: RawSplit, labels: Sequence[Any]) -> list[str]:
    """Class names of the labels; integers become names where the source has names for them."""
    fixed = raw.class_names
    if fixed is None:
        return [label_name(label) for label in labels]
    named = []
    for row, label in enumerate(labels):
        if isinstance(label, int) and not isinstance(label, bool):
            if not 0 <= label < len(fixed):
                raise UserError(f"{raw.at(row)}: no class has the number {label}", expected=f"0 to {len(fixed) - 1}")
            named.append(fixed[label])
        else:
            named.append(label_name(label))
    return named


def _as_names(raw: RawSplit, labels: Sequence[Any]) -> bool:
    """Whether the source has names for integer labels, so that they are classes whatever they look like."""
    return raw.class_names is not None and all(isinstance(label, int) for label in labels)


def read_task(raw: RawSplit, config: DataConfig) -> TaskSpec:
    """The task that the train split sets.

    Raises:
        UserError: Labels are missing or mixed, there is but one class, or `--data.positive` names none of two.
    """
    labels = labels_of(raw, may_lack=False)
    if labels is None:
        raise UserError(f"{raw.place}: no labels", fix="name their column with --data.label")
    kind = _kind_of(raw, labels, "classification" if _as_names(raw, labels) else config.task)
    if kind == "regression":
        if config.positive is not None:
            raise UserError("--data.positive goes with two classes", got=f"scores in {raw.place}")
        return TaskSpec("regression")
    names = _ordered(set(_named(raw, labels)), raw.class_names)
    if len(names) < 2:
        raise UserError(
            f"{raw.place}: one class only",
            got=f"{names[0]} in all {len(labels)} rows",
            expected="two or more",
            fix="check --data.label",
        )
    return TaskSpec("classification", names, positive=choose_positive(names, config.positive))


def choose_positive(names: tuple[str, ...], wanted: str | None) -> str | None:
    """The class whose F1 is reported.

    Raises:
        UserError: `wanted` is none of the names, or there are not two of them.
    """
    if wanted is None:
        return default_positive(names)
    if wanted not in names:
        raise UserError("--data.positive names no class", got=wanted, expected=f"one of {listed(names)}")
    if len(names) != 2:
        raise UserError("--data.positive goes with two classes", got=f"{len(names)} ({listed(names)})")
    return wanted


def encode_labels(raw: RawSplit, task: TaskSpec, *, may_lack: bool, known_from: str = "train") -> np.ndarray | None:
    """Labels as the model counts them: int32 [N] class indices or float32 [N] scores; None where there are none.

    Args:
        raw: The split.
        task: Names and their order.
        may_lack: Whether the split may be unlabelled.
        known_from: Where the names come from, for messages.

    Raises:
        UserError: A label is missing, unknown, or no finite number.
    """
    labels = labels_of(raw, may_lack=may_lack, known=task)
    if labels is None:
        return None
    if task.kind == "regression":
        return _scores(raw, labels, known_from)
    index = {name: number for number, name in enumerate(task.labels)}
    names = _named(raw, labels)
    for row, name in enumerate(names):
        if name not in index:
            _refuse(raw.at(row), name, task.labels, known_from)
    return np.fromiter((index[name] for name in names), np.int32, len(names))


def _refuse(place: str, name: str, known: tuple[str, ...], known_from: str) -> None:
    numeric = is_numeric(name)
    if numeric != all(is_numeric(other) for other in known):
        one, other = ("a number", "names") if numeric else ("a name", "numbers")
        raise UserError(
            f"{place}: the label is {one}, while those of {known_from} are {other}",
            got=name,
            expected=f"one of {listed(known)}",
            fix="write the labels alike in every split",
        )
    fix = "fix the label, or drop the row"
    if numeric and known_from == "train" and len(known) > 5:
        fix += "; if the numbers are scores, give --data.task regression"
    raise UserError(
        f"{place}: a label that {known_from} does not have", got=name, expected=f"one of {listed(known)}", fix=fix
    )


def _scores(raw: RawSplit, labels: Sequence[Any], known_from: str) -> np.ndarray:
    scores = np.zeros(len(labels), np.float32)
    for row, label in enumerate(labels):
        if not is_numeric(label) or abs(value := float(label)) > float(np.finfo(np.float32).max):
            if _not_finite(label) or is_numeric(label):
                raise _no_score(raw.at(row), label)
            raise UserError(
                f"{raw.at(row)}: the label is no number, while those of {known_from} are scores",
                got=repr(label),
                expected="a number",
                fix="check --data.label, or give --data.task classification",
            )
        scores[row] = value
    return scores


def relabel(pairs: Pairs, own: TaskSpec, task: TaskSpec, *, place: str) -> Pairs:
    """A split whose labels are counted in `own`'s order, counted in `task`'s.

    Raises:
        UserError: The kinds differ, or a name is unknown there.
    """
    if own.kind != task.kind:
        raise UserError(f"{place}: the model is for {task.kind}", got=f"labels for {own.kind}")
    if pairs.label is None or own.labels == task.labels:
        return pairs
    unknown = [name for name in own.labels if name not in task.labels]
    if unknown:
        _refuse(place, unknown[0], task.labels, "the model")
    order = np.array([task.labels.index(name) for name in own.labels], np.int32)
    return Pairs(pairs.first, pairs.second, order[pairs.label], pairs.where)


# ------------------------------------------------------------------------------------------------------------ dev cut


def _strata(label: np.ndarray, kind: Kind) -> Mapping[int, np.ndarray]:
    """Row numbers by class, or by tenth of the scores."""
    if kind == "regression":
        rank = np.empty(len(label), np.int64)
        rank[np.argsort(label, kind="stable")] = np.arange(len(label))
        group = rank * min(SCORE_BINS, max(len(label) // 2, 1)) // len(label)
    else:
        group = label
    return {int(value): np.flatnonzero(group == value) for value in np.unique(group)}


def cut_dev(
    label: np.ndarray, *, kind: Kind, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " dev"]]:
    """Rows of train and of dev, each in the order of the file.

    Dev gets `fraction` of the rows, at least one, each class (or tenth of the scores) its share by largest remainder;
    the last row of a class stays in train.

    Args:
        label: Class indices or scores [N].
        kind: Which of the two.
        fraction: In (0, 1).
        seed: Of the draw within a stratum.

    Raises:
        UserError: Nothing can be cut, since each class has one row.
    """
    strata = _strata(label, kind)
    total = max(round(len(label) * fraction), 1)
    exact = {value: len(rows) * fraction for value, rows in strata.items()}
    most = {value: len(rows) - 1 for value, rows in strata.items()}
    take = {value: min(math.floor(share), most[value]) for value, share in exact.items()}
    for value in sorted(strata, key=lambda value: (-(exact[value] - math.floor(exact[value])), value)):
        if sum(take.values()) >= total:
            break
        take[value] = min(take[value] + 1, most[value])
    if not sum(take.values()):
        raise UserError("--data.dev-fraction finds nothing to cut", got=f"{len(label)} rows in train")
    rng = np.random.default_rng(seed)
    dev = np.sort(np.concatenate([rng.permutation(rows)[: take[value]] for value, rows in strata.items()]))
    return np.setdiff1d(np.arange(len(label)), dev), dev


def standardised(task: TaskSpec, train: Pairs) -> TaskSpec:
    """The task with center and scale of the train scores; a classification task as it is."""
    if task.kind == "classification" or train.label is None:
        return task
    spread = float(np.std(train.label))
    return replace(task, center=float(np.mean(train.label)), scale=spread if spread > 0 else 1.0)


def targets_of(task: TaskSpec, pairs: Pairs) -> np.ndarray | None:
    """Labels as the model learns them: int32 [N], or float32 [N] standardised; None where unlabelled."""
    if pairs.label is None or task.kind == "classification":
        return pairs.label
    return ((pairs.label - task.center) / task.scale).astype(np.float32)


def label_counts(task: TaskSpec, pairs: Pairs) -> Any:
    """Pairs of each class in train, [classes]; None for regression."""
    if task.kind == "regression" or pairs.label is None:
        return None
    return np.bincount(pairs.label, minlength=len(task.labels))
