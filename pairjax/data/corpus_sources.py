"""Reads text for pretraining from files, TFDS sets, or rules.

A source yields sentences one by one with a mark after each document, so memory does not grow with the corpus.
"""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from glob import glob
from pathlib import Path
from typing import Literal, NamedTuple

from pairjax.base.errors import UserError
from pairjax.data.table import Table
from pairjax.storage.hashes import hash_file

Format = Literal["lines", "prose"]


class Source(NamedTuple):
    """A text file, a split of a TFDS set, or a set of rule-made documents.

    Attributes:
        name: Its name in messages and reports.
        digest: SHA-256 of the content.
        sentences: Yields the sentences in order; None ends a document.
        reading: How sentences are found in the content: the format, and the language or column.
    """

    name: str
    digest: str
    sentences: Callable[[], Iterator[str | None]]
    reading: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """The two strings that determine the sentences."""
        return self.digest, self.reading


def text_sources(pattern: str, *, format: Format, language: str, option: str) -> tuple[Source, ...]:
    """Opens the files of a glob, in the order of their names.

    Args:
        pattern: A glob; `**` matches folders recursively.
        format: `lines` (one sentence a line) or `prose` (paragraphs that are split into sentences).
        language: Language of the sentence splitter, for prose.
        option: The option that gave the glob, for messages.

    Raises:
        UserError: The glob matches no file, or a file cannot be read.
    """
    paths = sorted(path for path in glob(os.path.expanduser(pattern), recursive=True) if os.path.isfile(path))
    if not paths:
        raise UserError(
            f"{option} {pattern}: no such file", expected="a glob of text files, quoted, as in 'texts/*.txt'"
        )
    sources, reading = [], _reading(format, language)
    for path in paths:
        try:
            digest = hash_file(Path(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be read", got=error.strerror) from None
        sources.append(Source(path, digest, partial(_read_file, path, format=format, language=language), reading))
    return tuple(sources)


def tfds_sources(
    name: str, *, column: str, folder: str | None, download: bool, format: Format, language: str
) -> dict[str, tuple[Source, ...]]:
    """Opens the train, dev and test splits of a TFDS set.

    Each example of the set is a document; in the format `lines`, blank lines divide it into several.

    Args:
        name: Name of the set, as in `--data.tfds`.
        column: The column that has the text.
        folder: Folder of prepared sets; None for the default of TFDS.
        download: Whether a missing set may be downloaded.
        format: Format of a text; see `text_sources`.
        language: Language of the sentence splitter, for prose.

    Raises:
        UserError: The set is missing or damaged, or has no train split or no such column of text.
    """
    from pairjax.data import tfds

    source = tfds.open_set(name, folder=folder, download=download)
    names, _ = tfds.choose_splits(list(source.builder.info.splits), source.title)
    if "train" not in names:
        raise UserError(f"{source.title}: no train split", got=", ".join(source.builder.info.splits))
    tables = {split: tfds.split_table(source, own_name) for split, own_name in names.items()}
    for table in tables.values():
        if column not in table.header:
            raise UserError(
                f"{table.place}: no column {column}",
                got=f"columns {', '.join(table.header)}",
                fix="name the column that has the text with --data.text",
            )
    return {
        split: (
            Source(
                f"{source.title}, split {own_name}",
                _digest_of(tfds.split_files(source, own_name)),
                partial(_read_table, tables[split], column, format=format, language=language),
                f"{_reading(format, language)}, column {column}",
            ),
        )
        for split, own_name in names.items()
    }


def _reading(format: Format, language: str) -> str:
    """Returns `Source.reading` of a text."""
    return format if format == "lines" else f"{format} {language}"


def _digest_of(paths: Sequence[Path]) -> str:
    """Returns the SHA-256 of several files in their order."""
    running = hashlib.sha256()
    for path in paths:
        try:
            running.update(bytes.fromhex(hash_file(path)))
        except OSError as error:
            raise UserError(f"{path}: cannot be read", got=error.strerror, fix="prepare the set again") from None
    return running.hexdigest()


def rule_source(language: Literal["en", "pt"], *, documents: int, seed: Sequence[int]) -> Source:
    """Builds a source of rule-made stories; see `pairjax.data.rules.stories`.

    Args:
        language: Language of the stories.
        documents: Number of stories.
        seed: Seeds the stories.
    """
    from pairjax.data.rules.english import English
    from pairjax.data.rules.portuguese import Portuguese
    from pairjax.data.rules.stories import story
    from pairjax.data.rules.words import Draws

    def sentences() -> Iterator[str | None]:
        grammar, draws = English() if language == "en" else Portuguese(), Draws(seed)
        for _ in range(documents):
            yield from story(grammar, draws)
            yield None

    name = f"rules/stories-{language}"
    running = hashlib.sha256()
    for sentence in sentences():
        running.update(((sentence or "") + "\n").encode())
    return Source(name, running.hexdigest(), sentences)


def _decoded(path: str) -> Iterator[str]:
    """Yields a file's lines without a byte-order mark.

    Raises:
        UserError: A line is not UTF-8 (the message names the byte), or the file can no longer be read.
    """
    offset = 0
    try:
        with open(path, "rb") as file:
            for raw in file:
                yield _decoded_line(path, raw, offset)
                offset += len(raw)
    except OSError as error:
        raise UserError(f"{path}: cannot be read", got=error.strerror) from None


def _decoded_line(path: str, raw: bytes, offset: int) -> str:
    """Decodes the line that starts at byte `offset`."""
    try:
        return raw.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # The codec does not count the byte-order mark.
        start = error.start + (3 if offset == 0 and raw.startswith(b"\xef\xbb\xbf") else 0)
        raise UserError(
            f"{path}, byte {offset + start:,}: not UTF-8",
            got=f"0x{raw[start]:02x}",
            fix="convert the file, for example with iconv -t UTF-8",
        ) from None


def _read_file(path: str, *, format: Format, language: str) -> Iterator[str | None]:
    """Yields the sentences of a file."""
    return _document(_decoded(path), format=format, language=language)


def _read_table(table: Table, column: str, *, format: Format, language: str) -> Iterator[str | None]:
    """Yields the sentences of a table's column."""
    for number, (text,) in table.select([column]):
        if not isinstance(text, str):
            raise UserError(
                f"{table.place}, row {number}: column {column} is not text",
                got=repr(text)[:80],
                fix="name the column that has the text with --data.text",
            )
        yield from _document(text.split("\n"), format=format, language=language)


def _document(lines: Iterable[str], *, format: Format, language: str) -> Iterator[str | None]:
    """Yields the sentences of a file or of an example, in NFC; None ends a document."""
    clean = (unicodedata.normalize("NFC", line).strip() for line in lines)
    if format == "lines":
        yield from (line or None for line in clean)
    else:
        yield from _prose(clean, language)
    yield None


def _prose(lines: Iterable[str], language: str) -> Iterator[str]:
    """Yields the sentences of paragraphs, which end at blank lines."""
    from sentencex import segment

    def split(paragraph: list[str]) -> Iterator[str]:
        yield from filter(None, (sentence.strip() for sentence in segment(language, " ".join(paragraph))))

    paragraph: list[str] = []
    for line in lines:
        if line:
            paragraph.append(line)
        elif paragraph:
            yield from split(paragraph)
            paragraph = []
    yield from split(paragraph)
