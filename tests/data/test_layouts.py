"""Published layouts are read without options, or with the one that their error names, and give the same pairs."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData
from pairjax.data.compression import FREE_BYTES
from pairjax.data.sources import load_for_task, load_pairs
from pairjax.data.split_files import name_splits
from pairjax.data.stream import iter_pairs, iter_rows
from tests.data.layouts import CLASSES, LAYOUTS, PAIRS, SNLI_JSON, SNLI_TXT, SPLITS, write_layout
from tests.data.pair_files import HEADER, TSV, message, rows_of, write


def load(folder: Path, **options) -> PairData:
    return load_pairs(DataConfig(path=str(folder), **options))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_gives_the_same_pairs_as_all_others(tmp_path, name):
    layout = LAYOUTS[name]
    data = load(write_layout(tmp_path, layout), **layout.options)
    assert tuple(data.splits) == layout.splits
    if layout.score:
        assert data.task.kind == "regression"
        assert any(note.startswith("task: regression") for note in data.notes)
    else:
        assert data.task.labels == tuple(sorted({layout.labels.get(label, label) for label in CLASSES}))
    for split, rows in zip(layout.splits, SPLITS.values(), strict=True):
        pairs = data.splits[split]
        assert rows_of(pairs) == [row[:2] for row in rows]
        if layout.score:
            np.testing.assert_array_equal(pairs.label, np.array([row[3] for row in rows], np.float32))
        else:
            names = [layout.labels.get(row[2], row[2]) for row in rows]
            assert pairs.label.tolist() == [data.task.labels.index(label) for label in names]
    assert len(data.reading) == len(data.splits)
    assert all(line.startswith(f"{split}: ") for split, line in zip(data.splits, data.reading, strict=True))
    [error] = [message(DataConfig(path=str(tmp_path)))] if layout.options else [""]
    assert all(f"--data.{option}" in error for option in layout.options)


def test_there_are_thirty_layouts_or_more():
    assert len(LAYOUTS) >= 30


# --------------------------------------------------------------------------------------------------------------- splits


def test_two_formats_of_one_split_are_an_error_and_an_option_chooses(tmp_path):
    for split, rows in SPLITS.items():
        (tmp_path / f"snli_1.0_{split}.txt").write_bytes(SNLI_TXT(rows))
        (tmp_path / f"snli_1.0_{split}.jsonl").write_bytes(SNLI_JSON(rows))
    (tmp_path / "README.txt").write_text("Read me.")
    text = message(DataConfig(path=str(tmp_path)))
    assert "more than one file for train; got snli_1.0_train.jsonl and snli_1.0_train.txt" in text
    assert "choose one with --data.format jsonl" in text
    read = [load(tmp_path, format=form) for form in ("jsonl", "txt")]
    assert read[0].splits["train"].first == read[1].splits["train"].first == tuple(row[0] for row in PAIRS)


def test_a_bare_name_is_preferred_and_what_is_left_out_is_noted(tmp_path):
    write(tmp_path, train__tsv=TSV, old_train__tsv=TSV, train_small__tsv=TSV, dev__tsv=TSV, dev_ids__tsv="1\t2\n")
    data = load(tmp_path)
    assert data.splits["train"].where[0] == "train.tsv:2"
    assert "train: left out old_train.tsv, train_small.tsv" in data.notes
    assert any(note.startswith("dev_ids: left out, because") for note in data.notes)
    assert list(data.splits) == ["train", "dev"]


def test_further_test_splits_are_splits_of_their_own(tmp_path):
    write(tmp_path, train__tsv=TSV, dev_r1__tsv=TSV, dev_r2__tsv=HEADER + "x\ty\t\n", test__tsv=TSV, test_hard__tsv=TSV)
    data = load(tmp_path)
    assert list(data.splits) == ["train", "dev_r1", "dev_r2", "test", "test_hard"]
    assert data.splits["dev_r2"].label is None
    assert "dev_r1 selects the best model and fits the temperature; it is the first of the dev splits" in data.notes


def test_numbered_files_of_train_are_joined_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 1):
        write(tmp_path, **{f"train_r{number}__tsv": HEADER + f"A{number}\tB\tx\nC{number}\tD\ty\n"})
    write(tmp_path, dev__tsv=HEADER + "A\tB\tx\n")
    data = load(tmp_path)
    assert data.splits["train"].first == ("A1", "C1", "A2", "C2", "A10", "C10")
    assert "train: joined train_r1.tsv, train_r2.tsv, train_r10.tsv" in data.notes
    write(tmp_path, train_easy__tsv=TSV)
    assert "more than one candidate for train" in message(DataConfig(path=str(tmp_path)))


def test_the_names_of_splits_are_mapped():
    names = ["train", "validation_matched", "validation_mismatched", "test", "unsupervised"]
    splits, notes = name_splits(names, place="x")
    assert splits == {
        "train": ("train",),
        "dev_matched": ("validation_matched",),
        "dev_mismatched": ("validation_mismatched",),
        "test": ("test",),
    }
    assert notes == ("splits left out: unsupervised",)
    with pytest.raises(UserError, match="two dev splits; got dev and validation"):
        name_splits(["train", "dev", "validation"], place="x")


SICK_ALL = "pair_ID\tsentence_A\tsentence_B\tentailment_label\trelatedness_score\tSemEval_set\n"


def test_one_file_with_a_split_column(tmp_path):
    rows = [
        (split, *row) for split, part in zip(("TRAIN", "TRIAL", "TEST"), SPLITS.values(), strict=True) for row in part
    ]
    text = SICK_ALL + "".join(f"1\t{a}\t{b}\t{name}\t{score}\t{split}\n" for split, a, b, name, score in rows)
    (tmp_path / "SICK.txt").write_text(text)
    for path in (tmp_path, tmp_path / "SICK.txt"):
        data = load(path, label="entailment_label")
        assert [rows_of(pairs) for pairs in data.splits.values()] == [[r[:2] for r in part] for part in SPLITS.values()]
        assert data.splits["dev"].where == ("SICK.txt:6", "SICK.txt:7")
        assert "column SemEval_set = trial" in data.reading[1]
    (tmp_path / "SICK.txt").write_text(text + "1\ta\tb\tneutral\t1.0\tEXTRA\n")
    text = message(DataConfig(path=str(tmp_path), label="entailment_label"))
    assert "SICK.txt, line 10: an unexpected value in the split column (SemEval_set); got 'EXTRA'" in text
    assert "no column part" in message(DataConfig(path=str(tmp_path), split_column="part"))


def test_a_lone_file_without_a_split_column_is_test_or_the_split_of_its_name(tmp_path):
    write(tmp_path, pairs__tsv=TSV)
    assert "pairs.tsv: no train split" in message(DataConfig(path=str(tmp_path / "pairs.tsv")))
    task = load_pairs(DataConfig(train=str(tmp_path / "pairs.tsv"), dev=str(tmp_path / "pairs.tsv"))).task
    assert list(load_for_task(DataConfig(path=str(tmp_path / "pairs.tsv")), task).splits) == ["test"]


# ---------------------------------------------------------------------------------------------- encodings, compression


def test_an_encoding_is_guessed_in_the_error_and_named_by_option(tmp_path):
    text = "sentence1;sentence2;label\nSão dois;gatos;sim\nnão;é;não\n"
    for name in ("train", "dev"):
        (tmp_path / f"{name}.csv").write_bytes(text.encode("windows-1252"))
    error = message(DataConfig(path=str(tmp_path)))
    assert "train.csv, line 2: not UTF-8 at byte 2" in error
    assert "give --data.encoding windows-1252" in error
    data = load(tmp_path, encoding="windows-1252")
    assert data.splits["train"].first == ("São dois", "não")
    assert data.task.labels == ("não", "sim")
    with pytest.raises(UserError, match=r"--data\.encoding klingon: no such encoding"):
        DataConfig(encoding="klingon")
    assert "not utf-16" in message(DataConfig(path=str(tmp_path), encoding="utf-16-be"))


LINES = "".join(json.dumps({"sentence1": f"a {i}", "sentence2": "b", "label": "xy"[i % 2]}) + "\n" for i in range(50))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.jsonl.xz", b"x", "train.jsonl.xz: .xz cannot be read; expected a plain file, or .gz, .bz2, .zst"),
        ("train.zip", b"x", "no train, dev or test file"),
        (
            "train.jsonl.gz",
            gzip.compress(LINES.encode(), mtime=0)[:-40],
            "the archive is truncated; copy or download it again",
        ),
        ("train.jsonl.gz", LINES.encode(), "not a .gz file; got bytes"),
        ("train.jsonl.gz", b"", "not a .gz file; got an empty file"),
        ("train.jsonl", gzip.compress(LINES.encode(), mtime=0), "the file is compressed; name it train.jsonl.gz"),
        ("train.jsonl.zst", pa.compress(LINES.encode(), codec="zstd", asbytes=True)[:-9], "the archive is truncated"),
        ("train.parquet.gz", gzip.compress(b"x", mtime=0), ".parquet is compressed by itself"),
        ("train.txt", b"{", "line 1: not JSON"),
        ("train.json", b'[{"sentence1": "a"},\n oops]', "line 2: not JSON"),
        ("train.json", b"[1, 2]", "row 1: not an object; got int 1"),
        ("train.json", b'{"sentence1": ["a"], "sentence2": []}', "the columns differ in length"),
        ("train.json", b"[]", "no rows"),
        ("train.xml", b"<a><pair entailment='x'><t>a</t></a>", "line 1: not XML (mismatched tag)"),
        ("train.xml", b"<a/>", "no <pair> element"),
        (
            "train.xml",
            b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a><pair><t>&e;</t><h>b</h></pair></a>',
            "line 1: a document type or an entity; expected XML without <!DOCTYPE> and <!ENTITY>",
        ),
        ("train.xml", b"<a><pair entailment='x'><t>a</t></pair></a>", "line 1: the pair has no h"),
        ("train.arrow", b"ARROW1", "not a readable Arrow file"),
        ("train-00000-of-00003.tsv", TSV.encode(), "train lacks 2 shards (number 1); got 1 of 3"),
        ("train.tsv", b"a text\tb text\tyes\n", "name them with --data.first and --data.second, or all columns with"),
    ],
)
def test_a_bad_file_of_a_new_kind_is_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in message(DataConfig(path=str(tmp_path), dev_fraction=0.5))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_decompression_bomb_is_refused(tmp_path, suffix):
    bomb = HEADER.encode() + b"a" * (FREE_BYTES + 2**20)
    packed = gzip.compress(bomb, mtime=0) if suffix == ".gz" else pa.compress(bomb, codec="zstd", asbytes=True)
    (tmp_path / f"train.tsv{suffix}").write_bytes(packed)
    text = message(DataConfig(path=str(tmp_path), dev_fraction=0.5))
    assert f"train.tsv{suffix}: a decompression bomb; got 3" in text
    assert "at most 200 times as much" in text


# -------------------------------------------------------------------------------------------------------------- columns


def test_a_file_without_a_header_is_read_with_named_columns(tmp_path):
    rows = "A, B\tC\tyes\nD\tE\tno\n"
    write(tmp_path, train__tsv=rows, dev__tsv=rows)
    data = load(tmp_path, columns=("sentence1", "sentence2", "label"))
    assert rows_of(data.splits["train"]) == [("A, B", "C"), ("D", "E")]
    assert data.splits["train"].where == ("train.tsv:1", "train.tsv:2")
    assert "without a header" in data.reading[0]


def test_two_label_columns_are_listed_with_their_values(tmp_path):
    text = message(DataConfig(path=str(write_layout(tmp_path, LAYOUTS["sick"]))))
    got = "relatedness_score (4.25, 2.5, 0.75, 3.0) or entailment_judgment (entailment, neutral, contradiction)"
    assert f"SICK_train.txt: more than one label column; got {got}; choose one with --data.label" in text


def test_a_quoted_header_makes_a_tsv_quoted(tmp_path):
    text = '"sentence1"\t"sentence2"\t"label"\n"say ""hi"""\t"a\tb"\tyes\n"c\nd"\te\tno\n'
    write(tmp_path, train__tsv=text, dev__tsv=text)
    assert rows_of(load(tmp_path).splits["train"]) == [('say "hi"', "a\tb"), ("c\nd", "e")]


# --------------------------------------------------------------------------------------------------------------- labels


def test_labels_that_differ_in_case_are_joined_by_option(tmp_path):
    train = HEADER + "a\tb\tYes\nc\td\tno\ne\tf\tyes\ng\th\tyes\n"
    write(tmp_path, train__tsv=train, dev__tsv=HEADER + "a\tb\tNO\n")
    assert "give --data.join-label-case" in message(DataConfig(path=str(tmp_path)))
    data = load(tmp_path, join_label_case=True)
    assert data.task.labels == ("no", "yes")
    assert data.splits["train"].label.tolist() == [1, 0, 1, 1]
    assert data.splits["dev"].label.tolist() == [0]
    assert "train: the labels Yes and yes are one class (--data.join-label-case)" in data.notes


def test_floats_that_are_whole_and_few_are_classes_in_every_spelling(tmp_path):
    write(tmp_path, train__tsv=HEADER + "a\tb\t1.0\nc\td\t0.0\n", dev__tsv=HEADER + "a\tb\t1\n")
    lines = '{"sentence1": "a", "sentence2": "b", "label": 1.0}\n'
    write(tmp_path, test__jsonl=lines)
    data = load(tmp_path)
    assert data.task.labels == ("0", "1")
    assert [pairs.label.tolist() for pairs in data.splits.values()] == [[1, 0], [1], [1]]
    assert any("2 whole numbers, although written as decimals (1.0 in train.tsv:2)" in note for note in data.notes)
    scores = load(tmp_path, task="regression")
    assert scores.task.kind == "regression"
    assert "task: regression, because of --data.task regression" in scores.notes


# -------------------------------------------------------------------------------------------------------------- predict


@pytest.mark.parametrize("name", LAYOUTS)
def test_predict_reads_the_layouts_too(tmp_path, name):
    layout = LAYOUTS[name]
    path = write_layout(tmp_path, layout) / layout.files["train"]
    for read in (iter_pairs, iter_rows):
        rows = read(path, encoding=layout.options.get("encoding", "utf-8"))
        assert [tuple(row) for row in rows] == [row[:2] for row in PAIRS]


def test_a_line_of_prose_with_commas_is_no_header_of_predict(tmp_path):
    write(tmp_path, x__tsv="Hello, world; again\n")
    with pytest.raises(UserError, match="no text columns found"):
        list(iter_pairs(tmp_path / "x.tsv"))


def test_a_config_of_an_older_version_names_bad_rows_empty():
    assert DataConfig.from_dict({"empty": "skip"}).bad_rows == "skip"
    assert DataConfig.from_dict({"empty": "error"}).bad_rows == "refuse"
