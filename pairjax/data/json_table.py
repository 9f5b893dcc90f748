"""Reader of .json: an array of objects, an object of columns, or one object a line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from pairjax.base.errors import UserError
from pairjax.data.columns import join_names
from pairjax.data.line_formats import jsonl_table
from pairjax.data.table import OnError, Record, Table, raise_error

EXAMPLE = '[{"sentence1": "...", "sentence2": "...", "label": "..."}, ...]'


def json_table(lines: Iterator[str], *, place: str, short: str, on_error: OnError = raise_error) -> Table:
    """Builds the table of a .json file, whose content decides how it is read.

    - An array of objects: one object is a row.
    - An object of columns, as pandas writes it: `{"label": ["yes", ...]}` or `{"label": {"0": "yes", ...}}`.
    - Several objects, one a line: JSON lines, which are read as a stream.

    Args:
        lines: The lines, decoded.
        place: As in `Table`.
        short: As in `Table`.
        on_error: What to do with a row that is not an object or lacks a column.

    Raises:
        UserError: The content is none of these, or is not JSON. The message names the line.
    """
    top = next((line for line in lines if line.strip()), None)
    if top is None:
        raise UserError(f"{place}: the file is empty", expected=EXAMPLE)
    if top.lstrip().startswith("{") and _is_row(top):
        return jsonl_table(chain([top], lines), place=place, short=short, on_error=on_error)
    try:
        content = json.loads("".join(chain([top], lines)))
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise UserError(f"{place}{line}: not JSON ({reason})", expected=f"{EXAMPLE}, or one object a line") from None
    if isinstance(content, list):
        return rows_table(content, place=place, short=short, on_error=on_error, layout="a JSON array")
    if isinstance(content, dict) and content and all(isinstance(value, list | dict) for value in content.values()):
        columns = {name: list(value.values() if isinstance(value, dict) else value) for name, value in content.items()}
        return columns_table(columns, place=place, short=short, layout="JSON columns")
    if isinstance(content, dict) and content:
        return rows_table([content], place=place, short=short, on_error=on_error, layout="one JSON object")
    raise UserError(f"{place}: not a table", got=f"{type(content).__name__} {content!r:.40}", expected=EXAMPLE)


def _is_row(line: str) -> bool:
    """Returns whether a line is an object of its own whose values are not all columns."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and not (row and all(isinstance(value, list | dict) for value in row.values()))


def rows_table(rows: Sequence[Any], *, place: str, short: str, layout: str, on_error: OnError = raise_error) -> Table:
    """Builds the table of a list of dicts; its header is the keys of the first one.

    Args:
        rows: The rows.
        place: As in `Table`.
        short: As in `Table`.
        layout: As in `Table`.
        on_error: What to do with a row that is not a dict or lacks a column.

    Raises:
        UserError: There is no row, or the first one is not a dict.
    """
    if not rows:
        raise UserError(f"{place}: no rows", expected=EXAMPLE)
    if not isinstance(rows[0], Mapping):
        got = f"{type(rows[0]).__name__} {rows[0]!r:.40}"
        raise UserError(f"{place}, row 1: not an object", got=got, expected=EXAMPLE)

    def values(row: Any, columns: Sequence[str], number: int) -> tuple[Any, ...]:
        if not isinstance(row, Mapping):
            return on_error(UserError(f"{place}, row {number}: not an object", got=type(row).__name__))
        try:
            return tuple(row[name] for name in columns)
        except KeyError as error:
            got = f"keys {join_names(map(str, row))}"
            return on_error(UserError(f"{place}, row {number}: no {error.args[0]}", got=got, fix="add it"))

    def select(columns: Sequence[str]) -> Iterator[Record]:
        for number, row in enumerate(rows, 1):
            yield number, values(row, columns, number)

    header = tuple(name for name in rows[0] if isinstance(name, str))
    return Table(place=place, short=short, header=header, select=select, unit="row", layout=layout)


def columns_table(
    columns: Mapping[str, Sequence[Any]],
    *,
    place: str,
    short: str,
    layout: str,
    class_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """Builds the table of columns of equal length.

    Args:
        columns: Values by name of the column.
        place: As in `Table`.
        short: As in `Table`.
        layout: As in `Table`.
        class_names: As in `Table`.

    Raises:
        UserError: The columns differ in length, or are empty.
    """
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{name} of {size:,}" for name, size in sizes.items())
        raise UserError(f"{place}: the columns differ in length", got=got, expected="one value of each column a row")
    if not all(sizes.values()):
        raise UserError(f"{place}: no rows", expected="at least one pair")

    def select(names: Sequence[str]) -> Iterator[Record]:
        yield from enumerate(zip(*(columns[name] for name in names), strict=True), 1)

    return Table(
        place=place,
        short=short,
        header=tuple(columns),
        select=select,
        unit="row",
        class_names=class_names or {},
        layout=layout,
    )
