"""Reads pairs one by one for `pairjax predict`; memory does not grow with the file."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.clean import clean_text
from pairjax.data.columns import Columns, find_columns
from pairjax.data.compression import split_suffixes
from pairjax.data.decode import decode_lines
from pairjax.data.line_formats import delimited_table, jsonl_table
from pairjax.data.readers import byte_lines, open_table
from pairjax.data.table import BadRow, LocatedPair, OnError, Row, Table, keep_error, raise_error

Format = Literal["auto", "tsv", "csv", "jsonl"]


def iter_pairs(
    source: str | Path | Iterable[bytes],
    *,
    first: str | None = None,
    second: str | None = None,
    format: Format = "auto",
    encoding: str = "utf-8",
) -> Iterator[tuple[str, str]]:
    """Yields the pairs of a file or stream one by one, each with its place (`LocatedPair`).

    The first line of a .tsv or .csv is a header if it has the columns asked for or two of the usual names. Otherwise,
    if it has two fields, the file has no header and every line is a pair; any other first line is an error.

    Args:
        source: A file of a kind that `load_pairs` reads; the lines of a binary stream; or `-` for standard input.
        first: Column of the first text.
        second: Column of the second text.
        format: How to read the source. `auto` uses a file's suffix, and reads a stream as JSON lines if it starts with
            `{`, else as plain TSV.
        encoding: Encoding of text.

    Raises:
        UserError: As `load_pairs`; also if a text is empty, because every pair that is read gets a prediction.
    """
    config = DataConfig(first=first, second=second, encoding=encoding)
    for row in _iter(source, config, format, raise_error):
        assert not isinstance(row, BadRow)
        yield row


def iter_rows(
    source: str | Path | Iterable[bytes],
    *,
    first: str | None = None,
    second: str | None = None,
    format: Format = "auto",
    encoding: str = "utf-8",
) -> Iterator[Row]:
    """Yields pairs as `iter_pairs` does, but yields a `BadRow` for a row that is not a pair and reads on.

    Bad rows are: an empty text, bytes that are not UTF-8, a NUL, a lone surrogate, a ragged line, a line that is not a
    JSON object. Blank lines at the end of a file are not rows.

    Args:
        source: As in `iter_pairs`.
        first: Column of the first text.
        second: Column of the second text.
        format: As in `iter_pairs`.
        encoding: As in `iter_pairs`.

    Raises:
        UserError: The file cannot be read at all: its first line names no columns, a CSV's quote is never closed, or a
            Parquet file is damaged.
    """
    return _iter(source, DataConfig(first=first, second=second, encoding=encoding), format, keep_error)


def _iter(source: str | Path | Iterable[bytes], config: DataConfig, format: Format, on_error: OnError) -> Iterator[Row]:
    """Yields pairs, and bad rows if `on_error` keeps errors."""
    table = _open_unlabelled(_standard_input() if source == "-" else source, config, format, on_error)
    columns = find_columns(table.header, config, place=table.place, with_label=False)
    for number, values in table.select([columns.first, columns.second]):
        place = f"{table.place}, {table.unit} {number}"
        try:
            pair = _read_pair(values, columns, place)
        except UserError as error:
            on_error(error)
            yield BadRow.of(number, error)
        else:
            yield LocatedPair(*pair, number=number, place=place)


def _standard_input() -> Iterable[bytes]:
    """Opens standard input once more: a thread that waits for `sys.stdin` would keep the interpreter from ending.

    Raises:
        UserError: Standard input is closed.
    """
    if sys.stdin is None:
        raise UserError("standard input is closed", fix="name a file of pairs")
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:  # It is no file, as in a test.
        return sys.stdin.buffer


def _read_pair(values: tuple[Any, ...], columns: Columns, place: str) -> tuple[str, str]:
    """Returns the two texts of a row.

    Raises:
        UserError: A text is empty or not a string, or `keep_error` left an error in the row's place.
    """
    if isinstance(values[0], UserError):
        raise values[0]
    first = clean_text(values[0], place=place, column=columns.first)
    second = clean_text(values[1], place=place, column=columns.second)
    if not first or not second:
        raise UserError(f"{place}: {columns.second if first else columns.first} is empty", fix="fill it in")
    return first, second


def _open_unlabelled(
    source: str | Path | Iterable[bytes], config: DataConfig, format: Format, on_error: OnError
) -> Table:
    """Opens a file or stream of texts, which may lack a header."""
    # 1. The format: named, by suffix, or by a stream's first line.
    lines: Iterator[bytes]
    if isinstance(source, str | Path):
        path = Path(source)
        suffix = split_suffixes(path)[0] if format == "auto" else f".{format}"
        place, short = str(path), path.name
        if suffix not in (".tsv", ".csv", ".jsonl"):
            if path.is_file() or path.is_dir() or not path.exists():
                return open_table(path, replace(config, bad_rows="skip" if on_error is keep_error else "refuse"))
            source = byte_lines(path)  # A pipe such as <(command) has no suffix.
        else:
            lines = byte_lines(path)
    else:
        place = short = "standard input"
    if not isinstance(source, str | Path):
        lines = iter(source)
        top = next(lines, b"")
        guess = "jsonl" if top.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else "tsv"
        suffix = f".{guess if format == 'auto' else format}"
        lines = chain([top] if top else [], lines)
    # 2. The table; the first line may be a header or, in a file without one, a pair.
    text = decode_lines(lines, place, on_error=on_error, encoding=config.encoding)
    if suffix == ".jsonl":
        return jsonl_table(text, place=place, short=short, on_error=on_error)
    return delimited_table(
        text,
        place=place,
        short=short,
        suffix=suffix,
        on_error=on_error,
        first=config.first,
        second=config.second,
        pairs_only=config.first is None and config.second is None,
    )
