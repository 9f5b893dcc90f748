"""The table of a source of pairs: its header is known and its rows are read on demand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairjax.base.errors import UserError
from pairjax.data.columns import Columns

REASON_LENGTH = 500
"""Most characters of a bad row's reason."""
Record = tuple[int, tuple[Any, ...]]
"""A row's number, from 1, and its values."""


@dataclass(frozen=True)
class BadRow:
    """A row that is not a pair; it keeps its place among the other rows.

    Attributes:
        number: Its line or row number, from 1.
        reason: What is wrong with it, in one line.
    """

    number: int
    reason: str

    @staticmethod
    def of(number: int, error: UserError) -> "BadRow":
        """Makes a bad row of an error; a key in its message may be invalid Unicode, or a megabyte long."""
        return BadRow(number, str(error).encode("utf-8", "backslashreplace").decode()[:REASON_LENGTH])


class LocatedPair(tuple[str, str]):
    """The two texts of a row, which also knows its place; it equals the tuple of its texts.

    Attributes:
        number: Its line or row number, from 1.
        place: The same with the name of its source, for messages ("pairs.tsv, line 4").
    """

    number: int
    place: str

    def __new__(cls, first: str, second: str, *, number: int, place: str) -> "LocatedPair":
        pair = super().__new__(cls, (first, second))
        pair.number, pair.place = number, place
        return pair


Row = LocatedPair | BadRow
"""A row that was read as texts, or why it could not be."""


def raise_error(error: UserError) -> tuple[Any, ...]:
    """Raises the error: what a reader does by default if a row cannot be read."""
    raise error


def keep_error(error: UserError) -> tuple[Any, ...]:
    """Returns the error in place of the row's two values, and `iter_rows` reports it."""
    return (error, error)


OnError = Callable[[UserError], tuple[Any, ...]]
"""`raise_error` or `keep_error`."""


@dataclass(frozen=True)
class Table:
    """A source of rows whose header is known and whose rows have not been read yet.

    Attributes:
        place: Its name in messages: a path, or a TFDS set and split.
        short: A shorter name, used in `Pairs.where`.
        header: Names of its columns.
        select: Yields (number, values of the named columns) for each row.
        unit: What the numbers count: "line" or "row".
        class_names: Names of integer labels by column, if the file has them.
    """

    place: str
    short: str
    header: tuple[str, ...]
    select: Callable[[Sequence[str]], Iterator[Record]]
    unit: str = "line"
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RawSplit:
    """A split whose labels are as the source writes them.

    Attributes:
        place: As in `Table`.
        short: As in `Table`.
        unit: As in `Table`.
        columns: The columns of the pair and its label.
        first: Texts of side A.
        second: Texts of side B.
        label: A string, int, float, bool or None for each pair; None if there is no label column.
        number: Line or row number of each pair, from 1.
        skipped: Number of rows left out because a text was empty.
        class_names: The classes in order, if the source fixes their order.
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

    def locate(self, index: int) -> str:
        """Returns the place of pair `index`, for a message."""
        return f"{self.place}, {self.unit} {self.number[index]}"
