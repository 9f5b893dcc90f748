"""Where text for pretraining comes from: files, TFDS sets, or rules.

A source gives sentences one by one with a mark after each document, so that a corpus of any size passes through in
constant memory.
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
    """A text file, or one set of rule-made documents.

    Attributes:
        name: For messages and the report.
        digest: SHA-256 of the content.
        sentences: The sentences in order; None ends a document.
        reading: How sentences are found in the content.
    """

    name: str
    digest: str
    sentences: Callable[[], Iterator[str | None]]
    reading: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What decides the sentences."""
        return self.digest, self.reading


def text_sources(pattern: str, *, format: Format, language: str, option: str) -> tuple[Source, ...]:
    """The files of a glob, in the order of their names.

    Raises:
        UserError: It matches no file, or one that cannot be read.
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
    """The splits of a TFDS set, by our names for them; each of its examples is a document, or in lines several.

    Args:
        name: Of the set, as `--data.tfds`.
        column: That holds the text.
        folder: Where prepared sets lie; None for TFDS's own.
        download: Whether a set that is not there may be fetched.
        format: Of a text.
        language: Of the sentence splitter.

    Raises:
        UserError: The set is not there or damaged, has no train split, or no such column of text.
    """
    from pairjax.data import tfds

    found = tfds.open_set(name, folder=folder, download=download)
    chosen, _ = tfds.choose_splits(list(found.builder.info.splits), found.title)
    if "train" not in chosen:
        raise UserError(f"{found.title}: no train split", got=", ".join(found.builder.info.splits))
    tables = {ours: tfds.split_table(found, theirs) for ours, theirs in chosen.items()}
    for table in tables.values():
        if column not in table.header:
            raise UserError(
                f"{table.place}: no column {column}",
                got=f"columns {', '.join(table.header)}",
                fix="name the one that holds the text with --data.text",
            )
    return {
        ours: (
            Source(
                f"{found.title}, split {theirs}",
                _digest_of(tfds.split_files(found, theirs)),
                partial(_read_table, tables[ours], column, format=format, language=language),
                f"{_reading(format, language)}, column {column}",
            ),
        )
        for ours, theirs in chosen.items()
    }


def _reading(format: Format, language: str) -> str:
    return format if format == "lines" else f"{format} {language}"


def _digest_of(paths: Sequence[Path]) -> str:
    """SHA-256 of files in their order."""
    running = hashlib.sha256()
    for path in paths:
        try:
            running.update(bytes.fromhex(hash_file(path)))
        except OSError as error:
            raise UserError(f"{path}: cannot be read", got=error.strerror, fix="prepare the set anew") from None
    return running.hexdigest()


def rule_source(language: Literal["en", "pt"], *, documents: int, seed: Sequence[int]) -> Source:
    """Stories made by rules (`pairjax.data.rules.stories`), by seed."""
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
    """Lines without a byte order mark.

    Raises:
        UserError: Not UTF-8; names the byte. Or the file cannot be read any more.
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
    try:
        return raw.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # The codec leaves the mark out of its count.
        start = error.start + (3 if offset == 0 and raw.startswith(b"\xef\xbb\xbf") else 0)
        raise UserError(
            f"{path}, byte {offset + start:,}: not UTF-8",
            got=f"0x{raw[start]:02x}",
            fix="convert the file, as with iconv -t UTF-8",
        ) from None


def _read_file(path: str, *, format: Format, language: str) -> Iterator[str | None]:
    return _document(_decoded(path), format=format, language=language)


def _read_table(table: Table, column: str, *, format: Format, language: str) -> Iterator[str | None]:
    for number, (text,) in table.select([column]):
        if not isinstance(text, str):
            raise UserError(
                f"{table.place}, row {number}: column {column} holds no text",
                got=repr(text)[:80],
                fix="name the column that does with --data.text",
            )
        yield from _document(text.split("\n"), format=format, language=language)


def _document(lines: Iterable[str], *, format: Format, language: str) -> Iterator[str | None]:
    """Sentences of a file or of a set's example, NFC; None ends a document."""
    clean = (unicodedata.normalize("NFC", line).strip() for line in lines)
    if format == "lines":
        yield from (line or None for line in clean)
    else:
        yield from _prose(clean, language)
    yield None


def _prose(lines: Iterable[str], language: str) -> Iterator[str]:
    """Sentences of paragraphs, which end at blank lines."""
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
