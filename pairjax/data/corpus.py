"""Builds and opens an index of text for pretraining: memory-mapped token arrays.

An index is built once under a temporary name and then renamed, so a stopped build leaves no index. Its name is the hash
of what it was made of (SHA-256 of the texts, tokeniser, dev cut), so a changed source or tokeniser gives a new index.

    KEY/index.json  KEY/train/{tokens,sentences,documents,files}.bin  KEY/dev/...
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pairjax.base.errors import UserError
from pairjax.base.fields import cache_root
from pairjax.data.corpus_sources import Source
from pairjax.data.tokenizer import PairTokenizer
from pairjax.storage.files import read_json, whole_folder
from pairjax.storage.hashes import hash_json

FORMAT = 3
AT_ONCE = 4096
"""Sentences tokenised in one call."""
HASHES_AT_ONCE = 1 << 25
"""Values of a memory-mapped array that are read at once."""


@dataclass(frozen=True)
class Facts:
    """Counts of one split of a corpus.

    Attributes:
        documents: Documents with at least one sentence.
        sentences: Sentences with at least one token.
        tokens: Tokens, special ones not counted.
        unknown: Tokens that the vocabulary lacks.
        duplicates: Sentences that are equal to an earlier one, letter for letter.
        bare: Sentences dropped because the tokeniser makes no token from them.
        single: Documents with one sentence only.
        longest: Tokens of the longest sentence.
        files: Documents of each source.
    """

    documents: int
    sentences: int
    tokens: int
    unknown: int
    duplicates: int
    bare: int
    single: int
    longest: int
    files: tuple[int, ...]


@dataclass(frozen=True)
class Corpus:
    """One split of an index, memory-mapped.

    Attributes:
        tokens: uint16 or int32 [T]; the tokens of all sentences.
        sentences: int64 [S + 1]; sentence i is `tokens[sentences[i]:sentences[i + 1]]`.
        documents: int64 [D + 1]; document d has the sentences from `documents[d]` to `documents[d + 1] - 1`.
        files: int32 [D]; number of each document's source, ascending.
        names: Names of the sources.
        facts: Counts of the split.
        folder: The split's folder in the index.
    """

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    files: np.ndarray
    names: tuple[str, ...]
    facts: Facts
    folder: Path

    def longer_than(self, limit: int) -> int:
        """Returns the number of sentences of more than `limit` tokens."""
        count = 0
        for start in range(0, self.facts.sentences, HASHES_AT_ONCE):
            count += int((np.diff(self.sentences[start : start + HASHES_AT_ONCE + 1]) > limit).sum())
        return count


def cache_folder(option: str | None) -> Path:
    """Returns the folder of indexes and trained tokenisers: the option's, or the default one."""
    if option is not None:
        return Path(option).expanduser()
    root = cache_root()
    if root is None:
        raise UserError("this user has no home folder for the corpus cache", fix="name a folder with --data.cache")
    return Path(root) / "pairjax" / "corpora"


class _Writer:
    """Writes the arrays of one split sentence by sentence."""

    def __init__(self, folder: Path, tokenizer: PairTokenizer, *, sources: int) -> None:
        folder.mkdir()
        self._folder, self._tokenizer = folder, tokenizer
        self._dtype = token_dtype(tokenizer)
        self._out: dict[str, IO[bytes]] = {
            name: open(folder / f"{name}.bin", "wb")  # noqa: SIM115 - `close` and `finish` close the files.
            for name in ("tokens", "sentences", "documents", "files", "hashes")
        }
        self._pending: list[str | int] = []
        self._unknown = tokenizer.backend.token_to_id(str(tokenizer.settings.get("unk_token", "[UNK]")))
        self._inside = 0
        self._tokens = self._sentences = self._unknowns = self._bare = self._single = self._longest = 0
        self._files = [0] * sources
        for name in ("sentences", "documents"):
            self._write(name, [0], np.int64)

    def add(self, sentence: str) -> None:
        """Adds a sentence to the current document."""
        self._pending.append(sentence)
        if len(self._pending) >= AT_ONCE:
            self._flush()

    def end_document(self, source: int) -> None:
        """Ends the current document, which is from the source of that number."""
        self._pending.append(source)

    def close(self) -> None:
        """Closes the files of a build that failed; after `finish` it does nothing."""
        for file in self._out.values():
            with suppress(OSError):
                file.close()

    def finish(self) -> Facts:
        """Closes the files and returns the counts, with those of duplicates."""
        self._flush()
        for file in self._out.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        hashes = self._folder / "hashes.bin"
        duplicates = self._sentences - _distinct(hashes)
        hashes.unlink()
        return Facts(
            documents=sum(self._files),
            sentences=self._sentences,
            tokens=self._tokens,
            unknown=self._unknowns,
            duplicates=duplicates,
            bare=self._bare,
            single=self._single,
            longest=self._longest,
            files=tuple(self._files),
        )

    def _write(self, name: str, values: Any, dtype: Any) -> None:
        """Appends values to an array's file."""
        self._out[name].write(np.asarray(values, dtype).tobytes())

    def _flush(self) -> None:
        """Tokenises and writes the pending sentences; an int ends a document."""
        texts = [item for item in self._pending if isinstance(item, str)]
        encoded = iter(self._tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False))
        tokens: list[int] = []
        ends: list[int] = []
        for item in self._pending:
            if isinstance(item, int):
                if self._inside:
                    self._write("documents", [self._sentences], np.int64)
                    self._write("files", [item], np.int32)
                    self._files[item] += 1
                    self._single += self._inside == 1
                self._inside = 0
                continue
            ids = next(encoded).ids
            if not ids:
                self._bare += 1
                continue
            tokens += ids
            ends.append(self._tokens + len(tokens))
            self._longest = max(self._longest, len(ids))
            self._sentences += 1
            self._inside += 1
            self._out["hashes"].write(hashlib.blake2b(item.encode(), digest_size=8).digest())
        self._tokens += len(tokens)
        self._unknowns += tokens.count(self._unknown)
        self._write("tokens", tokens, self._dtype)
        self._write("sentences", ends, np.int64)
        self._pending = []


def _distinct(path: Path) -> int:
    """Returns the number of distinct 8-byte values in a file; a large file is read in parts, chosen by value."""
    size = path.stat().st_size // 8
    if size == 0:
        return 0
    values = np.memmap(path, np.uint64, "r")
    parts = -(-size // HASHES_AT_ONCE)
    count = 0
    for part in range(parts):
        members = [
            chunk[chunk % np.uint64(parts) == part]
            for chunk in (values[start : start + HASHES_AT_ONCE] for start in range(0, size, HASHES_AT_ONCE))
        ]
        count += len(np.unique(np.concatenate(members)))
    return count


def token_dtype(tokenizer: PairTokenizer) -> type:
    """Returns the type of the stored ids: two bytes if they suffice."""
    return np.uint16 if tokenizer.vocabulary_size <= 1 << 16 else np.int32


def tokenizer_digest(tokenizer: PairTokenizer) -> str:
    """Returns the SHA-256 of everything that determines a tokeniser's output."""
    return hashlib.sha256(tokenizer.backend.to_str().encode()).hexdigest()


class DevCut(NamedTuple):
    """Chooses the documents of dev: a share of each source, spread evenly, from a start that the seed determines.

    Sources with too few documents for a share of their own are cut together as one.

    Attributes:
        fraction: Share of dev, in (0, 1).
        seed: Seeds the start.
    """

    fraction: float
    seed: int

    def is_dev(self, ordinal: int) -> bool:
        """Returns whether the document of this number is in dev."""
        start = float(np.random.Generator(np.random.PCG64(self.seed)).random())
        return int((ordinal + 1) * self.fraction + start) > int(ordinal * self.fraction + start)


def build_index(
    sources: Sequence[Source], tokenizer: PairTokenizer, *, cache: Path, cut: DevCut | None = None
) -> dict[str, Corpus]:
    """Opens the index of the sources, and builds it first if the cache does not have it.

    Args:
        sources: At least one source.
        tokenizer: The model's tokeniser.
        cache: Folder of indexes; it is made if missing.
        cut: Chooses documents that become dev; None puts all in train.

    Returns:
        The split `train`, and `dev` if there is a cut.

    Raises:
        UserError: There is no text, a text is not UTF-8, an index is cut short, or the cache cannot be written.
    """
    made_of = {
        "format": FORMAT,
        "sources": [list(source.identity) for source in sources],
        "tokenizer": tokenizer_digest(tokenizer),
        "cut": None if cut is None else list(cut),
    }
    folder = cache / f"index-{hash_json(made_of)[:20]}"
    if not folder.is_dir():
        _build(folder, sources, tokenizer, cut=cut, made_of=made_of)
    return _open(folder, tuple(source.name for source in sources), dtype=token_dtype(tokenizer))


def _build(
    folder: Path, sources: Sequence[Source], tokenizer: PairTokenizer, *, cut: DevCut | None, made_of: Mapping[str, Any]
) -> None:
    """Builds an index, whole or not at all."""
    try:
        with whole_folder(folder, replace=False) as partial:
            facts = _write_splits(partial, sources, tokenizer, cut=cut)
            record = {"made_of": dict(made_of), "splits": {split: asdict(fact) for split, fact in facts.items()}}
            (partial / "index.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder.parent}: the index cannot be written",
            got=error.strerror,
            fix="free some space, or choose another --data.cache",
        ) from None


def _write_splits(
    folder: Path, sources: Sequence[Source], tokenizer: PairTokenizer, *, cut: DevCut | None
) -> dict[str, Facts]:
    """Writes the arrays of each split to a folder of its own.

    Raises:
        UserError: The sources have no text.
    """
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(closing(_Writer(folder / split, tokenizer, sources=len(sources))))
            for split in (("train",) if cut is None else ("train", "dev"))
        }
        few = 0  # Documents of earlier sources that were too small for a share of their own.
        for number, source in enumerate(sources):
            ordinal, inside = few, False
            writer = writers["train"]
            for sentence in source.sentences():
                if sentence is not None:
                    if not inside:
                        writer = writers["dev" if cut is not None and cut.is_dev(ordinal) else "train"]
                        ordinal, inside = ordinal + 1, True
                    writer.add(sentence)
                elif inside:
                    writer.end_document(number)
                    inside = False
            if cut is not None and (ordinal - few) * cut.fraction < 1:
                few = ordinal
        facts = {split: writer.finish() for split, writer in writers.items()}
    if sum(fact.sentences for fact in facts.values()) == 0:
        names = ", ".join(source.name for source in sources[:3]) + (", ..." if len(sources) > 3 else "")
        raise UserError(f"{names}: the corpus is empty", expected="text, one sentence a line")
    return facts


def _open(folder: Path, names: tuple[str, ...], *, dtype: type) -> dict[str, Corpus]:
    """Opens the splits of an index that has been built."""
    path, fix = folder / "index.json", f"delete {folder}; it is built again"
    record = read_json(path, required=("splits",), fix=fix)
    try:
        facts = {
            split: Facts(**(values | {"files": tuple(values["files"])})) for split, values in record["splits"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged", got=repr(error)[:100], fix=fix) from None
    return {split: _map(folder / split, fact, names, dtype=dtype) for split, fact in facts.items()}


def _map(folder: Path, facts: Facts, names: tuple[str, ...], *, dtype: type) -> Corpus:
    """Maps the arrays of one split, and checks their sizes."""

    def array(name: str, kind: type, count: int) -> np.ndarray:
        path, expected = folder / f"{name}.bin", count * np.dtype(kind).itemsize
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise UserError(
                f"{path}: the index is cut short",
                got=f"{size:,} bytes",
                expected=f"{expected:,}",
                fix=f"delete {folder.parent}; it is built again",
            )
        # A plain array over the map, because indexing `memmap` itself costs ten times as much.
        return np.asarray(np.memmap(path, kind, "r")) if count else np.zeros(0, kind)

    return Corpus(
        tokens=array("tokens", dtype, facts.tokens),
        sentences=array("sentences", np.int64, facts.sentences + 1),
        documents=array("documents", np.int64, facts.documents + 1),
        files=array("files", np.int32, facts.documents),
        names=names,
        facts=facts,
        folder=folder,
    )
