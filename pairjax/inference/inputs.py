"""Read the texts and pairs that Python code passes: tuples, dicts, NumPy arrays, data frames, generators.

Each text is normalised exactly as a text of a file is, and what is neither a text nor a pair is refused by its number.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pairjax.base.errors import UserError
from pairjax.data.clean import clean_text
from pairjax.data.columns import find_text_columns
from pairjax.data.python_data import column_names
from pairjax.data.table import BadRow, LocatedPair, Row

PAIRS = 'pairs such as [("A man is asleep.", "Nobody is awake.")], or dicts or a data frame with the usual column names'
TEXTS = 'texts such as ["A man is asleep.", "Nobody is awake."]'


def read_count(value: object, name: str) -> int:
    """Returns an argument that must be a positive integer.

    Raises:
        UserError: It is not one.
    """
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise UserError(f"{name} is not a positive integer", got=repr(value)[:40], expected="at least 1")
    return count


def read_texts(texts: object, *, name: str = "text") -> list[str]:
    """Returns a list of normalised texts; one string is one text.

    Args:
        texts: A string, or strings in a list, tuple, NumPy array, series or generator.
        name: What an element is, for messages ("text", "first text").

    Raises:
        UserError: An element is not a string, is empty or is not Unicode text, or `texts` has no order or columns.
    """
    if isinstance(texts, str):
        texts = (texts,)
    if isinstance(texts, bytes | Mapping) or column_names(texts) is not None:
        raise _refusal("these are not texts", texts, TEXTS)
    return [_text(text, f"{name} {number}") for number, text in enumerate(_iterate(texts, TEXTS), 1)]


def iter_rows_of(pairs: object, *, keep_errors: bool = False) -> Iterator[Row]:
    """Yields the pairs of `pairs`, normalised and each with its place, and its bad rows as they are.

    Args:
        pairs: Pairs of strings: tuples, lists, rows of a NumPy array, or dicts with two of the usual column names; one
            tuple of two strings or one dict; a data frame or a dict of columns. Rows of `pairjax.data.stream` keep
            their places.
        keep_errors: Whether a row that is not a pair becomes a `BadRow`; if not, it is an error.

    Raises:
        UserError: `pairs` is nothing of that kind; or, while the rows are drawn, one of them is not a pair.
    """
    return _numbered(_rows(pairs), keep_errors=keep_errors)


def read_pairs(pairs: object) -> list[tuple[str, str]]:
    """Returns the pairs as `iter_rows_of` reads them, in a list.

    Raises:
        UserError: As `iter_rows_of`.
    """
    return [row for row in iter_rows_of(pairs) if not isinstance(row, BadRow)]


def _numbered(rows: Iterable[object], *, keep_errors: bool) -> Iterator[Row]:
    """Reads rows one by one."""
    columns: dict[tuple[Any, ...], tuple[Any, Any]] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, BadRow):
            yield row
            continue
        if isinstance(row, LocatedPair):
            number, place = row.number, row.place
        else:
            place = f"pair {number}"
        try:
            first, second = _two(row, place, columns)
            pair = LocatedPair(
                _text(first, place, "its first text"),
                _text(second, place, "its second text"),
                number=number,
                place=place,
            )
        except UserError as error:
            if not keep_errors:
                raise
            yield BadRow.of(number, error)
        else:
            yield pair


def _text(text: object, place: str, column: str = "the text") -> str:
    """Returns a normalised text, or raises UserError if it is empty or not a text."""
    clean = clean_text(text, place=place, column=column)
    if not clean:
        raise UserError(f"{place}: {column} is empty", fix="leave it out")
    return clean


def _two(row: object, place: str, columns: dict[tuple[Any, ...], tuple[Any, Any]]) -> tuple[object, object]:
    """Returns the two values of a row; `columns` holds the text columns by the names of a dict's keys."""
    if isinstance(row, Mapping):
        keys = tuple(row)
        if keys not in columns:
            columns[keys] = _find(keys, place)
        first, second = columns[keys]
        return row[first], row[second]
    if isinstance(row, str | bytes | AbstractSet) or not isinstance(row, Iterable):
        raise UserError(f"{place} is not two texts", got=f"{type(row).__name__} {row!r:.60}", expected=PAIRS)
    values = list(row)
    if len(values) != 2:
        raise UserError(f"{place} is not two texts", got=f"{len(values)} values", expected=PAIRS)
    return values[0], values[1]


def _find(names: Sequence[Any], place: str) -> tuple[Any, Any]:
    """Returns the two text columns among names: two of the usual names, or the columns 0 and 1 of an unnamed frame."""
    if len(names) == 2 and all(isinstance(name, int) for name in names):
        return names[0], names[1]
    fix = "pass tuples (first, second), or name the columns sentence1 and sentence2"
    texts = find_text_columns([str(name) for name in names], place=place, fix=fix)
    if list(names).count(texts[0]) != 1 or list(names).count(texts[1]) != 1:
        raise UserError(f"{place}: two columns have one name", got=", ".join(map(str, names)), fix=fix)
    return texts


def _rows(pairs: object) -> Iterable[object]:
    """Returns the rows of whatever holds pairs."""
    names = tuple(pairs) if isinstance(pairs, Mapping) else column_names(pairs)
    if names is not None:
        first, second = (pairs[name] for name in _find(names, "pairs"))  # type: ignore[index]
        if isinstance(first, str) and isinstance(second, str):
            return [(first, second)]
        sides = [list(_iterate(_plain(side), PAIRS)) for side in (first, second)]
        if len(sides[0]) != len(sides[1]):
            raise UserError("the two columns of pairs differ in length", got=f"{len(sides[0])} and {len(sides[1])}")
        return zip(*sides, strict=True)
    if isinstance(pairs, tuple) and len(pairs) == 2 and all(isinstance(text, str) for text in pairs):
        return [pairs]
    return _iterate(pairs, PAIRS)


def _iterate(values: object, expected: str) -> Iterable[object]:
    """Returns `values` as an iterable, or raises UserError if it is one string, has no order or cannot be iterated."""
    if isinstance(values, str | bytes | set | frozenset):
        raise _refusal("one value, or values without an order", values, expected)
    try:
        return iter(values)  # type: ignore[call-overload]
    except TypeError:
        raise _refusal("this cannot be iterated", values, expected) from None


def _plain(column: Any) -> object:
    """Returns a column whose elements are Python values; those of Arrow are not."""
    return column.to_pylist() if hasattr(column, "to_pylist") else column


def _refusal(what: str, value: object, expected: str) -> UserError:
    """Returns the error for a value that is nothing like texts or pairs."""
    return UserError(what, got=f"{type(value).__name__} {' '.join(repr(value).split()):.60}", expected=expected)
