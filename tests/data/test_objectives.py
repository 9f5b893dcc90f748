"""The task that a loss trains, and class probabilities as targets: from columns, and from a teacher's predictions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.config import Config, DataConfig, LossConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.objectives import apply_objective, read_teacher, soften
from pairjax.data.sources import load_for_task, load_pairs

TWO = TaskSpec("classification", ("no", "yes"), positive="yes")
THREE = TaskSpec("classification", ("a", "b", "c"))
TRAIN = Pairs(("x", "y"), ("u", "v"), np.array([0, 1], np.int32), ("train.tsv:2", "train.tsv:3"))
NAMES = ("contradiction", "entailment", "neutral")
ROWS = ((0.1, 0.7, 0.2), (0.33, 0.33, 0.33), (0.6, 0.1, 0.3), (0, 0, 1))


def write_soft(folder: Path, *, rows: tuple = ROWS, label: bool = False) -> DataConfig:
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev"):
        lines = ["\t".join(("sentence1", "sentence2", *NAMES, *(["label"] if label else [])))]
        for number, row in enumerate(rows):
            values = [f"first {number}", f"second {number}", *map(str, row), *(["neutral"] if label else [])]
            lines.append("\t".join(values))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return DataConfig(path=str(folder), soft_labels=NAMES)


def write_teacher(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prediction(first: str, second: str, **probabilities: float) -> dict:
    return {"sentence1": first, "sentence2": second, "probabilities": probabilities}


def test_a_binary_loss_gives_two_classes_one_logit_and_keeps_the_number_of_outputs() -> None:
    task = apply_objective(TWO, LossConfig(kind="binary"))
    assert (task.head, task.outputs, task.positive_index) == ("sigmoid", 2, 1)
    assert apply_objective(TWO, LossConfig()) == TWO
    assert "head" not in TWO.to_json()
    assert task.to_json()["head"] == "sigmoid"


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (THREE, "binary", r"needs two classes; got 3 \(a, b, c\)"),
        (TaskSpec("regression"), "binary", "needs classes, but these labels are scores"),
        (TaskSpec("regression"), "cross-entropy", "needs classes"),
        (TaskSpec("regression"), "soft", "needs classes"),
    ],
)
def test_a_loss_that_does_not_fit_the_labels_is_refused(task: TaskSpec, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_objective(task, LossConfig(kind=kind))  # type: ignore[arg-type]


@pytest.mark.parametrize("label", [False, True])
def test_soft_labels_are_read_from_columns_named_like_the_classes(tmp_path: Path, label: bool) -> None:
    data = load_pairs(write_soft(tmp_path / "soft", label=label))
    train = data.splits["train"]
    assert data.task.labels == NAMES
    assert train.label is not None
    assert train.soft is not None
    assert train.label.tolist() == ([2, 2, 2, 2] if label else [1, 0, 0, 2])
    np.testing.assert_allclose(train.soft[1], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(train.soft.sum(axis=1), 1.0, rtol=1e-6)
    assert any("most probable class" in note for note in data.notes) is not label


def test_a_model_scores_soft_labels_in_its_own_order_of_classes(tmp_path: Path) -> None:
    config = write_soft(tmp_path / "soft")
    task = TaskSpec("classification", NAMES[::-1])
    dev = load_for_task(config, task).splits["dev"]
    assert dev.label is not None
    assert [task.labels[index] for index in dev.label] == ["entailment", "contradiction", "contradiction", "neutral"]
    assert dev.soft is not None
    np.testing.assert_allclose(dev.soft[0], [0.2, 0.7, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0.5, 0.6, 0.2), r"train.tsv, line 5: the soft labels do not sum to one; got .*the sum is 1.3"),
        ((0.5, "", 0.5), r"train.tsv, line 5: the soft label '' is not a probability"),
        ((-0.5, 1.0, 0.5), r"line 5: the soft label '-0.5' is not a probability"),
        ((0.5, "nan", 0.5), r"line 5: the soft label 'nan' is not a probability"),
    ],
)
def test_wrong_soft_labels_are_refused_with_file_and_line(tmp_path: Path, row: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_pairs(write_soft(tmp_path / "soft", rows=(*ROWS[:3], row)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DataConfig(soft_labels=("a",)), "two or more classes"),
        (lambda: DataConfig(soft_labels=("a", "a")), "two or more classes"),
        (lambda: Config(data=DataConfig(soft_labels=NAMES)), "goes with --loss.kind soft"),
        (lambda: LossConfig(teacher="t.jsonl"), "--loss.teacher goes with --loss.kind soft"),
        (lambda: LossConfig(hard_share=0.5), "--loss.hard-share goes with --loss.kind soft"),
        (lambda: LossConfig(kind="soft", temperature=2.0), "--loss.temperature goes with --loss.teacher"),
        (lambda: LossConfig(kind="soft", teacher="t", temperature=0.0), "must be positive"),
        (lambda: LossConfig(kind="soft", label_smoothing=0.1), "label-smoothing"),
        (lambda: LossConfig(kind="binray"), "perhaps you meant binary"),  # type: ignore[arg-type]
    ],
)
def test_options_that_contradict_each_other_are_refused(build, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_a_missing_column_of_soft_labels_is_named(tmp_path: Path) -> None:
    config = replace(write_soft(tmp_path / "soft"), soft_labels=("entailment", "neutal"))
    with pytest.raises(UserError, match=r"no column neutal.*--data.soft-labels"):
        load_pairs(config)


def test_a_teacher_is_matched_by_texts_and_in_the_order_of_the_classes(tmp_path: Path) -> None:
    path = write_teacher(
        tmp_path / "t.jsonl",
        prediction("y", "v", no=0.25, yes=0.75),
        prediction("x", "u", yes=0.1, no=0.9),
        prediction("z", "w", yes=0.5, no=0.5),
    )
    targets, notes = read_teacher(path, TRAIN, TWO, temperature=1.0)
    np.testing.assert_allclose(targets, [[0.9, 0.1], [0.25, 0.75]], rtol=1e-6)
    assert notes == ("teacher: 1 predictions are for pairs that are not in train, and are not used",)


def test_a_temperature_divides_the_teachers_logits() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 3.0]])
    softmax = lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)  # noqa: E731
    np.testing.assert_allclose(soften(softmax(logits), 4.0), softmax(logits / 4.0), rtol=1e-12)
    np.testing.assert_allclose(soften(np.array([[1.0, 0.0]]), 1.0), [[1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [prediction("x", "u", no=0.5, yes=0.5)],
            r"t.jsonl: the teacher has no prediction for the pair of train.tsv:3",
        ),
        ([prediction("x", "u", no=0.5, yes=0.9)], r"t.jsonl, line 1: the teacher's probabilities do not sum to one"),
        (
            [prediction("x", "u", no=0.5, maybe=0.5)],
            r"line 1: the teacher's classes are not those of the data; got no, m",
        ),
        ([{"score": 0.5}], r"t.jsonl, line 1: not a prediction"),
    ],
)
def test_a_teachers_file_that_does_not_fit_is_refused(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_teacher(write_teacher(tmp_path / "t.jsonl", *rows), TRAIN, TWO, temperature=1.0)
