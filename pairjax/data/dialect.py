"""Detects how the lines of a text file hold its columns: the delimiter, quoting, and a header or a known shape."""

import csv
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pairjax.data.columns import has_text_columns

NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons"}
"""The delimiters that are tried, in this order, after the one of the file's suffix."""
NATURAL = {".csv": ","}
"""Delimiter by suffix; tabs for all others."""


class Dialect(NamedTuple):
    """How lines hold columns.

    Attributes:
        delimiter: The sign between two columns.
        quoted: Whether columns are quoted as in RFC 4180; if not, quotes are text.
        header: Names of the columns.
        in_file: Whether the first line is the header; if not, it is a row.
        longer: Whether a row may have more fields than there are names.
        shape: Name of the data set whose shape a file without a header has, or "".
    """

    delimiter: str
    quoted: bool
    header: tuple[str, ...]
    in_file: bool = True
    longer: bool = False
    shape: str = ""

    def describe(self) -> str:
        """Describes the dialect in a few words."""
        quotes = ", quoted" if self.quoted and self.delimiter != "," else ""
        header = "" if self.in_file else f", without a header ({self.shape or '--data.columns'})"
        return f"separated by {NAMES[self.delimiter]}{quotes}{header}"


class Shape(NamedTuple):
    """The columns of a published file that has no header.

    Attributes:
        name: Name of the data set.
        names: Names of the columns.
        fits: Whether the fields of a first line have this shape.
        longer: Whether a row may have more fields.
    """

    name: str
    names: tuple[str, ...]
    fits: Callable[[Sequence[str]], bool]
    longer: bool = False


SCORE = re.compile(r"[0-5](\.[0-9]+)?")
SHAPES = (
    Shape(
        "the shape of SciTail",
        ("premise", "hypothesis", "label"),
        lambda fields: len(fields) in (3, 4) and fields[2] in ("entails", "neutral"),
        longer=True,
    ),
    Shape(
        "the shape of STS-B",
        ("genre", "filename", "year", "id", "score", "sentence1", "sentence2"),
        lambda fields: len(fields) >= 7 and fields[0].startswith("main-") and bool(SCORE.fullmatch(fields[4])),
        longer=True,
    ),
)
"""Published files without a header. The fourth column of SciTail's DGEM format, and STS-B's columns of sources after
the seventh, are not read."""


def split_header(line: str, delimiter: str, *, quoted: bool) -> list[str]:
    """Splits a header line into names."""
    line = line.rstrip("\r\n")
    if not quoted:
        return [name.strip() for name in line.split(delimiter)]
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return [line]


def detect_dialect(
    line: str, suffix: str, *, names: Sequence[str] = (), first: str | None = None, second: str | None = None
) -> Dialect:
    """Detects the dialect of a file by its first line.

    The delimiter is that of the suffix. Another one is taken if only it gives text columns. A file separated by tabs is
    plain text unless its header is quoted; all others are quoted as in RFC 4180.

    Args:
        line: The first line.
        suffix: The file's suffix; `.csv` prefers commas, all others prefer tabs.
        names: Names of the columns of a file without a header, if the user gives them.
        first: Column of the first text, if the user names it.
        second: Column of the second text, if the user names it.
    """
    natural = NATURAL.get(suffix, "\t")
    if not names:
        fields = line.rstrip("\r\n").split("\t")
        for shape in SHAPES:
            if shape.fits(fields):
                return Dialect("\t", False, shape.names, in_file=False, longer=shape.longer, shape=shape.name)
    choices = []
    for delimiter in (natural, *(sign for sign in NAMES if sign != natural)):
        quoted = delimiter != "\t" or (line.startswith('"') and '"\t' in line)
        choices.append(Dialect(delimiter, quoted, tuple(split_header(line, delimiter, quoted=quoted))))
    if names:
        fitting = [choice for choice in choices if len(choice.header) == len(names)]
        return (fitting or choices)[0]._replace(header=tuple(names), in_file=False)
    with_texts = [choice for choice in choices if has_text_columns(choice.header, first, second)]
    return (with_texts or choices)[0]
