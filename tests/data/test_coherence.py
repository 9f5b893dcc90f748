"""The coherence task: documents are in one split only; pairs follow one another or are from two documents."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pairjax import UserError
from pairjax.data.coherence import CoherencePairs, coherence_pairs, deal_documents
from pairjax.data.corpus_sources import Source, text_sources
from tests.data.texts import tiny_tokenizer, write_documents


def sources(*paths: Path) -> tuple[Source, ...]:
    return tuple(
        text_sources(str(path), format="lines", language="en", option="--data.corpus")[0] for path in sorted(paths)
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> CoherencePairs:
    folder = tmp_path_factory.mktemp("coherence")
    few = write_documents(folder / "few.txt", documents=4, start=90)
    many = write_documents(folder / "many.txt", documents=20)
    tokenizer = tiny_tokenizer(folder)
    return coherence_pairs(sources(few, many), tokenizer, cache=folder / "c", sizes=(60, 20, 30), length=60)


def test_no_document_is_in_two_splits_and_labels_are_halved(task: CoherencePairs) -> None:
    for split, pairs in task.data.splits.items():
        assert pairs.label is not None
        assert pairs.label.mean() == 0.5, split
        assert len(task.document[split]) == len(pairs)
    assert len(task.data.splits["train"]) == 60
    named = {split: _numbers((*pairs.first, *pairs.second)) - {None} for split, pairs in task.data.splits.items()}
    assert len(named["train"] | named["dev"] | named["test"]) == sum(map(len, named.values()))
    assert any("few.txt has too few documents" in note for note in task.data.notes)


def test_dealing_uses_every_document_once_and_none_of_a_small_source(tmp_path: Path) -> None:
    many, few = sources(
        write_documents(tmp_path / "a.txt", documents=20), write_documents(tmp_path / "b.txt", documents=5)
    )
    parts = deal_documents(many, seed=(0, 0))
    counts = {split: sum(sentence is None for sentence in part.sentences()) for split, part in parts.items()}
    assert counts == {"dev": 3, "test": 5, "train": 12}
    dealt = [sentence for part in parts.values() for sentence in part.sentences() if sentence is not None]
    assert sorted(dealt) == sorted(sentence for sentence in many.sentences() if sentence is not None)
    assert deal_documents(few, seed=(0, 0)) == {}
    again = deal_documents(many, seed=(0, 0))
    assert [part.identity for part in parts.values()] == [part.identity for part in again.values()]
    assert parts["dev"].identity != deal_documents(many, seed=(1, 0))["dev"].identity


def test_too_little_text_is_a_one_line_error(tmp_path: Path) -> None:
    few = sources(write_documents(tmp_path / "b.txt", documents=5))
    with pytest.raises(UserError, match="too few held-out documents"):
        coherence_pairs(few, tiny_tokenizer(tmp_path), cache=tmp_path / "c", sizes=(8, 8, 8), length=40)


def test_pairs_follow_one_another_or_are_from_two_documents(task: CoherencePairs) -> None:
    pairs = task.data.splits["train"]
    assert pairs.label is not None
    own, other = (
        np.array([-1 if _number(text) is None else _number(text) for text in texts])
        for texts in (pairs.first, pairs.second)
    )
    named = (own >= 0) & (other >= 0)
    assert named.sum() > 30
    np.testing.assert_array_equal((own != other)[named], pairs.label[named] == 1)


def _number(text: str) -> int | None:
    """Returns the document that a text names, or None if the text is cut too short."""
    match = re.search(r"the [a-z]+ (\d+) [a-z]", text)
    return int(match[1]) if match else None


def _numbers(texts: Sequence[str]) -> set[int | None]:
    return {_number(text) for text in texts}
