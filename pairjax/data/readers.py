"""Opens a file of pairs by its suffix (.tsv, .csv, .jsonl or .parquet) and reads its rows."""

import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.data.clean import clean_text
from pairjax.data.columns import Columns
from pairjax.data.line_formats import delimited_table, jsonl_table
from pairjax.data.parquet import parquet_table
from pairjax.data.table import RawSplit, Table, keep_error, raise_error

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet")


def open_stream(path: Path) -> BufferedReader:
    """Opens the file for reading.

    Raises:
        UserError: The file is missing, is a folder, or may not be read.
    """
    if path.is_dir():
        raise UserError(f"{path}: a folder", expected="a file", fix="give a folder with --data.path")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from None


def require_regular(path: Path) -> None:
    """Raises UserError for a pipe or a device, which cannot be read twice: first its digest, then its rows."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: a pipe or a device", expected="a file", fix="write it to a file first")


def byte_lines(path: Path) -> Iterator[bytes]:
    """Yields a file's lines and closes the file at the end or when the iterator is dropped.

    Raises:
        UserError: As `open_stream`, when the first line is read.
    """
    with open_stream(path) as stream:
        yield from stream


def open_table(path: Path, *, empty: str = "error") -> Table:
    """Opens the table of a file, whose suffix says the format.

    Args:
        path: The file.
        empty: As for `read_rows`, which then skips rows with a wrong number of fields too.

    Raises:
        UserError: The file cannot be read, is empty, or has another suffix.
    """
    suffix = path.suffix.lower()
    require_regular(path)
    open_stream(path).close()
    if suffix not in SUFFIXES:
        fix = "name a file with one JSON object a line .jsonl" if suffix == ".json" else None
        raise UserError(f"{path}: this kind of file cannot be read", expected=" or ".join(SUFFIXES), fix=fix)
    on_error = keep_error if empty == "skip" else raise_error
    match suffix:
        case ".parquet":
            return parquet_table(path)
        case ".jsonl":
            return jsonl_table(byte_lines(path), place=str(path), short=path.name)
        case _:
            return delimited_table(byte_lines(path), place=str(path), short=path.name, suffix=suffix, on_error=on_error)


def read_rows(table: Table, columns: Columns, *, empty: str) -> RawSplit:
    """Reads all rows of a table, with texts in NFC.

    Args:
        table: From `open_table` or `tfds.split_table`.
        columns: From `find_columns`.
        empty: What to do with a row that has an empty text: `error` raises, `skip` leaves the row out.

    Raises:
        UserError: A line is ragged, a text is empty or not a string, or there is no row at all.
    """
    names = [name for name in columns if name is not None]
    raw = RawSplit(
        place=table.place,
        short=table.short,
        unit=table.unit,
        columns=columns,
        first=[],
        second=[],
        label=None if columns.label is None else [],
        number=[],
        class_names=table.class_names.get(columns.label or ""),
    )
    skipped = 0
    for number, values in table.select(names):
        if isinstance(values[0], UserError):
            # `open_table` keeps ragged rows only if they are to be skipped.
            skipped += 1
            continue
        place = f"{table.place}, {table.unit} {number}"
        first = clean_text(values[0], place=place, column=columns.first)
        second = clean_text(values[1], place=place, column=columns.second)
        if not first or not second:
            if empty == "error":
                raise UserError(
                    f"{place}: {columns.second if first else columns.first} is empty",
                    fix="fill it in, or give --data.empty skip",
                )
            skipped += 1
            continue
        raw.first.append(first)
        raw.second.append(second)
        raw.number.append(number)
        if raw.label is not None:
            raw.label.append(values[2])
    if not raw.first:
        reason = "every row has an empty text or a wrong number of fields" if skipped else "a header and no rows"
        raise UserError(f"{table.place}: {reason}", expected="at least one pair")
    return RawSplit(**{**vars(raw), "skipped": skipped})
