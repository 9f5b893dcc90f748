"""Reader of the XML of ASSIN, ASSIN 2 and the RTE challenges: `<pair entailment="..."><t>...</t><h>...</h></pair>`."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from pairjax.base.errors import UserError
from pairjax.data.compression import open_stream
from pairjax.data.table import OnError, Record, Table, raise_error

PAIR, TEXTS = "pair", ("t", "h")
BLOCK = 2**16
EXAMPLE = '<pair id="1" entailment="None"><t>...</t><h>...</h></pair>'


def xml_table(path: Path, *, on_error: OnError = raise_error) -> Table:
    """Builds the table of an .xml file: columns t and h, and the attributes of the first pair.

    The file is read as a stream. Document types, and so entities, are refused: they can expand without bound and can
    name other files.

    Args:
        path: The file.
        on_error: What to do with a pair that lacks a text or an attribute.

    Raises:
        UserError: The file is not XML, has a document type, or has no pair.
    """
    rows = _pairs(path)
    top = next(rows, None)
    if top is None:
        raise UserError(f"{path}: no <pair> element", expected=EXAMPLE)
    header = tuple(dict.fromkeys([*TEXTS, *top[1]]))

    def select(columns: Sequence[str]) -> Iterator[Record]:
        for number, row in chain([top], rows):
            missing_names = [name for name in columns if name not in row]
            if missing_names:
                error = UserError(f"{path}, line {number}: the pair has no {missing_names[0]}", expected=EXAMPLE)
                yield number, on_error(error)
            else:
                yield number, tuple(row[name] for name in columns)

    return Table(place=str(path), short=path.name, header=header, select=select, layout="XML pairs of t and h")


class _Collector:
    """Collects the pairs of an XML file as the parser finds them.

    Args:
        path: The file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, list[tuple[int, dict[str, Any]]]()
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = self._refuse
        self._row: dict[str, Any] | None = None
        self._line, self._column = 0, ""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == PAIR:
            self._row, self._line = dict(attributes), self.parser.CurrentLineNumber
        elif self._row is not None and name in TEXTS:
            self._column, self._row[name] = name, ""

    def _text(self, text: str) -> None:
        if self._row is not None and self._column:
            self._row[self._column] += text

    def _end(self, name: str) -> None:
        if name == self._column:
            self._column = ""
        elif name == PAIR and self._row is not None:
            self.rows.append((self._line, self._row))
            self._row = None

    def _refuse(self, *_: Any) -> NoReturn:
        raise UserError(
            f"{self.path}, line {self.parser.CurrentLineNumber}: a document type or an entity",
            expected="XML without <!DOCTYPE> and <!ENTITY>",
            fix="remove it",
        )


def _pairs(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line, attributes and texts) of each pair."""
    collector = _Collector(path)
    with open_stream(path) as stream:
        last = False
        while not last:
            block = stream.read(BLOCK)
            last = not block
            try:
                collector.parser.Parse(block, last)
            except (expat.ExpatError, ValueError, LookupError) as error:
                line = getattr(error, "lineno", collector.parser.CurrentLineNumber)
                reason = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else error
                raise UserError(f"{path}, line {line}: not XML ({reason})", fix="write or copy it again") from None
            yield from collector.rows
            collector.rows.clear()
