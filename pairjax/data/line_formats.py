"""Readers of delimited text and of JSON lines.

Text separated by tabs is plain unless its header is quoted: quote characters are text. Other delimiters follow RFC
4180: quoted fields, doubled quotes, newlines inside quotes. Every format is read as a stream. Messages name the line on
which a row starts.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

from pairjax.base.errors import UserError
from pairjax.data.columns import has_text_columns, join_names
from pairjax.data.dialect import NAMES, Dialect, detect_dialect
from pairjax.data.table import OnError, Record, Table, raise_error

SPACED_QUOTE = re.compile(r'\s+"')
"""A field whose quote is not its first character, so it is text by RFC 4180."""
CSV_FIELD_LIMIT = 2**31 - 1
"""The largest value that fits a C long on every platform; csv's own limit is 128 KiB."""


def _without_trailing_blanks(records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Drops blank lines at the end; a blank line between rows passes and is reported as a ragged row."""
    blank: list[tuple[int, list[str]]] = []
    for record in records:
        if record[1] in ([], [""]):
            blank.append(record)
            continue
        yield from blank
        blank.clear()
        yield record


def plain_records(lines: Iterable[str], delimiter: str = "\t") -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, fields), split at the delimiter; nothing is quoted."""
    records = ((number, line.rstrip("\n").removesuffix("\r").split(delimiter)) for number, line in enumerate(lines, 1))
    return _without_trailing_blanks(records)


def quoted_records(lines: Iterable[str], place: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yields (line on which the row starts, fields), read by RFC 4180.

    Raises:
        UserError: A quote is never closed or is in a place where RFC 4180 allows none.
    """
    csv.field_size_limit(CSV_FIELD_LIMIT)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)

    def read() -> Iterator[tuple[int, list[str]]]:
        while True:
            start = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(
                    f"{place}, line {start}: not RFC 4180 ({error})",
                    fix='quote a text that contains quotes and double them ("say ""hi"""), or name a plain file .tsv',
                ) from None
            yield start, fields

    return _without_trailing_blanks(read())


def _ragged(place: str, number: int, fields: list[str], dialect: Dialect) -> UserError:
    """Returns the error for a row that has not as many fields as the header."""
    header = dialect.header
    if dialect.quoted and any(SPACED_QUOTE.match(field) for field in fields):
        fix = "put no space between a comma and a quote"
    elif len(fields) < len(header):
        fix = "fill in the missing fields, or leave the row out (train: --data.bad-rows skip; predict: --bad-rows mark)"
    elif dialect.quoted:
        fix = f"quote a text that contains {NAMES[dialect.delimiter]} or a newline"
    else:
        fix = "put no tab inside a text"
    blank = " (a blank line)" if fields in ([], [""]) else ""
    return UserError(
        f"{place}, line {number}: fields and header differ",
        got=f"{len(fields)} field{'s' * (len(fields) != 1)}{blank}",
        expected=f"{len(header)} ({join_names(header)})",
        fix=fix,
    )


def delimited_table(
    lines: Iterator[str],
    *,
    place: str,
    short: str,
    suffix: str,
    on_error: OnError = raise_error,
    names: Sequence[str] = (),
    first: str | None = None,
    second: str | None = None,
    pairs_only: bool = False,
) -> Table:
    """Builds the table of text whose first line is a header, unless the columns are known otherwise.

    Args:
        lines: The lines, decoded.
        place: As in `Table`.
        short: As in `Table`.
        suffix: The file's suffix, as for `detect_dialect`.
        on_error: What to do with a row that has not as many fields as the header.
        names: As for `detect_dialect`.
        first: As for `detect_dialect`.
        second: As for `detect_dialect`.
        pairs_only: Whether a first line of two fields that are no column names is a pair, so the file has no header.

    Raises:
        UserError: The file is empty, or its header cannot be read.
    """
    top = next(lines, None)
    if top is None:
        raise UserError(f"{place}: the file is empty", expected="a header line and rows")
    dialect = detect_dialect(top, suffix, names=names, first=first, second=second)
    text = chain([top], lines)
    delimiter = dialect.delimiter
    records = quoted_records(text, place, delimiter) if dialect.quoted else plain_records(text, delimiter)
    head = next(records, None)
    if head is None:
        raise UserError(f"{place}: the file is empty", expected="a header line and rows")
    if pairs_only and dialect.in_file and len(head[1]) == 2 and not has_text_columns(dialect.header, first, second):
        dialect = dialect._replace(header=("first", "second"), in_file=False)
    if dialect.in_file:
        dialect = dialect._replace(header=tuple(name.strip() for name in head[1]))
    else:
        records = chain([head], records)
    header, least = dialect.header, len(dialect.header)

    def select(columns: Sequence[str]) -> Iterator[Record]:
        positions = [header.index(name) for name in columns]
        for number, fields in records:
            if len(fields) < least or (len(fields) > least and not dialect.longer):
                yield number, on_error(_ragged(place, number, fields, dialect))
            else:
                yield number, tuple(fields[i] for i in positions)

    quoting: Literal["plain", "quoted"] = "quoted" if dialect.quoted else "plain"
    return Table(place=place, short=short, header=header, select=select, layout=dialect.describe(), quoting=quoting)


def _json_object(line: str, place: str, number: int) -> dict[str, Any]:
    """Parses one line as a JSON object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}, line {number}: not JSON ({error})", expected="one object a line") from None
    if not isinstance(row, dict):
        raise UserError(
            f"{place}, line {number}: not a JSON object",
            got=type(row).__name__,
            expected='{"sentence1": "...", "sentence2": "...", "label": "..."}',
        )
    return row


def _json_values(line: str, columns: Sequence[str], place: str, number: int) -> tuple[Any, ...]:
    """Returns the values of the named columns of one line."""
    row = _json_object(line, place, number)
    for name in columns:
        if name not in row:
            raise UserError(f"{place}, line {number}: no {name}", got=f"keys {join_names(row)}", fix="add it")
    return tuple(row[name] for name in columns)


def jsonl_table(lines: Iterable[str], *, place: str, short: str, on_error: OnError = raise_error) -> Table:
    """Builds the table of JSON lines; its header is the keys of the first object.

    Args:
        lines: The lines, decoded.
        place: As in `Table`.
        short: As in `Table`.
        on_error: What to do with a line that is not an object or lacks a column.

    Raises:
        UserError: The file is empty, or its first line is not a JSON object.
    """
    records = _without_trailing_blanks((number, [line.strip()]) for number, line in enumerate(lines, 1))
    top = next(records, None)
    if top is None:
        raise UserError(f"{place}: the file is empty", expected="one JSON object a line")
    header = tuple(_json_object(top[1][0], place, top[0]))

    def select(columns: Sequence[str]) -> Iterator[Record]:
        for number, (line,) in chain([top], records):
            try:
                values = _json_values(line, columns, place, number)
            except UserError as error:
                values = on_error(error)
            yield number, values

    return Table(place=place, short=short, header=header, select=select, layout="JSON lines")
