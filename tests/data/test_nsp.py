"""Segment pairs: pure in (seed, index), labels true and exactly balanced, and no leak in the second segment."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.data.corpus import Corpus, build_index
from pairjax.data.corpus_sources import rule_source
from pairjax.data.nsp import LABELS, PairSampler, Stream, build_sampler, fair_lengths, permute_index
from pairjax.data.tokenizer import PairTokenizer
from pairjax.data.train_tokenizer import load_or_train_tokenizer
from tests.data.texts import index, tiny_tokenizer, write_documents


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PairTokenizer:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tokenizer: PairTokenizer) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(2):
        write_documents(folder / f"{number}.txt", documents=12, start=100 * number)
    return index(folder / "*.txt", tokenizer, folder / "cache")["train"]


def sampler(corpus: Corpus, objective: str = "nsp", **options: object) -> PairSampler:
    chosen = {"budget": 45, "short": 0.1, "seed": 0, "what": "--data.corpus"} | options
    return build_sampler(corpus, objective, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000])
def test_the_keyed_permutation_is_one(size: int) -> None:
    orders = [[permute_index(i, size, key=key) for i in range(size)] for key in (1, 2)]
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert size < 17 or orders[0] != orders[1]


def test_an_example_is_a_function_of_seed_and_index(corpus: Corpus) -> None:
    one, two, other = sampler(corpus), sampler(corpus), sampler(corpus, seed=1)
    for i in (5, 0, 10**12, 3):
        first, second = one.draw(i), two.draw(i)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(one.draw(i).first, other.draw(i).first) for i in range(10))


def test_draws_are_those_of_today() -> None:
    """A run that is resumed under a later version must draw the same."""
    assert [permute_index(i, 10, key=42) for i in range(10)] == [7, 3, 6, 2, 1, 9, 5, 4, 8, 0]
    assert [int(word) for word in Stream(7, 3).words(2)] == [8893702929424106994, 13357943582879616415]


def test_labels_are_exactly_balanced_wherever_an_even_range_ends(corpus: Corpus) -> None:
    one = sampler(corpus)
    assert len(one) % 2 == 0
    for start, stop in ((0, len(one)), (0, 2), (40, 46)):
        assert sum(one.draw(index).label for index in range(start, stop)) == (stop - start) // 2
    runs = Counter(one.label(2 * j) for j in range(400))
    assert 150 < runs[0] < 250


def test_every_sentence_but_the_last_of_a_document_is_drawn_once_in_as_many_examples(corpus: Corpus) -> None:
    one = sampler(corpus)
    starts = [one.draw(i).start for i in range(one.anchors)]
    lasts = set((corpus.documents[1:] - 1).tolist())
    assert sorted(starts) == [s for s in range(corpus.facts.sentences) if s not in lasts]
    assert starts != sorted(starts)
    again = [one.draw(i).start for i in range(one.anchors, 2 * one.anchors)]
    assert again != starts
    assert sorted(again) == sorted(starts)


def sentence_tokens(corpus: Corpus, start: int, tokens: np.ndarray) -> bool:
    """Whether the tokens stand in the corpus from some token of sentence `start` on, within its document."""
    document = int(np.searchsorted(corpus.documents, start, side="right")) - 1
    low, high = corpus.sentences[start], corpus.sentences[corpus.documents[document + 1]]
    text = corpus.tokens[low:high].astype(np.int32)
    return any(np.array_equal(text[i : i + len(tokens)], tokens) for i in range(len(text) - len(tokens) + 1))


def test_a_next_segment_follows_and_a_random_one_is_of_another_document(corpus: Corpus) -> None:
    one = sampler(corpus)
    for i in range(200):
        drawn = one.draw(i)
        assert len(drawn.first) + len(drawn.second) <= 45
        assert min(len(drawn.first), len(drawn.second)) > 0
        assert drawn.document == one.document_of(i)
        assert sentence_tokens(corpus, drawn.start, drawn.first)
        assert sentence_tokens(corpus, drawn.second_start, drawn.second)
        # No true next segment is a document's first sentence, so no random one may be.
        assert drawn.second_start not in corpus.documents
        assert drawn.document != drawn.other if drawn.label else drawn.document == drawn.other
        assert corpus.files[drawn.document] == corpus.files[drawn.other]
        if not drawn.label:
            assert drawn.second_start > drawn.start


def test_swapped_segments_are_those_in_order_swapped(corpus: Corpus) -> None:
    one = sampler(corpus, "sop")
    labels = set()
    for i in range(40):
        drawn = one.draw(i)
        labels.add(drawn.label)
        assert drawn.document == drawn.other
        early, late = (drawn.second, drawn.first) if drawn.label else (drawn.first, drawn.second)
        assert sentence_tokens(corpus, drawn.start, early)
        assert sentence_tokens(corpus, drawn.second_start, late)
    assert labels == {0, 1}


def test_single_segments_cover_every_sentence(corpus: Corpus) -> None:
    one = sampler(corpus, "none")
    drawn = [one.draw(i) for i in range(one.anchors)]
    assert sorted(each.start for each in drawn) == list(range(corpus.facts.sentences))
    assert all(len(each.second) == 0 and 0 < len(each.first) <= 45 for each in drawn)


def test_segments_are_filled_but_for_the_short_share(corpus: Corpus) -> None:
    def full(short: float) -> float:
        one = sampler(corpus, short=short, budget=60)
        sums = [len(d.first) + len(d.second) for d in map(one.draw, range(200))]
        return float(np.mean(np.array(sums) == 60))

    # Starts near the end of these short documents cannot fill a row.
    assert full(0.0) > 0.6
    assert full(1.0) < 0.3


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [((3, 4), (3, 4)), ((2, 20), (2, 8)), ((20, 3), (7, 3)), ((20, 20), (5, 5)), ((5, 6), (5, 5))],
)
def test_the_longer_side_is_cut_first(lengths: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fair_lengths(*lengths, 10) == expected


def test_the_second_segment_and_the_lengths_do_not_betray_the_label(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    source = rule_source("en", documents=400, seed=(0, 0))
    tokenizer, _ = load_or_train_tokenizer([source], kind="wordpiece", vocabulary=800, lowercase=True, cache=tmp_path)
    one = sampler(build_index([source], tokenizer, cache=tmp_path)["train"], budget=61)
    drawn = [one.draw(i) for i in range(3000)]
    label = np.array([d.label for d in drawn])
    lengths = np.array([(len(d.first), len(d.second), len(d.first) + len(d.second)) for d in drawn])
    words = CountVectorizer(analyzer=lambda d: d.second.tolist()).fit_transform(drawn)
    for inputs in (lengths, np.column_stack([lengths, lengths**2]), words):
        right = LogisticRegression(max_iter=2000).fit(inputs[:2000], label[:2000]).score(inputs[2000:], label[2000:])
        # 1,000 examples: three standard errors of a coin are 0.047.
        assert abs(right - 0.5) < 0.05
    places = [np.mean([d.second_start - one.corpus.documents[d.other] for d in drawn if d.label == k]) for k in (0, 1)]
    assert places[0] == pytest.approx(places[1], rel=0.05)


def test_one_document_a_file_is_drawn_from_all_files(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    for number in range(4):
        write_documents(tmp_path / f"{number}.txt", documents=1, start=number)
    corpus = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache")["train"]
    one = sampler(corpus)
    assert {one.draw(i).other for i in range(40)} == {0, 1, 2, 3}


def test_a_document_that_holds_nearly_all_of_a_source_finds_another(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    most = "\n".join(f"the man sleeps at {place}" for place in range(6000))
    (tmp_path / "a.txt").write_text(f"{most}\n\na dog runs\nno dog eats\n\nall men\n\nsome man\nno man\n")
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    one = sampler(corpus)
    drawn = [one.draw(index) for index in range(40)]
    assert {each.other for each in drawn if each.label} == {1, 3}
    assert all(each.other == 0 for each in drawn if not each.label)


def test_copies_of_a_document_are_no_other_document(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    text = "the man\na dog\nno woman\n\n"
    (tmp_path / "a.txt").write_text(text * 3)
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    with pytest.raises(UserError, match=r"single document.*3 documents, one of two sentences or more"):
        sampler(corpus)
    (tmp_path / "a.txt").write_text(text * 3 + "the man\nall\n")
    one = sampler(index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"])
    assert all(3 in (each.document, each.other) for each in map(one.draw, range(20)) if each.label)


def test_documents_that_go_on_alike_are_still_other_documents(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    (tmp_path / "a.txt").write_text("the man\nall\n\na dog\nall\n\nno woman\nall\n")
    one = sampler(index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"])
    assert all(each.document != each.other for each in map(one.draw, range(12)) if each.label)


def test_a_source_of_too_few_documents_is_drawn_with_its_neighbour_alone(
    tmp_path: Path, tokenizer: PairTokenizer
) -> None:
    def groups(*counts: int) -> tuple[int, ...]:
        folder = tmp_path / "-".join(map(str, counts))
        folder.mkdir()
        for number, count in enumerate(counts):
            write_documents(folder / f"{number:02}.txt", documents=count, start=100 * number)
        one = sampler(index(folder / "*.txt", tokenizer, folder / "cache")["train"])
        source = one.corpus.files
        for drawn in map(one.draw, range(0, 60)):
            low = max(bound for bound in one.groups if bound <= drawn.document)
            assert low <= drawn.other < one.groups[one.groups.index(low) + 1]
        assert all(bound == len(source) or source[bound] != source[bound - 1] for bound in one.groups[1:])
        return one.groups

    assert groups(3, 2, 4) == (0, 3, 5, 9)
    assert groups(3, 1, 4) == (0, 4, 8)
    assert groups(1, 3, 4) == (0, 4, 8)
    assert groups(1, 1, 1, 4) == (0, 3, 7)
    assert groups(1, 1, 3, 1, 2, 1) == (0, 2, 6, 9)


def test_sources_that_share_documents_are_named(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    for number, count in enumerate((3, 1, 2)):
        write_documents(tmp_path / f"{number}.txt", documents=count, start=100 * number)
    corpus = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache")["train"]
    (note,) = sampler(corpus).notes()
    assert "0.txt" in note
    assert "1.txt" in note
    assert "2.txt" not in note
    assert sampler(corpus, "sop").notes() == ()


@pytest.mark.parametrize(
    ("text", "objective", "words"),
    [
        ("the man\na dog\nno man\n", "nsp", "single document.*blank line"),
        ("the man\n\na dog\n\nno man\n", "nsp", "one sentence only"),
        ("the man\n\na dog\n\nno man\n", "sop", "one sentence only"),
        ("the man\na dog\n\nno man\n", "nsp", "single document.*2 documents, one of two"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(
    tmp_path: Path, tokenizer: PairTokenizer, text: str, objective: str, words: str
) -> None:
    (tmp_path / "a.txt").write_text(text)
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    with pytest.raises(UserError, match=words):
        sampler(corpus, objective)
    assert len(sampler(corpus, "none")) == 2


def test_labels_are_named_in_words() -> None:
    assert LABELS["nsp"][0] == "is next"
    assert LABELS["sop"] == ("in order", "swapped")


def test_sentences_longer_than_a_row_are_cut_and_counted(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    long = " ".join(["the man"] * 60)
    (tmp_path / "a.txt").write_text(f"{long}\na dog\n{long}\n\nno man\na woman\nall {long}\n")
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    assert corpus.longer_than(45) == 3
    drawn = [sampler(corpus).draw(i) for i in range(8)]
    assert max(len(d.first) + len(d.second) for d in drawn) == 45
    assert all(min(len(d.first), len(d.second)) > 0 for d in drawn)
    assert [low < high for low, high in pairwise(corpus.documents)]
