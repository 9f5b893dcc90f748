"""The parts of a report as plain data: sections of texts, tables and figures. A template turns them into HTML.

Anything read from a run folder is text here, and the template escapes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pairjax.report.language import Language


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text.

    Attributes:
        text: The text.
        kind: The style: `lead` opens a section, `warning` stands out, `note` is small.
        foreign: Whether the text is English whatever the report's language.
        block: Name of the block in the template.
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
        below: Second line in small type, for example an interval or a count.
        share: Strength of the cell's colour in [0, 1]; None for no colour.
        strong: Whether the first line is bold.
    """

    text: str
    below: str = ""
    share: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Attributes:
        title: Caption above the table.
        head: Names of the columns.
        rows: Lines of cells; a line with a single cell is a heading within the table.
        left: Number of leading columns that hold text; the others hold numbers.
        note: Text below the table.
        block: Name of the block in the template.
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
        svg: SVG element drawn by this package, with escaped texts; the template does not escape it again.
        title: Caption above the figure.
        note: Text below the figure that says how to read it.
        block: Name of the block in the template.
    """

    svg: str
    title: str
    note: str = ""
    block: str = "figure"


@dataclass(frozen=True)
class Example:
    """A pair of texts with its label and prediction.

    Attributes:
        first: The first text.
        second: The second text.
        facts: (name, value) of each line below the texts.
    """

    first: str
    second: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Examples:
    """A list of pairs with their texts.

    Attributes:
        title: Heading of the list.
        note: Text below the heading.
        items: The pairs.
        block: Name of the block in the template.
    """

    title: str
    note: str
    items: Sequence[Example]
    block: str = "examples"


@dataclass(frozen=True)
class Facts:
    """Names and values, one per line.

    Attributes:
        title: Heading of the list.
        rows: (name, value) of each line.
        folded: (name, long text) of each part that opens on demand.
        block: Name of the block in the template.
    """

    title: str
    rows: Sequence[tuple[str, str]]
    folded: Sequence[tuple[str, str]] = ()
    block: str = "facts"


Block = Paragraph | Table | Drawing | Examples | Facts


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        id: Target of links to the section.
        title: Heading of the section.
        blocks: The contents in order; consecutive figures are placed side by side if there is room.
        subtitle: Text below the heading.
    """

    id: str
    title: str
    blocks: Sequence[Block]
    subtitle: str = ""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        language: Language of its words and numbers.
        title: Heading of the page.
        sections: The sections in order.
    """

    language: Language
    title: str
    sections: Sequence[Section] = field(default=())


def cells(*texts: str) -> list[Cell]:
    """Makes a table line of plain cells."""
    return [Cell(text) for text in texts]
