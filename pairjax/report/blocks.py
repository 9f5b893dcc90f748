"""What a report is made of, before it is HTML: sections of texts, tables and figures, all plain data.

Whatever comes out of a run folder stays text here; the template escapes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pairjax.report.language import Language


@dataclass(frozen=True)
class Paragraph:
    """A line of prose.

    Attributes:
        text: What it says.
        kind: How it looks: `lead` opens a section, `warning` must be seen, `note` is small.
        foreign: Whether it was written by the program in English, whatever the report's language.
    """

    text: str
    kind: Literal["plain", "lead", "warning", "note"] = "plain"
    foreign: bool = False
    block: str = "paragraph"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: First line.
        below: Second line, smaller: an interval, a count.
        share: In [0, 1], how strongly the cell is coloured; None for no colour.
        strong: Whether it is in bold.
    """

    text: str
    below: str = ""
    share: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first `left` columns are text, the others numbers.

    A row of a single cell is a heading within the table.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int = 1
    note: str = ""
    block: str = "table"


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        svg: Trusted: drawn here, its texts escaped.
        title: Above it.
        note: How it is to be read.
    """

    svg: str
    title: str
    note: str = ""
    block: str = "figure"


@dataclass(frozen=True)
class Example:
    """A pair of texts with its answers.

    Attributes:
        first: A.
        second: B.
        facts: (name, value) lines.
    """

    first: str
    second: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Examples:
    """Pairs with their texts."""

    title: str
    note: str
    items: Sequence[Example]
    block: str = "examples"


@dataclass(frozen=True)
class Facts:
    """Names and values, one a line.

    Attributes:
        title: Above them.
        rows: (name, value).
        folded: (name, long text) that opens on demand.
    """

    title: str
    rows: Sequence[tuple[str, str]]
    folded: Sequence[tuple[str, str]] = ()
    block: str = "facts"


Block = Paragraph | Table | Drawing | Examples | Facts


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: For links.
        title: Its heading.
        blocks: In order; figures that follow each other stand side by side where there is room.
        subtitle: Below the heading.
    """

    id: str
    title: str
    blocks: Sequence[Block]
    subtitle: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report."""

    language: Language
    title: str
    sections: Sequence[Section] = field(default=())


def cells(*texts: str) -> list[Cell]:
    """A row of plain cells."""
    return [Cell(text) for text in texts]
