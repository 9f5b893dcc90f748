"""Derives the task of a classifier from its settings: class names from id2label, meaning of a single logit."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec, default_positive

NAMELESS = re.compile(r"label_\d+", re.IGNORECASE)
BINARY = ("0", "1")
"""Names of the classes of a model with one logit under a sigmoid, if none are given."""


class Outputs(NamedTuple):
    """The meaning of a classifier's outputs.

    Attributes:
        task: The task.
        single: Whether one logit l stands for two classes with logits (0, l).
        notes: Lines for the user.
    """

    task: TaskSpec
    single: bool
    notes: tuple[str, ...]


def read_outputs(
    config: Mapping[str, Any],
    count: int,
    *,
    path: Path,
    activation: str | None,
    labels: Sequence[str] = (),
    positive: str | None = None,
) -> Outputs:
    """Returns the task of a classifier with `count` outputs.

    Args:
        config: Content of config.json; `id2label` and `problem_type` are read.
        count: Number of outputs of the head.
        path: Path of config.json, for messages.
        activation: Activation that the model's settings name for its outputs; None if they name none.
        labels: Names of the classes from the user; they replace those of id2label.
        positive: The positive one of two classes; by default a usual one.

    Raises:
        UserError: The problem type is not supported, or the names are missing, ambiguous or of another number.
    """
    kind = _problem(config, count, path=path, activation=activation)
    if kind == "regression":
        if labels:
            raise UserError(f"{path}: the model predicts a score, not classes", got=f"--labels {' '.join(labels)}")
        return Outputs(TaskSpec("regression"), False, ("the single output is a score",))
    if kind == "binary":
        names = tuple(labels) or BINARY
        _check_names(names, 2, path=path)
        task = TaskSpec("classification", names, positive=names[1])
        note = f"the single output is the logit of {names[1]}, against 0 for {names[0]}"
        return Outputs(task, True, (note,))
    names = tuple(map(_plain, labels)) or _named(config, count, path=path)
    _check_names(names, count, path=path)
    chosen = positive if count == 2 and positive in names else default_positive(names)
    return Outputs(TaskSpec("classification", names, positive=chosen), False, ())


def _problem(
    config: Mapping[str, Any], count: int, *, path: Path, activation: str | None
) -> Literal["classes", "binary", "regression"]:
    """Returns what the outputs are."""
    problem = config.get("problem_type")
    known = (None, "single_label_classification", "multi_label_classification", "regression")
    if problem not in known:
        raise UserError(
            f"{path}: the problem_type is not known", got=f"{problem!r:.60}", expected="one of transformers'"
        )
    if count > 1 and (problem == "multi_label_classification" or activation == "sigmoid"):
        raise UserError(
            f"{path}: the classes do not exclude each other, and pairjax reads a pair's one class",
            got=f"problem_type {problem}" if problem else "a sigmoid on several outputs",
            expected="single_label_classification or one output",
        )
    if count > 1 and problem == "regression":
        raise UserError(f"{path}: a regression with several scores", got=f"{count} outputs", expected="one output")
    if count > 1:
        return "classes"
    if activation is None:
        # transformers and sentence-transformers apply a sigmoid to a single output unless told otherwise.
        activation = "identity" if problem == "regression" else "sigmoid"
    if activation not in ("identity", "sigmoid"):
        raise UserError(
            f"{path}: the activation of the single output is not supported",
            got=activation,
            expected="Sigmoid (the logit of a class) or Identity (a score)",
        )
    return "binary" if activation == "sigmoid" else "regression"


def _plain(name: str) -> str:
    """Returns a name as the readers of data write names."""
    return unicodedata.normalize("NFC", name.strip())


def _named(config: Mapping[str, Any], count: int, *, path: Path) -> tuple[str, ...]:
    """Returns the class names of `id2label`."""
    table = config.get("id2label")
    fix = f"name them in the order of the outputs: --labels (--model.labels of train) and {count} names"
    if table is None:
        raise UserError(f"{path}: the classes have no names", got="no id2label", fix=fix)
    numbers = [str(number) for number in range(count)]
    if (
        not isinstance(table, dict)
        or sorted(table) != sorted(numbers)
        or not all(isinstance(name, str) for name in table.values())
    ):
        raise UserError(
            f"{path}: id2label does not fit the head",
            got=f"{table!r:.100}",
            expected=f"a name for each of the outputs 0 to {count - 1}",
        )
    names = tuple(_plain(table[number]) for number in numbers)
    if any(NAMELESS.fullmatch(name) for name in names):
        raise UserError(f"{path}: the classes have no names of their own", got=" ".join(names), fix=fix)
    return names


def _check_names(names: Sequence[str], count: int, *, path: Path) -> None:
    """Raises UserError if there are not as many distinct names as classes."""
    if len(names) != count or len(set(names)) != count or not all(names):
        raise UserError(
            f"{path}: each class needs a name of its own",
            got=" ".join(names) or "none",
            expected=f"{count} names",
        )
