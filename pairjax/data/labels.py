"""Reads labels as they are written: their names, which of them are numbers, and which are missing."""

import functools
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.data.table import BadRow, RawSplit

T = TypeVar("T")
INTEGER = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
DECIMAL = re.compile(r"[-+]?[0-9]{1,15}\.[0-9]*")
NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)
MISSING = ("", "-")
"""SNLI writes "-" if annotators did not agree."""


def _remember(function: Callable[[object], T]) -> Callable[[object], T]:
    """Caches a function of a label: a split has millions of labels and a few different ones."""
    cached = functools.lru_cache(maxsize=4096, typed=True)(function)

    @functools.wraps(function)
    def call(label: object) -> T:
        try:
            return cached(label)
        except TypeError:  # A list or a dict of a JSON file cannot be cached.
            return function(label)

    return call


@_remember
def label_name(label: object) -> str:
    """Returns a label as a name: `True` is true, 1.0 (a float value) is 1."""
    if isinstance(label, bool | np.bool_):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return unicodedata.normalize("NFC", str(label).strip())


@_remember
def whole_name(label: object) -> str:
    """Returns a label as a name, with a whole number without its decimals: the text 1.0 is 1 too."""
    name = label_name(label)
    return str(int(float(name))) if DECIMAL.fullmatch(name) and float(name).is_integer() else name


@_remember
def is_numeric(label: object) -> bool:
    """Returns whether a label is a finite number or a string that spells one."""
    if isinstance(label, bool):
        return False
    if isinstance(label, int | float):
        return math.isfinite(label)
    return NUMBER.fullmatch(str(label).strip()) is not None


@_remember
def is_score(label: object) -> bool:
    """Returns whether a label is a float or spells a number with a decimal point or exponent."""
    if isinstance(label, bool | int):
        return False
    return isinstance(label, float) or (is_numeric(label) and INTEGER.fullmatch(str(label).strip()) is None)


def _is_missing(label: object, *, minus_one: bool) -> bool:
    """Returns whether a label is absent: None, empty, "-", or -1 if that means no label."""
    if label is None or (isinstance(label, str) and label.strip() in MISSING):
        return True
    return minus_one and _is_minus_one(label)


def minus_one_is_missing(raw: RawSplit, task: TaskSpec | None = None) -> bool:
    """Returns whether -1 means no label: in a source that names its classes, beside names, and beside 0, 1 and 2.

    Beside other numbers, and beside 0 and 1 alone, it is a class or a score.

    Args:
        raw: The split.
        task: The task, if it is already known: then -1 means no label unless it is a class or could be a score.
    """
    if raw.class_names is not None:
        return True
    if task is not None:
        return task.kind == "classification" and "-1" not in task.labels
    names = {whole_name(label) for label in raw.label or () if not _is_missing(label, minus_one=False)} - {"-1"}
    if not names or not all(is_numeric(name) for name in names):
        return bool(names)
    return len(names) > 2 and names == {str(number) for number in range(len(names))}


@_remember
def _is_minus_one(label: object) -> bool:
    """Returns whether a label is -1, as a number or as text."""
    return not isinstance(label, bool) and is_numeric(label) and float(str(label)) == -1.0


def not_finite(label: object) -> bool:
    """Returns whether a label is nan or infinite, as a float or as text."""
    if isinstance(label, float):
        return not math.isfinite(label)
    return isinstance(label, str) and NOT_FINITE.fullmatch(label.strip()) is not None


def read_labels(
    raw: RawSplit, *, may_lack: bool, task: TaskSpec | None = None, keep_minus_one: bool = False
) -> list[Any] | None:
    """Returns the labels of a split, or None if it is unlabelled.

    A split is unlabelled if its label column is missing, or if every label is empty or, as in GLUE's test sets, -1
    (unless -1 is one of the task's own classes). Beside other labels, -1 is missing if `minus_one_is_missing` says so.

    Args:
        raw: The split.
        may_lack: Whether the split may be unlabelled: a test split may, train and dev may not.
        task: The task, if it is already known.
        keep_minus_one: Whether -1 is a class because the user says that the labels are classes.

    Raises:
        UserError: Some labels are missing, or all are and `may_lack` is false.
    """
    labels = raw.label
    if labels is None:
        return None
    minus_one_is_class = keep_minus_one or (task is not None and "-1" in task.labels)
    if may_lack and all(_is_missing(label, minus_one=not minus_one_is_class) for label in labels):
        return None
    minus_one = not minus_one_is_class and minus_one_is_missing(raw, task)
    for index, label in enumerate(labels):
        if _is_missing(label, minus_one=minus_one):
            raise UserError(
                f"{raw.locate(index)}: the label ({raw.columns.label}) is missing",
                got=repr(label),
                fix="fill it in, drop the row, or give --data.bad-rows skip",
            )
    return labels


def drop_unlabelled(
    raw: RawSplit, *, marks_only: bool, task: TaskSpec | None = None, keep_minus_one: bool = False
) -> tuple[RawSplit, tuple[BadRow, ...]]:
    """Drops pairs without a label and returns their rows; a split in which no pair has a label is returned unchanged.

    Args:
        raw: The split.
        marks_only: Whether only pairs that are marked as unlabelled (`-`, or -1 if it means that) are dropped.
        task: As in `read_labels`.
        keep_minus_one: As in `read_labels`.
    """
    if raw.label is None:
        return raw, ()
    minus_one = not keep_minus_one and minus_one_is_missing(raw, task)
    missing_index = {index for index, label in enumerate(raw.label) if _is_missing(label, minus_one=minus_one)}
    if len(missing_index) == len(raw.label):
        return raw, ()
    if marks_only:
        missing_index = {
            index for index in missing_index if raw.label[index] is not None and str(raw.label[index]).strip()
        }
    if not missing_index:
        return raw, ()
    where = raw.where()
    rows = tuple(BadRow(raw.number[index], "the label is missing", where[index]) for index in sorted(missing_index))
    return raw.take([index for index in range(len(raw.label)) if index not in missing_index]), rows
