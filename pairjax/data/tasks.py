"""Makes a task from labels as they are written: its kind, the names and order of its classes, arrays of labels.

Labels are names. Numbers with a decimal point are scores and make a regression, unless all are whole and few: then they
are class numbers that a program wrote as floats. Whole numbers are names of classes.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec, default_positive
from pairjax.data.columns import join_names
from pairjax.data.labels import is_numeric, is_score, label_name, not_finite, read_labels, whole_name
from pairjax.data.ranking import ranking_task
from pairjax.data.table import RawSplit

MOST_WHOLE = 10
"""Largest number of distinct floats that are all whole and count as classes."""

Kind = Literal["classification", "regression", "multi-label"]


def _kind_of(raw: RawSplit, labels: Sequence[Any], option: str) -> Kind:
    """Returns the kind of the train labels, which `option` may fix.

    Raises:
        UserError: Scores and names are mixed, or a number is not finite.
    """
    if option == "classification":
        return "classification"
    if option == "regression":
        return "regression"
    not_numeric = [index for index, label in enumerate(labels) if not is_numeric(label)]
    if not not_numeric:
        if not any(is_score(label) for label in labels) or _are_few_whole(labels):
            return "classification"
        return "regression"
    index = not_numeric[0]
    if len(not_numeric) < len(labels) and all(not_finite(labels[i]) for i in not_numeric):
        raise _not_finite_error(raw.locate(index), labels[index])
    if not any(is_score(label) for label in labels):
        return "classification"
    raise UserError(
        f"{raw.locate(index)}: the label is a name, but others are numbers",
        got=repr(labels[index]),
        expected="names only, or numbers only",
        fix="correct it, or give --data.task classification",
    )


def _are_few_whole(labels: Sequence[Any]) -> bool:
    """Returns whether numeric labels are whole and few, so they are class numbers, although some are floats."""
    values = {float(label) for label in labels}
    return len(values) <= MOST_WHOLE and all(value.is_integer() for value in values)


def _not_finite_error(place: str, label: object) -> UserError:
    """Returns the error for a score that is nan or infinite."""
    return UserError(f"{place}: the score is not a finite number", got=label, fix="correct it, or drop the row")


def _ordered(names: Collection[str], fixed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Orders names as the source does if it fixes an order, by value if all are numbers, else alphabetically."""
    if fixed is not None and set(names) <= set(fixed):
        return tuple(name for name in fixed if name in names)
    if all(is_numeric(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _class_names(raw: RawSplit, labels: Sequence[Any]) -> list[str]:
    """Returns the class name of each label; integers become names if the source has names for them."""
    fixed = raw.class_names
    if fixed is None:
        return [label_name(label) for label in labels]
    names = []
    for index, label in enumerate(labels):
        if isinstance(label, int) and not isinstance(label, bool):
            if not 0 <= label < len(fixed):
                raise UserError(
                    f"{raw.locate(index)}: no class has the number {label}", expected=f"0 to {len(fixed) - 1}"
                )
            names.append(fixed[label])
        else:
            names.append(label_name(label))
    return names


def _are_class_numbers(raw: RawSplit, labels: Sequence[Any]) -> bool:
    """Returns whether the labels are integers that the source names, so they are classes and never scores."""
    return raw.class_names is not None and all(isinstance(label, int) for label in labels)


def read_task(raw: RawSplit, config: DataConfig) -> TaskSpec:
    """Returns the task that the labels of the train split define.

    Raises:
        UserError: Labels are missing or mixed, there is only one class, or `--data.positive` is not one of two classes.
    """
    if config.task == "ranking":
        return ranking_task()
    labels = read_labels(raw, may_lack=False, keep_minus_one=config.task == "classification")
    if labels is None:
        raise UserError(f"{raw.place}: no labels", fix="name their column with --data.label")
    if config.task == "multi-label":
        return several_labels_task(raw, labels)
    kind = _kind_of(raw, labels, "classification" if _are_class_numbers(raw, labels) else config.task)
    if kind == "regression":
        if config.positive is not None:
            raise UserError("--data.positive needs two classes", got=f"scores in {raw.place}")
        return TaskSpec("regression")
    counts = Counter(_class_names(raw, labels))
    if config.task == "auto" and any(is_score(label) for label in labels):
        counts = Counter(whole_name(name) for name in counts.elements())
    if config.join_label_case:
        spellings: dict[str, str] = {}
        for name in sorted(counts, key=lambda name: (-counts[name], name)):
            spellings.setdefault(name.casefold(), name)
        counts = Counter(spellings[name.casefold()] for name in counts)
    names = config.soft_labels or _ordered(set(counts), raw.class_names)
    if len(names) < 2:
        raise UserError(
            f"{raw.place}: only one class",
            got=f"{names[0]} in all {len(labels)} rows",
            expected="two or more",
            fix="check --data.label",
        )
    return TaskSpec("classification", names, positive=choose_positive(names, config.positive))


def task_notes(raw: RawSplit, task: TaskSpec, config: DataConfig) -> list[str]:
    """Returns notes on how the train labels were understood: as scores, as class numbers, and if classes differ in
    case."""
    labels = raw.label or []
    floats = [index for index, label in enumerate(labels) if is_score(label)]
    example = f"{labels[floats[0]]} in {raw.where()[floats[0]]}" if floats else ""
    if task.kind == "regression":
        if config.task == "regression":
            return ["task: regression, because of --data.task regression"]
        note = f"task: regression, because labels are numbers with a decimal point ({example})"
        whole = all(float(label).is_integer() for label in labels)
        return [f"{note}; all are whole: if they are classes, give --data.task classification" if whole else note]
    notes = []
    if floats and config.task == "auto":
        notes.append(
            f"task: classification, because the labels are {len(task.labels)} whole numbers, although written as "
            f"decimals ({example}); if they are scores, give --data.task regression"
        )
    by_case: dict[str, list[str]] = {}
    for name in dict.fromkeys(_class_names(raw, labels)):
        by_case.setdefault(name.casefold(), []).append(name)
    for names in by_case.values():
        if len(names) < 2:
            continue
        listed = " and ".join(sorted(names))
        notes.append(
            f"train: the labels {listed} are one class (--data.join-label-case)"
            if config.join_label_case
            else f"train: the labels {listed} differ only in case and are {len(names)} classes: if they are one, "
            "give --data.join-label-case"
        )
    return notes


def choose_positive(names: tuple[str, ...], wanted: str | None) -> str | None:
    """Returns the class whose F1 is reported.

    Raises:
        UserError: `wanted` is not one of the names, or there are not exactly two names.
    """
    if wanted is None:
        return default_positive(names)
    if wanted not in names:
        raise UserError("--data.positive is not a class", got=wanted, expected=f"one of {join_names(names)}")
    if len(names) != 2:
        raise UserError("--data.positive needs two classes", got=f"{len(names)} ({join_names(names)})")
    return wanted


def split_labels(raw: RawSplit, separator: str) -> RawSplit:
    """Returns a split whose labels are tuples of names, from fields of several labels or from lists.

    An empty field or list is a pair that carries no label.

    Args:
        raw: The split as it was read.
        separator: Separates the labels of a field.

    Raises:
        UserError: A label is missing (null), or a value is neither text nor a list of text.
    """
    if raw.label is None:
        return raw
    labels = []
    for index, value in enumerate(raw.label):
        names = value.split(separator) if isinstance(value, str) else value
        names = names.tolist() if isinstance(names, np.ndarray) else names
        if not isinstance(names, list | tuple) or not all(isinstance(name, str | int) for name in names):
            raise UserError(
                f"{raw.locate(index)}: the labels ({raw.columns.label}) are not a list of names",
                got=repr(value)[:80],
                expected=f"names separated by {separator!r}, or a JSON list",
            )
        labels.append(tuple(dict.fromkeys(label_name(name) for name in names if label_name(name))))
    return replace(raw, label=labels)


def several_labels_task(raw: RawSplit, labels: Sequence[tuple[str, ...]]) -> TaskSpec:
    """Returns the task of pairs that carry several labels.

    Raises:
        UserError: There are fewer than two labels.
    """
    names = _ordered({name for each in labels for name in each}, raw.class_names)
    if len(names) < 2:
        raise UserError(
            f"{raw.place}: fewer than two labels", got=join_names(names) or "none", fix="check --data.label"
        )
    return TaskSpec("multi-label", names)


def _label_matrix(raw: RawSplit, labels: Sequence[Any], task: TaskSpec, known_from: str) -> np.ndarray:
    """Returns float32 [N, C] with 1 for each label that a pair carries."""
    column = {name: index for index, name in enumerate(task.labels)}
    matrix = np.zeros((len(labels), len(task.labels)), np.float32)
    for index, names in enumerate(labels):
        for name in names:
            if name not in column:
                raise _unknown_label_error(raw.locate(index), name, task.labels, known_from)
            matrix[index, column[name]] = 1.0
    return matrix


def encode_labels(
    raw: RawSplit, task: TaskSpec, *, may_lack: bool, known_from: str = "train", config: DataConfig | None = None
) -> np.ndarray | None:
    """Encodes labels for the model: int32 [N] class indices or float32 [N] scores; None if there are none.

    Args:
        raw: The split.
        task: The task; its names and their order define the indices.
        may_lack: Whether the split may be unlabelled.
        known_from: Where the names come from, for messages.
        config: Whether labels may differ from the names in case.

    Raises:
        UserError: A label is missing, unknown, or not a finite number.
    """
    labels = read_labels(raw, may_lack=may_lack, task=task)
    if labels is None:
        return None
    if task.kind == "regression":
        return _scores(raw, labels, known_from)
    if task.kind == "multi-label":
        return None if may_lack and not any(labels) else _label_matrix(raw, labels, task, known_from)
    class_index = {name: number for number, name in enumerate(task.labels)}
    names = _class_names(raw, labels)
    folded = {name.casefold(): name for name in task.labels}
    # The names of an imported model are another author's, so their case says nothing.
    joined = known_from == "the model" and len(folded) == len(task.labels)
    if not joined and not (config is not None and config.join_label_case):
        folded = {}
    for name in dict.fromkeys(names):
        if name not in class_index:
            # A float of another split may be written 1.0, and a label may differ in case.
            same = whole_name(name) if whole_name(name) in class_index else folded.get(name.casefold())
            if same is None:
                raise _unknown_label_error(raw.locate(names.index(name)), name, task.labels, known_from)
            class_index[name] = class_index[same]
    return np.fromiter((class_index[name] for name in names), np.int32, len(names))


def _unknown_label_error(place: str, name: str, known: tuple[str, ...], known_from: str) -> UserError:
    """Returns the error for a label that is not one of the known names."""
    numeric = is_numeric(name)
    if numeric != all(is_numeric(label) for label in known):
        own, expected = ("a number", "names") if numeric else ("a name", "numbers")
        return UserError(
            f"{place}: the label is {own}, but those of {known_from} are {expected}",
            got=name,
            expected=f"one of {join_names(known)}",
            fix="write the labels the same way in every split",
        )
    fix = "correct the label, or drop the row"
    if like := [label for label in known if label.casefold() == name.casefold()]:
        fix = f"write it as {like[0]}: upper and lower case differ; or give --data.join-label-case"
    if numeric and known_from == "train" and len(known) > 5:
        fix += "; if the numbers are scores, give --data.task regression"
    return UserError(
        f"{place}: a label that {known_from} does not have", got=name, expected=f"one of {join_names(known)}", fix=fix
    )


def _scores(raw: RawSplit, labels: Sequence[Any], known_from: str) -> np.ndarray:
    """Returns labels as float32 scores."""
    scores = np.zeros(len(labels), np.float32)
    for index, label in enumerate(labels):
        if not is_numeric(label) or abs(value := float(label)) > float(np.finfo(np.float32).max):
            if not_finite(label) or is_numeric(label):
                raise _not_finite_error(raw.locate(index), label)
            raise UserError(
                f"{raw.locate(index)}: the label is not a number, but those of {known_from} are scores",
                got=repr(label),
                expected="a number",
                fix="check --data.label, or give --data.task classification",
            )
        scores[index] = value
    return scores


def relabel(pairs: Pairs, own: TaskSpec, task: TaskSpec, *, place: str) -> Pairs:
    """Converts class indices of one task to those of another with the same names in another order.

    Args:
        pairs: A split whose class indices refer to `own`.
        own: The split's task.
        task: The task that the returned indices refer to.
        place: Name of the split, for messages.

    Raises:
        UserError: The kinds differ, or `task` does not have one of the names.
    """
    if own.kind != task.kind:
        raise UserError(f"{place}: the model is for {task.kind}", got=f"labels for {own.kind}")
    if pairs.label is None or own.labels == task.labels:
        return pairs
    unknown = [name for name in own.labels if name not in task.labels]
    if unknown:
        raise _unknown_label_error(place, unknown[0], task.labels, "the model")
    order = np.array([task.labels.index(name) for name in own.labels], np.int32)
    return Pairs(pairs.first, pairs.second, order[pairs.label], pairs.where)


def fit_score_scale(task: TaskSpec, train: Pairs) -> TaskSpec:
    """Returns the task with mean and standard deviation of the train scores; a classification task is unchanged."""
    if task.kind != "regression" or train.label is None:
        return task
    spread = float(np.std(train.label))
    return replace(task, center=float(np.mean(train.label)), scale=spread if spread > 0 else 1.0)


def targets_of(task: TaskSpec, pairs: Pairs) -> np.ndarray | None:
    """Returns the training targets: int32 [N] classes or float32 [N] standardised scores; None if unlabelled."""
    if pairs.label is None or task.kind != "regression":
        return pairs.label
    return ((pairs.label - task.center) / task.scale).astype(np.float32)


def label_counts(task: TaskSpec, pairs: Pairs) -> Any:
    """Returns the number of pairs of each class, int64 [classes]; None for a regression or an unlabelled split."""
    if task.kind != "classification" or pairs.label is None:
        return None
    return np.bincount(pairs.label, minlength=len(task.labels))
