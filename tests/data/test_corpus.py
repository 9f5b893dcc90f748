"""The index of a corpus: complete or absent, rebuilt after a change, with correct counts."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import TokenizerKind
from pairjax.data import corpus as corpus_module
from pairjax.data.corpus import Corpus, DevCut, build_index
from pairjax.data.corpus_sources import rule_source, text_sources
from pairjax.data.tokenizer import PairTokenizer
from pairjax.data.train_tokenizer import load_or_train_tokenizer, train_bpe, train_wordpiece
from tests.data.texts import index, tiny_tokenizer, write_documents


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PairTokenizer:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def texts_of(corpus: Corpus, tokenizer: PairTokenizer) -> list[list[str]]:
    def sentence(i: int) -> str:
        ids = corpus.tokens[corpus.sentences[i] : corpus.sentences[i + 1]].tolist()
        return tokenizer.backend.decode(ids).replace(" ", "")

    bounds = zip(corpus.documents, corpus.documents[1:], strict=False)
    return [[sentence(i) for i in range(low, high)] for low, high in bounds]


def test_sentences_and_documents_come_back_in_order(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    (tmp_path / "b.txt").write_text("\ufeffThe man .\n\n\n  a dog  \nall\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("no man\r\n\r\nsome dog\r\n", encoding="utf-8")
    corpus = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache")["train"]
    assert texts_of(corpus, tokenizer) == [["noman"], ["somedog"], ["theman."], ["adog", "all"]]
    assert corpus.files.tolist() == [0, 0, 1, 1]
    assert corpus.facts.files == (2, 2)
    assert corpus.facts.sentences == 5
    assert corpus.facts.tokens == len(corpus.tokens) == 10
    assert corpus.facts.single == 3
    assert corpus.facts.longest == 3


def test_unknown_tokens_duplicates_and_bare_sentences_are_counted(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    (tmp_path / "a.txt").write_text("the man\nthe man\n\u200b\n日 dog\nthe man\n", encoding="utf-8")
    facts = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"].facts
    assert (facts.sentences, facts.duplicates, facts.bare, facts.unknown) == (4, 2, 1, 1)


def test_duplicates_are_counted_equally_in_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 50, 400).astype(np.uint64)
    (tmp_path / "h.bin").write_bytes(values.tobytes())
    monkeypatch.setattr(corpus_module, "HASHES_AT_ONCE", 32)
    assert corpus_module._distinct(tmp_path / "h.bin") == len(np.unique(values))


def test_sentences_tokenised_in_chunks_are_the_same(
    tmp_path: Path, tokenizer: PairTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_documents(tmp_path / "a.txt", documents=9)
    unsplit = index(tmp_path / "a.txt", tokenizer, tmp_path / "one")["train"]
    monkeypatch.setattr(corpus_module, "AT_ONCE", 7)
    parts = index(tmp_path / "a.txt", tokenizer, tmp_path / "two")["train"]
    assert parts.facts == unsplit.facts
    for name in ("tokens", "sentences", "documents", "files"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(unsplit, name))


def test_a_second_run_reads_the_index_and_a_changed_source_another(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    file = write_documents(tmp_path / "a.txt", documents=4)
    first = index(file, tokenizer, tmp_path / "cache")["train"].folder
    stamp = (first / "tokens.bin").stat().st_mtime_ns
    assert index(file, tokenizer, tmp_path / "cache")["train"].folder == first
    assert (first / "tokens.bin").stat().st_mtime_ns == stamp
    write_documents(tmp_path / "a.txt", documents=4, start=1)
    assert index(file, tokenizer, tmp_path / "cache")["train"].folder != first
    assert index(file, tokenizer, tmp_path / "cache", cut=DevCut(0.5, 0))["train"].folder != first


def test_a_stopped_build_leaves_no_index(
    tmp_path: Path, tokenizer: PairTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_documents(tmp_path / "a.txt", documents=4)

    def die(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus_module._Writer, "finish", die)
    with pytest.raises(KeyboardInterrupt):
        index(file, tokenizer, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.undo()
    # One that was killed leaves its folder beside, which nothing reads.
    (tmp_path / "cache" / ".index-dead-abc").mkdir()
    assert index(file, tokenizer, tmp_path / "cache")["train"].facts.documents == 4


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, tokenizer: PairTokenizer, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = write_documents(tmp_path / "a.txt", documents=4)
    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"cache: the index cannot be written; got No space left.*--data.cache"):
        index(file, tokenizer, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_write_that_the_disk_refuses_is_one_line_and_leaves_nothing(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    file = write_documents(tmp_path / "a.txt", documents=200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=r"the index cannot be written; got File too large"):
            index(file, tokenizer, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_source_that_disappears_is_not_reported_as_a_full_disk(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    sources = text_sources(
        str(write_documents(tmp_path / "a.txt", documents=4)), format="lines", language="en", option="--data.corpus"
    )
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match=r"a.txt: cannot be read; got No such file"):
        build_index(sources, tokenizer, cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["tokens.bin", "sentences.bin", "documents.bin", "files.bin"])
def test_an_index_cut_short_is_named(tmp_path: Path, tokenizer: PairTokenizer, name: str) -> None:
    file = write_documents(tmp_path / "a.txt", documents=4)
    path = index(file, tokenizer, tmp_path / "cache")["train"].folder / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=rf"{name}.*cut short.*delete"):
        index(file, tokenizer, tmp_path / "cache")


def test_a_damaged_record_is_named(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    file = write_documents(tmp_path / "a.txt", documents=4)
    path = index(file, tokenizer, tmp_path / "cache")["train"].folder.parent / "index.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"index.json.*damaged"):
        index(file, tokenizer, tmp_path / "cache")


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_dev_cut_takes_its_share_of_each_source_and_no_document_twice(
    tmp_path: Path, tokenizer: PairTokenizer, fraction: float
) -> None:
    for number, count in enumerate((40, 20)):
        write_documents(tmp_path / f"{number}.txt", documents=count, start=100 * number)
    splits = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache", cut=DevCut(fraction, 3))
    assert splits["dev"].facts.files == (round(40 * fraction), round(20 * fraction))
    train, dev = (texts_of(splits[name], tokenizer) for name in ("train", "dev"))
    assert len(train) + len(dev) == 60
    assert not {text[0] for text in train} & {text[0] for text in dev}
    other = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache", cut=DevCut(fraction, 4))
    assert other["train"].folder != splits["train"].folder


def test_the_dev_cut_joins_sources_that_are_smaller_than_their_share(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    for number, count in enumerate((1, 3, 40, 2, *[1] * 14)):
        write_documents(tmp_path / f"{number:02}.txt", documents=count, start=100 * number)
    dev = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache", cut=DevCut(0.1, 3))["dev"]
    assert dev.facts.files[2] == 4
    # Twenty documents in the small files.
    assert sum(dev.facts.files) == 4 + 2


def test_the_dev_cut_of_large_sources_is_independent(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    """A run that is resumed with a later version must hold out the same documents."""
    for number, count in enumerate((25, 30)):
        write_documents(tmp_path / f"{number}.txt", documents=count, start=100 * number)
    together = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache", cut=DevCut(0.1, 3))["dev"]
    alone = [
        index(tmp_path / f"{number}.txt", tokenizer, tmp_path / "cache", cut=DevCut(0.1, 3))["dev"] for number in (0, 1)
    ]
    assert texts_of(together, tokenizer) == [text for corpus in alone for text in texts_of(corpus, tokenizer)]


def test_text_that_is_not_utf8_names_file_and_byte(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    (tmp_path / "a.txt").write_bytes("first\nsecond é\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"a.txt, byte 13: not UTF-8; got 0xe9"):
        index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    sources = text_sources(str(tmp_path / "a.txt"), format="lines", language="en", option="--data.corpus")
    with pytest.raises(UserError, match=r"a.txt, byte 13"):
        load_or_train_tokenizer(
            sources, kind="wordpiece", vocabulary=200, lowercase=True, cache=tmp_path / "tokenizers"
        )
    assert not (tmp_path / "tokenizers").exists()


def test_no_file_and_no_text_are_errors(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    with pytest.raises(UserError, match=r"--data.corpus .*nothing\*: no such file"):
        index(tmp_path / "nothing*", tokenizer, tmp_path / "cache")
    (tmp_path / "a.txt").write_text("\n \n\n")
    with pytest.raises(UserError, match=r"a.txt: the corpus is empty"):
        index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")
    sources = text_sources(str(tmp_path / "a.txt"), format="lines", language="en", option="--data.corpus")
    with pytest.raises(UserError, match=r"a.txt: the corpus is empty"):
        train_wordpiece(sources, vocabulary=200, lowercase=True)
    with pytest.raises(UserError, match=r"a.txt: the corpus is empty"):
        train_bpe(sources, vocabulary=300, lowercase=True)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (
            "en",
            "Dr. Smith went\nhome. He slept.\n\nNobody came.\n",
            ["Dr. Smith went home.", "He slept.", "Nobody came."],
        ),
        ("pt", "O Sr. Silva saiu. Foi\nà praia?\n\nNão.", ["O Sr. Silva saiu.", "Foi à praia?", "Não."]),
    ],
)
def test_prose_is_split_into_sentences_across_lines(
    tmp_path: Path, language: str, text: str, expected: list[str]
) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (source,) = text_sources(str(tmp_path / "a.txt"), format="prose", language=language, option="--data.corpus")
    assert list(source.sentences()) == [*expected, None]
    (lines,) = text_sources(str(tmp_path / "a.txt"), format="lines", language=language, option="--data.corpus")
    # Read otherwise it is another text, which must not find the first one's index.
    assert lines.digest == source.digest
    assert lines.identity != source.identity


@pytest.mark.parametrize("language", ["en", "pt"])
def test_rule_made_stories_are_the_same_by_seed_and_connected(language: str) -> None:
    first, second = (rule_source(language, documents=5, seed=(0, 1)) for _ in range(2))
    assert first.digest == second.digest
    assert rule_source(language, documents=5, seed=(0, 2)).digest != first.digest
    sentences = list(first.sentences())
    assert sentences == list(second.sentences())
    assert sentences.count(None) == 5
    assert all(text is None or (text[0].isupper() and text.endswith(".")) for text in sentences)


@pytest.mark.parametrize("train", [train_wordpiece, train_bpe])
def test_training_a_tokeniser_twice_gives_the_same(train: Callable[..., Any]) -> None:
    source = rule_source("pt", documents=60, seed=(0, 0))
    first, second = (train([source], vocabulary=320, lowercase=False).to_str() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_a_trained_tokeniser_is_cached_and_reads_all_of_its_text(tmp_path: Path, kind: TokenizerKind) -> None:
    source = rule_source("pt", documents=60, seed=(0, 0))
    options = {"kind": kind, "vocabulary": 320, "lowercase": False, "cache": tmp_path}
    tokenizer, folder = load_or_train_tokenizer([source], **options)
    assert load_or_train_tokenizer([source], **options)[1] == folder
    assert tokenizer.vocabulary_size <= 320
    assert tokenizer.mask_id is not None
    facts = build_index([source], tokenizer, cache=tmp_path)["train"].facts
    assert facts.unknown == 0
    assert facts.documents == 60


def test_no_text_is_unknown_to_bpe_and_transformers_reads_it_the_same(tmp_path: Path) -> None:
    source = rule_source("en", documents=60, seed=(0, 0))
    options = {"vocabulary": 320, "lowercase": True, "cache": tmp_path}
    tokenizer, folder = load_or_train_tokenizer([source], kind="bpe", **options)
    assert load_or_train_tokenizer([source], kind="wordpiece", **options)[1] != folder
    text = "The man's café, 日本 \U0001f600!"
    ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.backend.token_to_id("[UNK]") not in ids
    assert tokenizer.backend.decode(ids).split() == ["the", "man", "'", "s", "cafe", ",", "日", "本", "😀", "!"]
    from transformers import AutoTokenizer

    (tmp_path / "model").mkdir()
    tokenizer.save(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    opened = AutoTokenizer.from_pretrained(str(tmp_path / "model"))
    pair = opened(text, "A dog.")
    second = tokenizer.backend.encode("A dog.", add_special_tokens=False).ids
    assert pair["input_ids"] == [tokenizer.cls_id, *ids, tokenizer.sep_id, *second, tokenizer.sep_id]
    assert pair["token_type_ids"] == [0] * (len(ids) + 2) + [1] * (len(second) + 1)
    assert opened.mask_token_id == tokenizer.mask_id
