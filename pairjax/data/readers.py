"""Opens a file of pairs by its suffix or its content, and reads its rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.clean import clean_text
from pairjax.data.columns import Columns, join_names
from pairjax.data.compression import MAGIC, open_raw, open_stream, split_suffixes
from pairjax.data.decode import decode_lines
from pairjax.data.json_table import json_table
from pairjax.data.line_formats import delimited_table, jsonl_table
from pairjax.data.parquet import arrow_table, parquet_table
from pairjax.data.split_files import FORMATS, SAME_FORMAT
from pairjax.data.table import BadRow, OnError, RawSplit, Table, keep_error, raise_error
from pairjax.data.xml_table import xml_table

BY_FIRST_SIGN = {"{": ".jsonl", "[": ".json", "<": ".xml"}
"""Formats of a .txt by its first sign; any other is delimited text."""
LISTED_ROWS = 3
"""Most rows that a note lists for each reason."""


def require_regular(path: Path) -> None:
    """Raises UserError for a pipe or a device, which cannot be read twice: first its digest, then its rows."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: a pipe or a device", expected="a file", fix="write it to a file first")


def byte_lines(path: Path) -> Iterator[bytes]:
    """Yields a file's decompressed lines and closes the file at the end or when the iterator is dropped.

    Raises:
        UserError: As `open_stream`, when the first line is read.
    """
    with open_stream(path) as stream:
        yield from stream


def open_table(path: Path, config: DataConfig | None = None) -> Table:
    """Opens the table of a file, whose rows can be read more than once.

    Args:
        path: The file. Its suffix says the format and the compression; a .txt is read by its content.
        config: Format, encoding, names of columns, and what to do with bad rows.

    Raises:
        UserError: The file cannot be read, is empty, or has another suffix.
    """
    config = DataConfig() if config is None else config
    require_regular(path)
    open_raw(path).close()
    suffix, compression = split_suffixes(path)
    if suffix not in FORMATS and config.format == "auto":
        raise UserError(
            f"{path}: this kind of file cannot be read",
            expected=f"{' or '.join(FORMATS)}, and {', '.join(MAGIC)} after it",
            fix="give --data.format if it has another name",
        )
    form = SAME_FORMAT.get(suffix, suffix) if config.format == "auto" else f".{config.format}"
    if form in (".parquet", ".arrow") and compression:
        raise UserError(f"{path}: {form} is compressed by itself", fix="decompress it")
    tables = [_open(path, form, config)]

    def select(columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        table = tables.pop() if tables else _open(path, form, config)
        yield from table.select(columns)

    return replace(tables[0], select=select)


def _open(path: Path, form: str, config: DataConfig) -> Table:
    """Opens the table of a file; its rows can be read once."""
    on_error: OnError = keep_error if config.bad_rows == "skip" else raise_error
    if form == ".parquet":
        return parquet_table(path)
    if form == ".arrow":
        return arrow_table(path)
    if form == ".xml":
        return xml_table(path, on_error=on_error)
    place, short = str(path), path.name
    keep = on_error if config.bad_rows == "skip" else raise_error
    lines = decode_lines(byte_lines(path), place, on_error=keep, encoding=config.encoding)
    if form == ".txt":
        blank = []
        for line in lines:
            blank.append(line)
            if line.strip():
                break
        form = BY_FIRST_SIGN.get(blank[-1].lstrip()[:1], ".txt") if blank else ".txt"
        if form == ".xml":
            return xml_table(path, on_error=on_error)
        lines = chain(blank, lines)
    match form:
        case ".jsonl":
            return jsonl_table(lines, place=place, short=short, on_error=on_error)
        case ".json":
            return json_table(lines, place=place, short=short, on_error=on_error)
    return delimited_table(
        lines,
        place=place,
        short=short,
        suffix=form,
        on_error=on_error,
        names=config.columns,
        first=config.first,
        second=config.second,
    )


def sample_values(table: Table, column: str, *, rows: int = 1000, most: int = 4) -> str:
    """Returns a few distinct values of a column, for a message; "" if they cannot be read."""
    values: dict[str, None] = {}
    try:
        for _, (value, *_) in islice(table.select([column]), rows):
            values.setdefault(str(value)[:30])
    except UserError:
        return ""
    return ", ".join(list(values)[:most]) + (", ..." if len(values) > most else "")


def read_rows(table: Table, columns: Columns, *, skip: bool, extra: Sequence[str] = ()) -> RawSplit:
    """Reads all rows of a table, with texts in NFC.

    Args:
        table: From `open_table` or `tfds.split_table`.
        columns: From `find_columns`.
        skip: Whether a row that is not a pair is left out; if not, it is an error.
        extra: Columns to read besides those of `columns`, for `RawSplit.extra`.

    Raises:
        UserError: A row cannot be read, a text is empty or not a string, or there is no row at all.
    """
    names = [name for name in (columns.first, columns.second, columns.label) if name is not None]
    extra = (*columns.further, *extra)
    first, second, label, number = [], [], [], []
    further: list[list[Any]] = [[] for _ in extra]
    skipped: list[BadRow] = []
    start, has_label = len(names), columns.label is not None
    for row, values in table.select([*names, *extra]):
        try:
            left, right = _read_texts(values, table, columns, row)
        except UserError as error:
            if not skip:
                raise
            reason = str(error).removeprefix(f"{table.place}, {table.unit} {row}").lstrip(": ")
            skipped.append(BadRow(row, reason.split("; ")[0].split(" (")[0], f"{table.short}:{row}"))
            continue
        first.append(left)
        second.append(right)
        number.append(row)
        if has_label:
            label.append(values[2])
        for column, value in zip(further, values[start:], strict=True):
            column.append(value)
    if not first:
        reason = f"every row is invalid ({skipped[0].reason})" if skipped else "a header and no rows"
        raise UserError(f"{table.place}: {reason}", expected="at least one pair")
    return RawSplit(
        place=table.place,
        short=table.short,
        unit=table.unit,
        columns=columns,
        first=first,
        second=second,
        label=label if has_label else None,
        number=number,
        skipped=tuple(skipped),
        class_names=table.class_names.get(columns.label or ""),
        extra=dict(zip(extra, further, strict=True)),
    )


def _read_texts(values: tuple[Any, ...], table: Table, columns: Columns, row: int) -> tuple[str, str]:
    """Returns the two texts of a row.

    Raises:
        UserError: A text is empty or not a string, or `keep_error` left an error in the row's place.
    """
    left, right = values[0], values[1]
    if type(left) is type(right) is str and left.isascii() and right.isascii() and left.strip() and right.strip():
        return left, right
    if isinstance(left, UserError):
        raise left
    place = f"{table.place}, {table.unit} {row}"
    first = clean_text(left, place=place, column=columns.first)
    second = clean_text(right, place=place, column=columns.second)
    if not first or not second:
        raise UserError(
            f"{place}: {columns.second if first else columns.first} is empty",
            fix="fill it in, or give --data.bad-rows skip",
        )
    return first, second


def skip_note(split: str, rows: Sequence[BadRow]) -> str:
    """Returns a note that counts the rows of a split that were left out, and lists a few for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(row.reason, []).append(row.short)
    parts = [
        f"{len(places):,} because {reason} ({join_names(places[:LISTED_ROWS])}{', ...' * (len(places) > LISTED_ROWS)})"
        for reason, places in reasons.items()
    ]
    count = f"{len(rows):,} row{'s' * (len(rows) != 1)}"
    return f"{split}: skipped {count} (--data.bad-rows skip): {'; '.join(parts)}"
