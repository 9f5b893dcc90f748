"""Reading several labels for a pair, from separated names and from lists."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.config import DataConfig, LossConfig
from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.data.folds import stratified_folds
from pairjax.data.inspect import inspect_pairs
from pairjax.data.objectives import apply_objective
from pairjax.data.sources import load_for_task, load_pairs

LABELS = (("tense",), ("tense", "number"), (), ("gender",), ("number",), ())


def write(folder: Path, suffix: str, *, rows: tuple = LABELS) -> DataConfig:
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev"):
        path = folder / f"{split}.{suffix}"
        if suffix == "jsonl":
            lines = [
                json.dumps({"sentence1": f"a {i}", "sentence2": f"b {i}", "label": row}) for i, row in enumerate(rows)
            ]
        else:
            lines = ["sentence1\tsentence2\tlabel", *(f"a {i}\tb {i}\t{', '.join(row)}" for i, row in enumerate(rows))]
        path.write_text("\n".join(lines) + "\n")
    return DataConfig(path=str(folder), task="multi-label")


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_labels_are_read_from_fields_and_from_lists(tmp_path: Path, suffix: str) -> None:
    data = load_pairs(write(tmp_path / "d", suffix))
    assert data.task == TaskSpec("multi-label", ("gender", "number", "tense"))
    label = data.splits["train"].label
    assert label.dtype == np.float32
    assert label.tolist() == [[float(name in row) for name in data.task.labels] for row in LABELS]
    counts = {name: len(index) for name, index in inspect_pairs(data).splits["train"].group.items()}
    assert counts == {"gender": 1, "number": 2, "tense": 2, "(no label)": 2}


def test_a_model_scores_labels_in_its_own_order(tmp_path: Path) -> None:
    config = replace(write(tmp_path / "d", "tsv"), task="auto")
    dev = load_for_task(config, TaskSpec("multi-label", ("tense", "number", "gender"))).splits["dev"]
    assert dev.label[1].tolist() == [1.0, 1.0, 0.0]


def test_dev_can_be_cut_off_and_folds_are_refused(tmp_path: Path) -> None:
    config = write(tmp_path / "d", "tsv", rows=LABELS * 4)
    (tmp_path / "d/dev.tsv").unlink()
    data = load_pairs(replace(config, dev_fraction=0.25))
    assert len(data.splits["dev"]) == 6
    with pytest.raises(UserError, match="several labels"):
        stratified_folds(data.task, data.splits["train"], folds=2, seed=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((("a",), ("a",)), "fewer than two labels; got a"),
        ((("a",), 3), "train.jsonl, line 2: the labels .* are not a list of names"),
        ((("a",), [["b"]]), "line 2: the labels"),
    ],
)
def test_labels_that_are_no_lists_are_refused(tmp_path: Path, rows: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_pairs(write(tmp_path / "d", "jsonl", rows=rows))


def test_the_loss_and_the_task_go_together() -> None:
    task = TaskSpec("multi-label", ("a", "b"))
    assert apply_objective(task, LossConfig(kind="multi-label")) == task
    for wrong, kind in ((task, None), (task, "binary"), (TaskSpec("classification", ("a", "b")), "multi-label")):
        with pytest.raises(UserError, match="go together"):
            apply_objective(wrong, LossConfig(kind=kind))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"do not go with --loss\.kind multi-label"):
        LossConfig(kind="multi-label", r_drop=1.0)
