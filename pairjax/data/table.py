"""The table of a source of pairs: its header is known and its rows are read on demand."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

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
        short: Its place in short ("train.tsv:17"); empty for a row of `pairjax predict`.
    """

    number: int
    reason: str
    short: str = ""

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
    """Returns the error in place of the row's values; `iter_rows` reports it, and `read_rows` leaves the row out."""
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
        layout: How the rows are written, for `pairjax data inspect` ("separated by tabs").
        quoting: How quotes are read: `plain` (quotes are text), `quoted` (RFC 4180), or None if that is no question.
    """

    place: str
    short: str
    header: tuple[str, ...]
    select: Callable[[Sequence[str]], Iterator[Record]]
    unit: str = "line"
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layout: str = ""
    quoting: Literal["plain", "quoted"] | None = None


@dataclass(frozen=True)
class RawSplit:
    """A split whose labels are as the source writes them.

    Attributes:
        place: As in `Table`; that of the first file if the split has several.
        short: As in `Table`.
        unit: As in `Table`.
        columns: The columns of the pair and its label.
        first: Texts of side A.
        second: Texts of side B.
        label: A string, int, float, bool or None for each pair; None if there is no label column.
        number: Line or row number of each pair in its file, from 1.
        skipped: Rows that were left out because they are not labelled pairs.
        class_names: The classes in order, if the source fixes their order.
        files: (place, short) of each of the split's files, if there are several.
        file: Index in `files` of each pair's file; empty if the split has one file.
        extra: Values of further columns, by name.
    """

    place: str
    short: str
    unit: str
    columns: Columns
    first: list[str]
    second: list[str]
    label: list[Any] | None
    number: list[int]
    skipped: tuple[BadRow, ...] = ()
    class_names: tuple[str, ...] | None = None
    files: tuple[tuple[str, str], ...] = ()
    file: list[int] = field(default_factory=list)
    extra: Mapping[str, list[Any]] = field(default_factory=dict)

    def locate(self, index: int) -> str:
        """Returns the place of pair `index`, for a message."""
        place = self.files[self.file[index]][0] if self.file else self.place
        return f"{place}, {self.unit} {self.number[index]}"

    def where(self) -> tuple[str, ...]:
        """Returns the short place of each pair ("train.tsv:17")."""
        if not self.file:
            return tuple(f"{self.short}:{number}" for number in self.number)
        shorts = [short for _, short in self.files]
        return tuple(f"{shorts[file]}:{number}" for file, number in zip(self.file, self.number, strict=True))

    def take(self, index: Sequence[int]) -> "RawSplit":
        """Returns the pairs of the given indices, in that order."""

        def chosen(values: list[Any]) -> list[Any]:
            return [values[i] for i in index]

        return replace(
            self,
            first=chosen(self.first),
            second=chosen(self.second),
            label=None if self.label is None else chosen(self.label),
            number=chosen(self.number),
            file=chosen(self.file) if self.file else [],
            extra={name: chosen(values) for name, values in self.extra.items()},
        )


def join_splits(parts: Sequence[RawSplit]) -> RawSplit:
    """Joins the files of one split in their order; all have the same columns.

    Args:
        parts: The files, each as a split.

    Raises:
        UserError: A file has other class names than the first one, or lacks its label column.
    """
    if len(parts) == 1:
        return parts[0]
    top = parts[0]
    for part in parts:
        if part.class_names != top.class_names:
            raise UserError(
                f"{part.place}: other class names than in {top.short}",
                got=f"{part.class_names} and {top.class_names}",
                expected="one order of the classes in all files of a split",
            )
        if (part.label is None) != (top.label is None):
            raise UserError(f"{part.place}: {top.short} and this file do not both have labels", fix="add the column")

    def joined(lists: Iterable[list[Any]]) -> list[Any]:
        return [value for values in lists for value in values]

    return replace(
        top,
        first=joined(part.first for part in parts),
        second=joined(part.second for part in parts),
        label=None if top.label is None else joined(part.label or [] for part in parts),
        number=joined(part.number for part in parts),
        skipped=tuple(row for part in parts for row in part.skipped),
        files=tuple((part.place, part.short) for part in parts),
        file=joined([number] * len(part.first) for number, part in enumerate(parts)),
        extra={name: joined(part.extra[name] for part in parts) for name in top.extra},
    )
