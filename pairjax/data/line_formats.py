"""Readers of .tsv, .csv and .jsonl.

A .tsv is plain: lines are split at tabs, and quote characters are text. A .csv follows RFC 4180: quoted fields, doubled
quotes, newlines inside quotes. Every format is read as a stream and strictly as UTF-8. Messages name the line on which
a row starts.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from pairjax.base.errors import UserError
from pairjax.data.columns import join_names
from pairjax.data.table import OnError, Record, Table, keep_error, raise_error

SPACED_QUOTE = re.compile(r'\s+"')
"""A field whose quote is not its first character, so it is text by RFC 4180."""
UTF16_MARKS = {b"\xff\xfe": "utf-16le", b"\xfe\xff": "utf-16be"}
"""What a UTF-16 file begins with, and the name that iconv has for its encoding."""

CSV_FIELD_LIMIT = 2**31 - 1
"""The largest value that fits a C long on every platform; csv's own limit is 128 KiB."""


def decode_lines(stream: Iterable[bytes], place: str, *, on_error: OnError = raise_error) -> Iterator[str]:
    """Yields lines as text with their line ends and without a byte-order mark.

    With `keep_error`, bytes that are not UTF-8 become lone surrogates and a NUL becomes U+DC00. No valid UTF-8 text
    contains these, so `clean_text` rejects them.

    Args:
        stream: The lines.
        place: Name of the file, for messages.
        on_error: `raise_error` or `keep_error`.

    Raises:
        UserError: A byte is not UTF-8, or is a NUL. The message names the line and the byte, from 1. Or the whole file
            is UTF-16, or its lines end with carriage returns alone; this is an error with `keep_error` too.
    """
    for number, raw in enumerate(stream, 1):
        if number == 1:
            _check_encoding(raw, place)
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        if on_error is keep_error:
            yield raw.decode("utf-8", "surrogateescape").replace("\0", "\udc00")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{place}, line {number}: not UTF-8 at byte {error.start + 1} of the line",
                got=f"0x{raw[error.start]:02x}",
                fix="save the file as UTF-8 (if it is Latin-1: iconv -f latin1 -t utf-8)",
            ) from None
        if "\0" in text:
            raise UserError(
                f"{place}, line {number}: a NUL byte", expected="text in UTF-8", fix="save the file as UTF-8"
            )
        yield text


def _check_encoding(raw: bytes, place: str) -> None:
    """Checks that a file's first line is not of UTF-16 or of a file with the line ends of old Macs."""
    encoding = UTF16_MARKS.get(raw[:2])
    if encoding is None and b"\0" in raw:
        # Without a mark, the zero byte of each ASCII letter shows the order.
        encoding = "utf-16le" if raw[1:2] == b"\0" else "utf-16be" if raw[:1] == b"\0" else None
    if encoding is not None:
        raise UserError(
            f"{place}: the file is UTF-16",
            expected="UTF-8",
            fix=f"save it as UTF-8 (iconv -f {encoding} -t utf-8; in Excel: CSV UTF-8)",
        )
    if b"\r" in raw.rstrip(b"\r\n"):
        raise UserError(
            f"{place}: the lines end with carriage returns, as on old Macs",
            expected="line feeds",
            fix="convert them (tr '\\r' '\\n' < OLD > NEW)",
        )


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


def tsv_records(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, fields), split at tabs; nothing is quoted."""
    records = ((number, line.rstrip("\n").removesuffix("\r").split("\t")) for number, line in enumerate(lines, 1))
    return _without_trailing_blanks(records)


def csv_records(lines: Iterable[str], place: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line on which the row starts, fields), read by RFC 4180.

    Raises:
        UserError: A quote is never closed or is in a place where RFC 4180 allows none.
    """
    csv.field_size_limit(CSV_FIELD_LIMIT)
    reader = csv.reader(lines, strict=True)

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


def _ragged(place: str, number: int, fields: list[str], header: Sequence[str], suffix: str) -> UserError:
    """Returns the error for a row that has not as many fields as the header."""
    if suffix == ".csv" and any(SPACED_QUOTE.match(field) for field in fields):
        fix = "put no space between a comma and a quote"
    elif len(fields) < len(header):
        fix = "fill in the missing fields, or leave the row out (train: --data.empty skip; predict: --bad-rows mark)"
    else:
        fix = "put no tab inside a text" if suffix == ".tsv" else "quote a text that contains a comma or a newline"
    blank = " (a blank line)" if fields in ([], [""]) else ""
    return UserError(
        f"{place}, line {number}: fields and header differ",
        got=f"{len(fields)} field{'s' * (len(fields) != 1)}{blank}",
        expected=f"{len(header)} ({join_names(header)})",
        fix=fix,
    )


def delimited_table(
    stream: Iterable[bytes], *, place: str, short: str, suffix: str, on_error: OnError = raise_error
) -> Table:
    """Builds the table of a .tsv or .csv stream that starts with a header line.

    Args:
        stream: The lines.
        place: As in `Table`.
        short: As in `Table`.
        suffix: `.tsv` or `.csv`.
        on_error: As for `records_table`.

    Raises:
        UserError: The file is empty, or its header cannot be read.
    """
    lines = decode_lines(stream, place)
    records = tsv_records(lines) if suffix == ".tsv" else csv_records(lines, place)
    top = next(records, None)
    if top is None:
        raise UserError(f"{place}: the file is empty", expected="a header line and rows")
    return records_table(top[1], records, place=place, short=short, suffix=suffix, on_error=on_error)


def records_table(
    names: Sequence[str],
    records: Iterator[tuple[int, list[str]]],
    *,
    place: str,
    short: str,
    suffix: str,
    on_error: OnError = raise_error,
) -> Table:
    """Builds the table of records whose header has been read.

    Args:
        names: The header.
        records: Yields (line number, fields) for each row.
        place: As in `Table`.
        short: As in `Table`.
        suffix: `.tsv` or `.csv`.
        on_error: What to do with a row that has not as many fields as the header.
    """
    header = tuple(name.strip() for name in names)

    def select(columns: Sequence[str]) -> Iterator[Record]:
        positions = [header.index(name) for name in columns]
        for number, fields in records:
            if len(fields) != len(header):
                yield number, on_error(_ragged(place, number, fields, header, suffix))
            else:
                yield number, tuple(fields[i] for i in positions)

    return Table(place=place, short=short, header=header, select=select)


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


def jsonl_table(stream: Iterable[bytes], *, place: str, short: str, on_error: OnError = raise_error) -> Table:
    """Builds the table of a .jsonl stream; its header is the keys of the first object.

    Args:
        stream: The lines.
        place: As in `Table`.
        short: As in `Table`.
        on_error: What to do with a line that is not an object or lacks a column.

    Raises:
        UserError: The file is empty, or its first line is not a JSON object.
    """
    lines = ((number, [line.strip()]) for number, line in enumerate(decode_lines(stream, place, on_error=on_error), 1))
    records = _without_trailing_blanks(lines)
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

    return Table(place=place, short=short, header=header, select=select)
