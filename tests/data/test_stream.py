"""Reading pairs one by one from a file or a stream."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairjax.base.errors import UserError
from pairjax.data.stream import iter_pairs


def stream(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "sentence1\tsentence2\nx y\tz\nu\tv\n",
        "x y\tz\nu\tv\n",
        "id\thypothesis\tpremise\n1\tz\tx y\n2\tv\tu\n",
        '{"text1": "x y", "text2": "z"}\n{"text1": "u", "text2": "v", "more": 1}\n',
        "\ufeffx y\tz\r\nu\tv\r\n\r\n",
    ],
    ids=["header", "no header", "more columns", "json lines", "bom and crlf"],
)
def test_a_stream_is_read_with_or_without_a_header(text):
    assert list(iter_pairs(stream(text))) == [("x y", "z"), ("u", "v")]


def test_a_stream_takes_columns_and_a_format():
    assert list(iter_pairs(stream('p,q\n1,"2,3"\n'), first="q", second="p", format="csv")) == [("2,3", "1")]
    assert list(iter_pairs(stream('p,"q"\n'), format="csv")) == [("p", "q")]


def test_standard_input_is_a_dash(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream("x\ty\n")))
    assert list(iter_pairs("-")) == [("x", "y")]


def test_a_stream_yields_before_it_ends():
    def lines():
        yield b"x\ty\n"
        yield b"u\tv\n"
        raise AssertionError("read further than needed")

    pairs = iter_pairs(io.BufferedReader(_Raw(lines()), buffer_size=1))
    assert next(pairs) == ("x", "y")


class _Raw(io.RawIOBase):
    """A raw stream of chunks."""

    def __init__(self, chunks):
        self.chunks = chunks

    def readable(self):
        return True

    def readinto(self, buffer):
        self.rest = getattr(self, "rest", b"") or next(self.chunks)
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


def test_a_parquet_file_can_be_predicted(tmp_path):
    pq.write_table(pa.table({"premise": ["x"], "hypothesis": ["y"]}), tmp_path / "p.parquet")
    assert list(iter_pairs(tmp_path / "p.parquet")) == [("x", "y")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["standard input: the file is empty"]),
        ("p\tq\tr\nx\ty\tz\n", ["standard input: no text columns", "p, q, r", "--data.first"]),
        ("a\tb\nx\t\n", ["standard input, line 2: b is empty", "fill it in"]),
        ("x\ty\nz\n", ["standard input, line 2", "got 1 field;", "expected 2"]),
    ],
)
def test_a_bad_stream_is_an_error(text, words):
    with pytest.raises(UserError) as caught:
        list(iter_pairs(stream(text)))
    for word in words:
        assert word in str(caught.value)
