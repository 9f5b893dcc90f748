"""A small part of `tests/torture/lines.py` for CI, and the reading of rows that are not pairs."""

import io
import time
import unicodedata
from pathlib import Path

import pytest

from pairjax.base.errors import UserError
from pairjax.data.clean import clean_text
from pairjax.data.stream import iter_pairs, iter_rows
from pairjax.data.table import BadRow
from tests.torture.lines import run


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_every_bad_line_has_its_row_in_order(suffix: str, tmp_path: Path) -> None:
    run(tmp_path, 2_000, suffix=suffix, long_rows=3)


def rows(data: bytes, **options: str) -> list[tuple[str, str] | BadRow]:
    return list(iter_rows(io.BytesIO(data), **options))


def test_a_bad_row_names_its_line_and_its_fault() -> None:
    found = rows(b"x y\tz\n\tc\nd\n\xffe\tf\ng\0\th\n\ni\tj\n\n\n")
    assert found[0] == ("x y", "z")
    assert found[6:] == [("i", "j")]
    told = [row for row in found[1:6] if isinstance(row, BadRow)]
    assert [row.number for row in told] == [2, 3, 4, 5, 6]
    for row, words in zip(
        told, ["first is empty", "1 field", "byte 0xff", "byte 0x00", "1 field (a blank line)"], strict=True
    ):
        assert words in row.reason
        assert f"line {row.number}" in row.reason
        assert "\n" not in row.reason


def test_json_lines_are_marked_one_by_one() -> None:
    good = b'{"sentence1": "a", "sentence2": "b"}\n'
    bad = [b"{", b"3", b'{"sentence1": "a"}', b'{"sentence1": "\\ud800", "sentence2": "b"}', b'{"\\ud800": 1}']
    bad.append(b'{"' + b"k" * 10_000 + b'": 1}')
    found = rows(good + b"\n".join(bad) + b"\n" + good)
    assert found[0] == found[-1] == ("a", "b")
    told = found[1:-1]
    assert len(told) == len(bad)
    for row in told:
        assert isinstance(row, BadRow)
        assert len(row.reason) <= 500
        row.reason.encode()


def test_a_csv_is_marked_row_by_row_and_an_open_quote_ends_it() -> None:
    found = rows(b'p,q\n1,"2\n3"\n\xff,4\n5\n6,7\n', format="csv", first="p", second="q")
    assert [row.number if isinstance(row, BadRow) else row for row in found] == [("1", "2\n3"), 4, 5, ("6", "7")]
    with pytest.raises(UserError, match="not RFC 4180"):
        rows(b'p,q\n1,"2\n', format="csv", first="p", second="q")


@pytest.mark.parametrize("data", [b"a\t\xff\n", b"a\t\0\n", b"a\t\n"])
def test_without_the_option_the_first_bad_row_is_an_error(data: bytes) -> None:
    with pytest.raises(UserError, match="line 1"):
        list(iter_pairs(io.BytesIO(data)))


def test_a_megabyte_of_combining_marks_is_read_quickly_and_a_few_marks_are_unchanged() -> None:
    began = time.monotonic()
    cleaned = clean_text("a" + "\u0316\u0301" * 250_000, place="x", column="y")
    # The quadratic way takes minutes; this bound is for a machine that is all but standing still.
    assert time.monotonic() - began < 60
    assert "\u034f" in cleaned
    run, longest = 0, 0
    for sign in cleaned:
        run = run + 1 if unicodedata.combining(sign) else 0
        longest = max(longest, run)
    assert longest <= 30
    plain = "á" * 600 + "e\u0301" * 600
    assert clean_text(plain, place="x", column="y") == unicodedata.normalize("NFC", plain)
