"""Pairs passed in Python: frames, datasets and lists of dicts; stand-ins have the attributes of the real packages."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.python_data import read_python_data
from pairjax.data.sources import load_pairs
from tests.data.pair_files import ROWS, TASK, TSV, message, rows_of, write

COLUMNS = {name: [row[i] for row in ROWS] for i, name in enumerate(("sentence1", "sentence2", "label"))}


class Column:
    """Stands for a pandas series of NumPy scalars."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def tolist(self) -> list[Any]:
        return self.values


class Frame:
    """Stands for a pandas data frame."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    @property
    def columns(self) -> list[str]:
        return list(self._columns)

    def __getitem__(self, name: str) -> Column:
        return Column(self._columns[name])


class ClassLabel:
    """Stands for the feature of that name of Hugging Face's datasets."""

    names = ["no", "yes"]  # noqa: RUF012


class Dataset(Frame):
    """Stands for `datasets.Dataset`."""

    features = {"sentence1": object(), "label": ClassLabel()}  # noqa: RUF012
    column_names = property(Frame.columns.fget)


DICTS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
NUMBERED = COLUMNS | {"label": [1, 0, 1]}


@pytest.mark.parametrize(
    "part",
    [DICTS, tuple(DICTS), COLUMNS, Frame(COLUMNS), pa.table(COLUMNS), Dataset(NUMBERED)],
    ids=["dicts", "tuple", "columns", "frame", "arrow", "dataset"],
)
def test_every_kind_of_table_gives_what_a_file_gives(tmp_path, part):
    write(tmp_path, train__tsv=TSV, dev__tsv=TSV)
    expected = load_pairs(DataConfig(path=str(tmp_path)))
    data = read_python_data({"train": part, "validation": part}, DataConfig())
    assert data.task == expected.task == TASK
    for split, pairs in expected.splits.items():
        assert rows_of(data.splits[split]) == rows_of(pairs)
        assert data.splits[split].label.tobytes() == pairs.label.tobytes()
    assert data.splits["dev"].where == ("validation:1", "validation:2", "validation:3")


def test_one_table_has_a_split_column_or_is_train():
    rows = [row | {"split": split} for split in ("train", "test", "validation") for row in DICTS]
    assert list(read_python_data(rows, DataConfig()).splits) == ["train", "dev", "test"]
    data = read_python_data(DICTS * 4, DataConfig(dev_fraction=0.25, group_texts=False))
    assert {name: len(pairs) for name, pairs in data.splits.items()} == {"train": 9, "dev": 3}


def test_what_is_missing_in_a_frame_is_no_label_and_floats_are_classes():
    frame = Frame(COLUMNS | {"label": [np.float64(1), math.nan, np.float64(0)]})
    with pytest.raises(UserError, match=r"train, row 2: the label \(label\) is missing; got None"):
        read_python_data({"train": frame, "dev": frame}, DataConfig())
    data = read_python_data({"train": frame, "dev": frame}, DataConfig(bad_rows="skip"))
    assert data.task.labels == ("0", "1")
    assert data.splits["train"].label.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (7, "no table of pairs; got int; expected splits such as"),
        ("train.tsv", "no table of pairs; got str"),
        ([("a", "b")], "row 1: not an object"),
        ({"train": DICTS}, "no dev split"),
        ({"train": DICTS, "dev": 3}, "dev: no table of pairs; got int"),
        ({"train": DICTS, "dev": COLUMNS | {"label": []}}, "dev: the columns differ in length; got 0 and 3"),
        ({"train": [DICTS[0], {"sentence1": "a"}], "dev": DICTS}, "train, row 2: no sentence2"),
        ({"train": np.zeros((2, 2)), "dev": DICTS}, "train: no table of pairs; got ndarray"),
    ],
)
def test_what_is_no_table_is_one_line(data, words):
    with pytest.raises(UserError) as caught:
        read_python_data(data, DataConfig())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def save(folder: Path, columns: dict[str, list[Any]], shards: int) -> None:
    """Writes what `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    table = pa.table(columns)
    names = [f"data-{number:05}-of-{shards:05}.arrow" for number in range(shards)]
    size = -(-table.num_rows // shards)
    for number, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(number * size, size))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_a_folder_of_save_to_disk_is_read(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    save(tmp_path / "set" / "train", NUMBERED, 2)
    save(tmp_path / "set" / "validation", NUMBERED, 1)
    data = load_pairs(DataConfig(path=str(tmp_path / "set")))
    assert data.task == TASK
    assert rows_of(data.splits["train"]) == [row[:2] for row in ROWS]
    assert data.splits["train"].where[2] == "data-00001-of-00002.arrow:1"
    assert "train/data-00000-of-00002.arrow" in data.source["files"]
    alone = load_pairs(DataConfig(path=str(tmp_path / "set" / "train"), dev_fraction=0.4, group_texts=False))
    assert {name: len(pairs) for name, pairs in alone.splits.items()} == {"train": 2, "dev": 1}
    (tmp_path / "set" / "train" / "data-00001-of-00002.arrow").unlink()
    assert "missing shards; got data-00001-of-00002.arrow" in message(DataConfig(path=str(tmp_path / "set")))
    (tmp_path / "set" / "train" / "state.json").write_text("{")
    assert "state.json: missing or not JSON" in message(DataConfig(path=str(tmp_path / "set")))
