"""Files of pairs, row by row: .tsv, .csv, .jsonl and .parquet.

A .tsv is plain: split at tabs, quote characters are text. A .csv is RFC 4180: quoted fields, doubled quotes, newlines
inside quotes. Both are read as a stream, strictly as UTF-8, and messages name the line on which a row starts.
"""

import csv
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.data.columns import Columns, listed

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet")
CSV_FIELD_LIMIT = 2**31 - 1  # The most that a C long holds everywhere; csv's own limit is 128 KiB.
LONG_TEXT = 1000
"""Characters from which on a text's runs of combining marks are looked at."""
MOST_MARKS = 30

Record = tuple[int, tuple[Any, ...]]


@dataclass(frozen=True)
class BadRow:
    """A row that is no pair, in its place among the others.

    Attributes:
        number: Its line or row, from 1.
        reason: What is wrong with it, in a line.
    """

    number: int
    reason: str


def refuse(error: UserError) -> tuple[Any, ...]:
    """What a reader does with a row that cannot be read, by default."""
    raise error


def mark(error: UserError) -> tuple[Any, ...]:
    """Lets the error stand in the row's place, for `iter_rows` to tell."""
    return (error, error)


Faulty = Callable[[UserError], tuple[Any, ...]]


@dataclass(frozen=True)
class Table:
    """A source of rows whose header is known and whose rows are still to be read.

    Attributes:
        place: What messages call it: a path, or a TFDS set and split.
        short: The same in a word, for `Pairs.where`.
        header: Its columns.
        select: Yields (number, values of the columns named), row by row.
        unit: What the numbers count: lines or rows.
        class_names: Names of integer labels, by column, where the file carries them.
    """

    place: str
    short: str
    header: tuple[str, ...]
    select: Callable[[Sequence[str]], Iterator[Record]]
    unit: str = "line"
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RawSplit:
    """A split with its labels as they were written.

    Attributes:
        label: A string, int, float, bool or None for each row; None where there is no label column.
        number: Line or row of each pair, from 1.
        skipped: Rows left out since a text was empty.
        class_names: Order of the classes where the source fixes it.
    """

    place: str
    short: str
    unit: str
    columns: Columns
    first: list[str]
    second: list[str]
    label: list[Any] | None
    number: list[int]
    skipped: int = 0
    class_names: tuple[str, ...] | None = None

    def at(self, row: int) -> str:
        """The row's place, for a message."""
        return f"{self.place}, {self.unit} {self.number[row]}"


# -------------------------------------------------------------------------------------------------------------- lines


def decoded_lines(stream: Iterable[bytes], place: str, *, faulty: Faulty = refuse) -> Iterator[str]:
    """Lines as text, their ends kept, without a byte-order mark.

    With `mark`, bytes that are no text become lone surrogates (a NUL U+DC00), which no text in UTF-8 has: `clean_text`
    refuses them.

    Raises:
        UserError: A byte that is not UTF-8, or a NUL; line and byte (from 1) are named.
    """
    for number, raw in enumerate(stream, 1):
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        if faulty is mark:
            yield raw.decode("utf-8", "surrogateescape").replace("\0", "\udc00")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{place}, line {number}: not UTF-8 at byte {error.start + 1} of the line",
                got=f"0x{raw[error.start]:02x}",
                fix="save the file as UTF-8 (iconv -f latin1 -t utf-8)",
            ) from None
        if "\0" in text:
            raise UserError(
                f"{place}, line {number}: a NUL byte", expected="text in UTF-8", fix="save the file as UTF-8"
            )
        yield text


def _without_trailing_blanks(records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Drops blank lines at the end; one between rows comes through, to be told as the ragged row that it is."""
    blank: list[tuple[int, list[str]]] = []
    for record in records:
        if record[1] in ([], [""]):
            blank.append(record)
            continue
        yield from blank
        blank.clear()
        yield record


def tsv_records(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, fields), split at tabs; nothing is quoted."""
    records = ((number, line.rstrip("\n").removesuffix("\r").split("\t")) for number, line in enumerate(lines, 1))
    return _without_trailing_blanks(records)


def csv_records(lines: Iterable[str], place: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which the row starts, fields) by RFC 4180.

    Raises:
        UserError: A quote is never closed, or stands where none may.
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
                    fix='quote a text that holds quotes and double them ("say ""hi"""), or name a plain file .tsv',
                ) from None
            yield start, fields

    return _without_trailing_blanks(read())


def _ragged(place: str, number: int, fields: list[str], header: Sequence[str], fix: str) -> UserError:
    blank = " (a blank line)" if fields in ([], [""]) else ""
    return UserError(
        f"{place}, line {number}: fields and header differ",
        got=f"{len(fields)} field{'s' * (len(fields) != 1)}{blank}",
        expected=f"{len(header)} ({listed(header)})",
        fix=fix,
    )


def delimited_table(stream: Iterable[bytes], *, place: str, short: str, suffix: str) -> Table:
    """The table of a .tsv or .csv stream with a header line."""
    lines = decoded_lines(stream, place)
    records = tsv_records(lines) if suffix == ".tsv" else csv_records(lines, place)
    top = next(records, None)
    if top is None:
        raise UserError(f"{place}: the file is empty", expected="a header line and rows")
    return table_of_records(top[1], records, place=place, short=short, suffix=suffix)


def table_of_records(
    names: Sequence[str],
    records: Iterator[tuple[int, list[str]]],
    *,
    place: str,
    short: str,
    suffix: str,
    faulty: Faulty = refuse,
) -> Table:
    """The table of records whose header has been read."""
    header = tuple(name.strip() for name in names)
    fix = "put no tab inside a text" if suffix == ".tsv" else "quote a text that holds a comma or a newline"

    def select(columns: Sequence[str]) -> Iterator[Record]:
        index = [header.index(name) for name in columns]
        for number, fields in records:
            if len(fields) != len(header):
                yield number, faulty(_ragged(place, number, fields, header, fix))
            else:
                yield number, tuple(fields[i] for i in index)

    return Table(place=place, short=short, header=header, select=select)


def _json_object(line: str, place: str, number: int) -> dict[str, Any]:
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
    """The columns' values of one line."""
    row = _json_object(line, place, number)
    for name in columns:
        if name not in row:
            raise UserError(f"{place}, line {number}: no {name}", got=f"keys {listed(row)}", fix="add it")
    return tuple(row[name] for name in columns)


def jsonl_table(stream: Iterable[bytes], *, place: str, short: str, faulty: Faulty = refuse) -> Table:
    """The table of a .jsonl stream; its header is the first object's keys."""
    lines = ((number, [line.strip()]) for number, line in enumerate(decoded_lines(stream, place, faulty=faulty), 1))
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
                values = faulty(error)
            yield number, values

    return Table(place=place, short=short, header=header, select=select)


# ------------------------------------------------------------------------------------------------------------ parquet


def parquet_table(path: Path) -> Table:
    """The table of a .parquet file; the names of integer labels are read where Hugging Face's datasets wrote them.

    Raises:
        UserError: The file is damaged or no Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    def bad(error: Exception) -> UserError:
        return UserError(f"{path}: not a readable Parquet file ({error})", fix="write or copy it anew")

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise bad(error) from None
    schema = file.schema_arrow
    if file.metadata.num_rows == 0:
        raise UserError(f"{path}: the file has no rows")

    def select(columns: Sequence[str]) -> Iterator[Record]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=8192, columns=list(dict.fromkeys(columns))):
                values = [batch.column(name).to_pylist() for name in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise bad(error) from None

    return Table(
        place=str(path),
        short=path.name,
        header=tuple(schema.names),
        select=select,
        unit="row",
        class_names=_class_names(schema.metadata or {}),
    )


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """`ClassLabel` names that Hugging Face's datasets keeps in a Parquet file's metadata, by column."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: tuple(kind["names"]) for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


# -------------------------------------------------------------------------------------------------------------- files


def open_stream(path: Path) -> BufferedReader:
    """The file, for reading.

    Raises:
        UserError: It is missing, a folder, or may not be read.
    """
    if path.is_dir():
        raise UserError(f"{path}: a folder", expected="a file", fix="give a folder with --data.path")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from None


def byte_lines(path: Path) -> Iterator[bytes]:
    """A file's lines; it is closed when they end or are dropped.

    Raises:
        UserError: As `open_stream`, at the first line.
    """
    with open_stream(path) as stream:
        yield from stream


def open_table(path: Path) -> Table:
    """The table of a file, by its suffix.

    Raises:
        UserError: The file cannot be read, is empty, or is of another kind.
    """
    suffix = path.suffix.lower()
    open_stream(path).close()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: not a kind of file that is read", expected=" or ".join(SUFFIXES))
    match suffix:
        case ".parquet":
            return parquet_table(path)
        case ".jsonl":
            return jsonl_table(byte_lines(path), place=str(path), short=path.name)
        case _:
            return delimited_table(byte_lines(path), place=str(path), short=path.name, suffix=suffix)


# --------------------------------------------------------------------------------------------------------------- rows


def clean_text(text: object, *, place: str, column: str) -> str:
    """The text in NFC; '' where it holds nothing but white space.

    Raises:
        UserError: It is no string, or no text in Unicode (a lone surrogate).
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"{place}: {column} is no text", got=f"{type(text).__name__} {text!r:.40}", expected="a string")
    if text.isascii():
        return text if text.strip() else ""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{place}: {column} is no Unicode text", got=_not_text(text[error.start], error.start)
        ) from None
    return unicodedata.normalize("NFC", _stream_safe(text)) if text.strip() else ""


def _stream_safe(text: str) -> str:
    """A joiner (U+034F) after each 30 combining marks in a row, as the Stream-Safe Text Format (UAX #15, 13) has it.

    The time that `unicodedata` takes grows with the square of such a run: a megabyte of marks would take minutes.
    """
    if len(text) < LONG_TEXT:
        return text
    parts, start, run = [], 0, 0
    for at, sign in enumerate(text):
        run = run + 1 if unicodedata.combining(sign) else 0
        if run > MOST_MARKS:
            parts += [text[start:at], "\u034f"]
            start, run = at, 1
    return "".join([*parts, text[start:]])


def _not_text(sign: str, at: int) -> str:
    """A character that UTF-8 cannot write; `decoded_lines` gives U+DCxx for a byte that is no text."""
    code = ord(sign)
    byte = f" (or a byte 0x{code - 0xDC00:02x} that is no text in UTF-8)" if 0xDC00 <= code <= 0xDCFF else ""
    return f"a lone surrogate{byte} at {at}"


def read_rows(table: Table, columns: Columns, *, empty: str) -> RawSplit:
    """All rows of a table, texts in NFC.

    Args:
        table: From `open_table`.
        columns: From `find_columns`.
        empty: `error` or `skip`: what an empty text does.

    Raises:
        UserError: A ragged line, a text that is empty or none, or no row at all.
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
        why = "every row has an empty text" if skipped else "a header and no rows"
        raise UserError(f"{table.place}: {why}", expected="at least one pair")
    return RawSplit(**{**vars(raw), "skipped": skipped})
