"""Reading pairs from files: every format gives the same pairs, and bad input gives one line with place and remedy."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs
from pairjax.data.sources import load_for_task, load_pairs
from pairjax.data.stream import iter_pairs
from tests.data.pair_files import HEADER, ROWS, TASK, TSV, message, rows_of, write


def read_file(path: Path) -> Pairs:
    """Reads one unlabelled file as `pairjax evaluate` does."""
    return load_for_task(DataConfig(path=str(path)), TASK).splits["test"]


# -------------------------------------------------------------------------------------------------------------- formats


def test_every_format_reads_the_same(tmp_path):
    header = ["sentence1", "sentence2", "label"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([header, *ROWS])
    lines = "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in ROWS)
    table = pa.table({name: [row[i] for row in ROWS] for i, name in enumerate(header)})
    folders = [
        write(tmp_path / "tsv", train__tsv=TSV, dev__tsv=TSV, test__tsv=TSV),
        write(tmp_path / "csv", train__csv=text.getvalue(), validation__csv=text.getvalue(), test__csv=text.getvalue()),
        write(tmp_path / "jsonl", train__jsonl=lines, valid__jsonl=lines, test__jsonl=lines),
        tmp_path / "parquet",
    ]
    folders[3].mkdir()
    for name in ("train", "val", "test"):
        pq.write_table(table, folders[3] / f"{name}.parquet")
    for folder in folders:
        data = load_pairs(DataConfig(path=str(folder)))
        assert data.task == TASK
        assert list(data.splits) == ["train", "dev", "test"]
        for pairs in data.splits.values():
            assert rows_of(pairs) == [row[:2] for row in ROWS]
            assert pairs.label.tolist() == [1, 0, 1]
            assert pairs.label.dtype == np.int32


def test_where_counts_lines_in_files_and_rows_in_parquet(tmp_path):
    write(tmp_path, train__csv='sentence1,sentence2,label\n"a\nb",c,x\nd,e,y\n', dev__tsv=HEADER + "a\tb\tx\n")
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert data.splits["train"].where == ("train.csv:2", "train.csv:4")
    assert data.splits["dev"].where == ("dev.tsv:2",)
    assert data.splits["train"].first == ("a\nb", "d")
    pq.write_table(pa.table({"a": ["x", "y"], "b": ["z", "z"]}), tmp_path / "p.parquet")
    assert read_file(tmp_path / "p.parquet").where == ("p.parquet:1", "p.parquet:2")


def test_tsv_is_plain_and_csv_is_quoted(tmp_path):
    plain = HEADER + 'say "hi\tit\'s 5" wide, "quoted"\tyes\n' + '"""\t",\tno\n'
    quoted = 'sentence1,sentence2,label\r\n"say ""hi""","a, b\r\nc",yes\r\nplain,"",no\r\n'
    write(tmp_path, train__tsv=plain, dev__csv=quoted.replace('""\r', '"x"\r').replace(',"",', ',"y",'))
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert rows_of(data.splits["train"]) == [('say "hi', 'it\'s 5" wide, "quoted"'), ('"""', '",')]
    assert rows_of(data.splits["dev"])[0] == ('say "hi"', "a, b\r\nc")


def test_bom_crlf_and_decomposed_letters_make_no_difference(tmp_path):
    decomposed = unicodedata.normalize("NFD", "São é")
    crlf = "\ufeff" + HEADER.replace("\n", "\r\n") + f"{decomposed}\tb\tna\u0303o\r\nc\td\tsim\r\n"
    write(tmp_path, train__tsv=crlf, dev__tsv=HEADER + "São é\tb\tnão\n")
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert data.splits["train"].first[0] == "São é"
    assert set(data.task.labels) == {"não", "sim"}
    assert data.splits["train"].label[0] == data.splits["dev"].label[0]


def test_line_separators_inside_a_text_do_not_end_the_line(tmp_path):
    write(tmp_path, train__tsv=HEADER + "a\u2028b\x85c\x0bd\te\tx\nf\tg\ty\n", dev__tsv=HEADER + "a\tb\tx\n")
    train = load_pairs(DataConfig(path=str(tmp_path))).splits["train"]
    assert train.first == ("a\u2028b\x85c\x0bd", "f")


def test_blank_lines_at_the_end_are_no_rows(tmp_path):
    write(
        tmp_path, train__tsv=TSV + "\n\n", dev__csv="a,b,label\n1x,2x,yes\n\n", test__jsonl='{"a": "x", "b": "y"}\n\n'
    )
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert data.source["rows"] == {"train": 3, "dev": 1, "test": 1}


def test_a_csv_field_may_be_larger_than_pythons_limit(tmp_path):
    long = "word " * 60_000
    write(tmp_path, train__csv=f'a,b,label\n"{long}",x,yes\ny,z,no\n', dev__csv="a,b,label\nx,y,yes\n")
    assert load_pairs(DataConfig(path=str(tmp_path))).splits["train"].first[0] == long


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0\t\r\n\ufeff"), min_size=1).filter(str.strip)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_csv_text_is_read_back(tmp_path, rows):
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    expected = [tuple(unicodedata.normalize("NFC", text) for text in row) for row in rows]
    assert rows_of(read_file(path)) == expected
    assert list(iter_pairs(path)) == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=5))
def test_tsv_text_is_read_back(tmp_path, rows):
    path = tmp_path / "t.tsv"
    path.write_bytes("".join(f"{a}\t{b}\n" for a, b in [("a", "b"), *rows]).encode())
    expected = [tuple(unicodedata.normalize("NFC", text) for text in row) for row in rows]
    assert rows_of(read_file(path)) == expected
    assert list(iter_pairs(path)) == expected


# -------------------------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    "header",
    [
        "sentence1 sentence2 label",
        "Premise HYPOTHESIS Gold_Label",
        "label question1 question2 id",
        "text_a text_b labels",
        "pair_ID sentence_A sentence_B score",
        "query passage is_duplicate",
        "A B Label",
        "question sentence label",
    ],
)
def test_usual_column_names_are_found_whatever_their_case(tmp_path, header):
    names = header.split()
    texts = [name for name in names if name.lower() not in ("label", "gold_label", "labels", "score", "is_duplicate")]
    texts = [name for name in texts if name.lower() not in ("id", "pair_id")]
    cells = {texts[0]: "first text", texts[1]: "second text"}
    rows = "".join("\t".join(cells.get(name, label) for name in names) + "\n" for label in ("x", "y"))
    write(tmp_path, train__tsv="\t".join(names) + "\n" + rows, dev__tsv="\t".join(names) + "\n" + rows)
    data = load_pairs(DataConfig(path=str(tmp_path)))
    assert rows_of(data.splits["dev"]) == [("first text", "second text")] * 2
    assert data.task.labels == ("x", "y")


def test_columns_can_be_named(tmp_path):
    text = "src\tmid\tdst\tgold\tscore\na\tm\tb\tx\t1\nc\tm\td\ty\t2\n"
    write(tmp_path, train__tsv=text, dev__tsv=text)
    data = load_pairs(DataConfig(path=str(tmp_path), first="src", second="dst", label="GOLD"))
    assert rows_of(data.splits["train"]) == [("a", "b"), ("c", "d")]
    assert data.task.labels == ("x", "y")


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        ("foo\tbar\tlabel", {}, ["no text columns", "foo, bar, label", "--data.first and --data.second"]),
        ("a\tb\tfoo", {}, ["no label column", "a, b, foo", "--data.label"]),
        ("a\tb\tlabel", {"label": "gold"}, ["no column gold", "a, b, label", "--data.label"]),
        ("a\tb\tlabel", {"first": "left"}, ["no column left", "a, b, label", "--data.first"]),
        ("a\tb\tlabel", {"first": "label"}, ["no text columns", "--data.second"]),
        ("a\tb\tlabel", {"first": "a", "second": "A"}, ["one column in two roles", "--data.second"]),
        ("a\tb\tlabel\tscore", {}, ["more than one label column", "label (x) or score (x)", "--data.label"]),
        (
            "a\tb\tpremise\thypothesis\tlabel",
            {},
            ["more than one pair", "premise and hypothesis or a and b", "--data.first"],
        ),
        ("a\tb\ta\tlabel", {}, ["two columns are called a", "rename"]),
    ],
)
def test_ambiguous_or_missing_columns_are_an_error(tmp_path, header, options, words):
    row = "\t".join(["x"] * (header.count("\t") + 1))
    write(tmp_path, train__tsv=f"{header}\n{row}\n", dev__tsv=TSV)
    text = message(DataConfig(path=str(tmp_path), **options))
    assert text.startswith(f"{tmp_path / 'train.tsv'}")
    for word in words:
        assert word in text


# ------------------------------------------------------------------------------------------------------------ bad input

CSV_HEADER = "sentence1,sentence2,label\n"
BAD_FILES = {
    "empty file": ("train.tsv", b"", ["the file is empty", "header"]),
    "empty csv": ("train.csv", b"", ["the file is empty", "header"]),
    "empty jsonl": ("train.jsonl", b"\n", ["the file is empty", "JSON object a line"]),
    "empty parquet": ("train.parquet", b"", ["not a readable Parquet file"]),
    "header only": ("train.tsv", HEADER.encode(), ["a header and no rows", "at least one pair"]),
    "header only csv": ("train.csv", CSV_HEADER.encode(), ["a header and no rows"]),
    "short line": (
        "train.tsv",
        (TSV + "a\tb\n").encode(),
        ["line 5", "got 2 fields", "expected 3", "fill in the missing"],
    ),
    "long line": ("train.tsv", (TSV + "a\tb\tc\td\n").encode(), ["line 5", "got 4 fields", "expected 3"]),
    "blank line": ("train.tsv", (HEADER + "\na\tb\tc\n").encode(), ["line 2", "blank line", "expected 3"]),
    "ragged csv": (
        "train.csv",
        (CSV_HEADER + '"a\nb",c,x\n"d\n\ne",f\n').encode(),
        ["line 4", "got 2", "fill in the missing"],
    ),
    "latin-1": (
        "train.tsv",
        TSV.encode() + "caf\u00e9\tb\tno\n".encode("latin-1"),
        ["line 5", "byte 4", "0xe9", "iconv"],
    ),
    "latin-1 csv": (
        "train.csv",
        (CSV_HEADER + '"a\nb",c,x\n').encode() + b"\xff,b,x\n",
        ["line 4", "byte 1", "0xff", "UTF-8"],
    ),
    "utf-16": ("train.tsv", TSV.encode("utf-16"), ["the file is UTF-16", "iconv -f utf-16le -t utf-8"]),
    "nul": ("train.tsv", (TSV + "a\0\tb\tno\n").encode(), ["line 5", "NUL", "UTF-8"]),
    "nul csv": ("train.csv", (CSV_HEADER + "a\0,b,no\n").encode(), ["line 2", "NUL"]),
    "open quote": (
        "train.csv",
        (CSV_HEADER + 'a,b,x\n"c,d,y\ne,f,z\n').encode(),
        ["line 3", "RFC 4180", "double them"],
    ),
    "quote after quote": ("train.csv", (CSV_HEADER + '"a"b,c,x\n').encode(), ["line 2", "RFC 4180"]),
    "empty text": ("train.tsv", (TSV + "a\t\tno\n").encode(), ["line 5", "sentence2 is empty", "--data.bad-rows skip"]),
    "blank text": ("train.tsv", (TSV + " \u00a0\tb\tno\n").encode(), ["line 5", "sentence1 is empty"]),
    "missing label": ("train.tsv", (TSV + "a\tb\t\n").encode(), ["line 5", "label", "missing", "drop the row"]),
    "nan score": (
        "train.tsv",
        (HEADER + "a\tb\t1.5\nc\td\tnan\n").encode(),
        ["line 3", "not a finite number", "got nan"],
    ),
    "inf score": ("train.tsv", (HEADER + "a\tb\t1.5\nc\td\t-inf\n").encode(), ["line 3", "not a finite number"]),
    "nan among numbers": ("train.tsv", (HEADER + "a\tb\t1\nc\td\tNaN\n").encode(), ["line 3", "not a finite number"]),
    "huge score": ("train.tsv", (HEADER + "a\tb\t1.5\nc\td\t1e99\n").encode(), ["line 3", "not a finite number"]),
    "score and name": ("train.tsv", (HEADER + "a\tb\t1.5\nc\td\tbad\n").encode(), ["line 3", "'bad'", "--data.task"]),
    "one class": (
        "train.tsv",
        (HEADER + "a\tb\tx\nc\td\tx\n").encode(),
        ["only one class", "x in all 2 rows", "--data.label"],
    ),
    "not json": ("train.jsonl", b'{"a": "x", "b": "y", "label": "z"}\n{"a": \n', ["line 2", "not JSON", "one object"]),
    "json list": ("train.jsonl", b'["a", "b"]\n', ["line 1", "got list", "sentence1"]),
    "json key": ("train.jsonl", b'{"a": "x", "b": "y", "label": "z"}\n{"a": "x"}\n', ["line 2", "no b", "keys a"]),
    "json number": (
        "train.jsonl",
        b'{"a": "x", "b": 7, "label": "z"}\n',
        ["line 1", "b is not text", "int 7", "string"],
    ),
    "json null": ("train.jsonl", b'{"a": "x", "b": null, "label": "z"}\n', ["line 1", "b is empty"]),
    "json null label": ("train.jsonl", b'{"a": "x", "b": "y", "label": null}\n', ["line 1", "missing", "None"]),
    "json nan": (
        "train.jsonl",
        b'{"a": "x", "b": "y", "label": 0.5}\n{"a": "x", "b": "y", "label": NaN}\n',
        ["line 2", "not a finite number"],
    ),
    "surrogate": (
        "train.jsonl",
        b'{"a": "x\\ud800", "b": "y", "label": "z"}\n',
        ["line 1", "a is not Unicode", "at 1"],
    ),
    "deep json": ("train.jsonl", b"[" * 100_000, ["line 1", "not JSON"]),
    "not parquet": ("train.parquet", b"PAR1" + b"\0" * 100, ["not a readable Parquet file", "again"]),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_gives_its_place_and_the_fix(tmp_path, kind):
    name, content, words = BAD_FILES[kind]
    (tmp_path / name).write_bytes(content)
    write(tmp_path, dev__tsv=TSV)
    text = message(DataConfig(path=str(tmp_path)))
    assert text.startswith(str(tmp_path / name))
    for word in words:
        assert word in text, text


def test_a_cut_off_parquet_is_an_error(tmp_path):
    pq.write_table(pa.table({"a": ["x"] * 999, "b": ["y"] * 999, "label": ["z"] * 999}), tmp_path / "train.parquet")
    content = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(content[: len(content) // 2])
    write(tmp_path, dev__tsv=TSV)
    assert "not a readable Parquet file" in message(DataConfig(path=str(tmp_path)))


def test_parquet_rows_are_checked_too(tmp_path):
    table = pa.table({"a": ["x", None], "b": ["y", "z"], "label": ["p", "q"]})
    pq.write_table(table, tmp_path / "train.parquet")
    write(tmp_path, dev__tsv=TSV)
    assert "train.parquet, row 2: a is empty" in message(DataConfig(path=str(tmp_path)))
    pq.write_table(pa.table({"a": [1], "b": ["y"], "label": ["p"]}), tmp_path / "train.parquet")
    assert "train.parquet, row 1: a is not text; got int 1" in message(DataConfig(path=str(tmp_path)))
    pq.write_table(table.slice(0, 0), tmp_path / "train.parquet")
    assert "no rows" in message(DataConfig(path=str(tmp_path)))


def test_places_without_data_are_errors(tmp_path):
    assert "no such file or folder" in message(DataConfig(path=str(tmp_path / "gone")))
    assert "gone.tsv: no such file" in message(DataConfig(train=str(tmp_path / "gone.tsv")))
    (tmp_path / "sub").mkdir()
    assert "a folder" in message(DataConfig(train=str(tmp_path / "sub")))
    empty = message(DataConfig(path=str(tmp_path / "sub")))
    assert "no train, dev or test file" in empty
    assert "train.tsv, train.csv, train.txt, train.jsonl" in empty
    write(tmp_path / "sub", train__doc="x", other__tsv=TSV, more__tsv=TSV)
    assert "got more.tsv, other.tsv, train.doc" in message(DataConfig(path=str(tmp_path / "sub")))
    assert "expected .tsv or .csv or .txt" in message(DataConfig(train=str(tmp_path / "sub/train.doc")))


def test_no_source_lists_all_three():
    text = message(DataConfig())
    for option in ("--data.path", "--data.tfds", "--data.rules"):
        assert option in text


def test_two_files_for_a_split_are_an_error_that_names_both(tmp_path):
    write(tmp_path, train__tsv=TSV, dev__tsv=TSV, validation__csv="a,b,label\nx,y,yes\n")
    text = message(DataConfig(path=str(tmp_path)))
    assert "more than one file for dev" in text
    assert "dev.tsv and validation.csv" in text
    assert "--data.dev" in text


def test_files_can_be_named_one_by_one(tmp_path):
    write(tmp_path, x__tsv=TSV, y__tsv=HEADER + "q\tr\tno\n", z__csv="a,b\nu,v\n")
    data = load_pairs(
        DataConfig(train=str(tmp_path / "x.tsv"), dev=str(tmp_path / "y.tsv"), test=str(tmp_path / "z.csv"))
    )
    assert data.source["rows"] == {"train": 3, "dev": 1, "test": 1}
    assert data.splits["test"].label is None


def test_a_missing_train_is_an_error(tmp_path):
    write(tmp_path, dev__tsv=TSV)
    for path in (tmp_path, tmp_path / "dev.tsv"):
        text = message(DataConfig(path=str(path)))
        assert f"{path}: no train split; got dev.tsv" in text
        assert "--data.train" in text


UTF16 = "sentence1\tsentence2\tlabel\r\nA\tB\tx\r\nC\tD\ty\r\n"
HEAD = "sentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.tsv", b"\xff\xfe" + UTF16.encode("utf-16le"), "the file is UTF-16; .*iconv -f utf-16le -t utf-8"),
        ("train.csv", b"\xfe\xff" + UTF16.encode("utf-16be"), "the file is UTF-16; .*iconv -f utf-16be"),
        ("train.jsonl", '{"a": 1}\n'.encode("utf-16le"), "the file is UTF-16"),
        ("train.tsv", HEAD.encode("utf-16be"), "the file is UTF-16"),
        (
            "train.tsv",
            HEAD.encode() + b"caf\xe9\tB\tx\n",
            "line 2: not UTF-8 at byte 4 .*looks like windows-1252; give --data.encoding windows-1252 .*iconv",
        ),
        (
            "train.csv",
            b'sentence1, sentence2, label\n"A man", "Nobody, awake", "no"\n',
            "line 2: fields and header differ; got 4 fields; .*put no space between a comma and a quote",
        ),
        (
            "train.tsv",
            HEAD.encode() + b"E\tF\n",
            "line 2: .*got 2 fields; .*fill in the missing fields.*--data.bad-rows skip",
        ),
        ("train.tsv", HEAD.encode() + b"E\tF\tG\tx\n", "line 2: .*got 4 fields; .*put no tab inside a text"),
        ("train.tsv", HEAD.encode().replace(b"\n", b"\r") + b"A\tB\tx\rC\tD\ty\r", "carriage returns.*tr "),
        ("train.csv", b"sentence1,sentence2,label\rA,B,x\r", "carriage returns"),
    ],
    ids=[
        "utf-16",
        "utf-16be csv",
        "unmarked jsonl",
        "unmarked be",
        "latin-1",
        "spaced quotes",
        "short",
        "long",
        "cr",
        "cr csv",
    ],
)
def test_a_hint_names_the_cause_and_a_fix_that_works(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    for config in (DataConfig(train=str(path), dev_fraction=0.5), DataConfig(path=str(tmp_path), dev_fraction=0.5)):
        with pytest.raises(UserError, match=words) as caught:
            load_pairs(config)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_ragged_rows_are_skipped_by_option_and_counted(tmp_path):
    rows = "".join(f"A{i}\tB{i}\t{'xy'[i % 2]}\n" for i in range(8))
    (tmp_path / "train.tsv").write_text(HEAD + rows + "E\tF\nG\t\tx\n")
    data = load_pairs(DataConfig(path=str(tmp_path), dev_fraction=0.25, bad_rows="skip"))
    assert sum(map(len, data.splits.values())) == 8
    assert data.notes[0] == (
        "train: skipped 2 rows (--data.bad-rows skip): 1 because fields and header differ (train.tsv:10); "
        "1 because sentence2 is empty (train.tsv:11)"
    )


def test_shards_are_joined_in_order_and_a_missing_one_is_an_error(tmp_path):
    rows = HEAD + "".join(f"A{i}\tB{i}\t{'xy'[i % 2]}\n" for i in range(8))
    (tmp_path / "train-00001-of-00002.tsv").write_text(rows.replace("A", "C"))
    with pytest.raises(UserError, match=r"train lacks a shard \(number 0\); got 1 of 2: train-00001-of-00002.tsv"):
        load_pairs(DataConfig(path=str(tmp_path), dev_fraction=0.25))
    (tmp_path / "train-00000-of-00002.tsv").write_text(rows)
    (tmp_path / "dev.tsv").write_text(rows)
    train = load_pairs(DataConfig(path=str(tmp_path))).splits["train"]
    assert train.first[7:9] == ("A7", "C0")
    assert train.where[7:9] == ("train-00000-of-00002.tsv:9", "train-00001-of-00002.tsv:2")


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("t.csv", 'sentence1, sentence2, label\n"A", "B", "no"\n"C", "D", "yes"\n', "4 fields with a space before"),
        ("t.tsv", HEAD + '"He said ""yes"""\tB\tx\nC\tD\ty\n', '1 text looks quoted ("" inside quotes), but a .tsv'),
        ("t.tsv", HEAD + "A\tB\tNo\nC\tD\tno\n", "labels No and no differ only in case and are 2 classes"),
        (
            "t.tsv",
            HEAD + "A\tB\t0.0\nC\tD\t1.0\n",
            "classification, because the labels are 2 whole numbers, although written as decimals (0.0 in t.tsv:2); "
            "if they are scores, give --data.task regression",
        ),
    ],
)
def test_a_doubtful_reading_is_noted(tmp_path, name, content, note):
    (tmp_path / name).write_text(content)
    dev = tmp_path / f"dev{name[1:]}"
    dev.write_text(content)
    notes = load_pairs(DataConfig(train=str(tmp_path / name), dev=str(dev))).notes
    assert any(note in line for line in notes)


def test_a_label_in_another_case_is_an_error_that_says_so(tmp_path):
    (tmp_path / "train.tsv").write_text(HEAD + "A\tB\tno\nC\tD\tyes\n")
    (tmp_path / "dev.tsv").write_text(HEAD + "E\tF\tYes\n")
    with pytest.raises(UserError, match="write it as yes: upper and lower case differ"):
        load_pairs(DataConfig(path=str(tmp_path)))
