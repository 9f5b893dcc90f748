"""Segment pairs: functions of (seed, index), with correct, balanced labels that the second segment does not reveal."""

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
def test_the_keyed_permutation_is_a_permutation(size: int) -> None:
    orders = [[permute_index(i, size, key=key) for i in range(size)] for key in (1, 2)]
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert size < 17 or orders[0] != orders[1]


def test_an_example_is_a_function_of_seed_and_index(corpus: Corpus) -> None:
    pair_sampler, same_sampler, other_sampler = sampler(corpus), sampler(corpus), sampler(corpus, seed=1)
    for i in (5, 0, 10**12, 3):
        first, second = pair_sampler.draw(i), same_sampler.draw(i)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(pair_sampler.draw(i).first, other_sampler.draw(i).first) for i in range(10))


def test_draws_do_not_change_between_versions() -> None:
    """A run that is resumed with a later version must draw the same."""
    assert [permute_index(i, 10, key=42) for i in range(10)] == [7, 3, 6, 2, 1, 9, 5, 4, 8, 0]
    assert [int(word) for word in Stream(7, 3).words(2)] == [8893702929424106994, 13357943582879616415]


def test_labels_are_exactly_balanced_wherever_an_even_range_ends(corpus: Corpus) -> None:
    pair_sampler = sampler(corpus)
    assert len(pair_sampler) % 2 == 0
    for start, stop in ((0, len(pair_sampler)), (0, 2), (40, 46)):
        assert sum(pair_sampler.draw(index).label for index in range(start, stop)) == (stop - start) // 2
    runs = Counter(pair_sampler.label(2 * j) for j in range(400))
    assert 150 < runs[0] < 250


def test_every_sentence_but_the_last_of_a_document_is_drawn_once_in_as_many_examples(corpus: Corpus) -> None:
    pair_sampler = sampler(corpus)
    starts = [pair_sampler.draw(i).start for i in range(pair_sampler.anchors)]
    lasts = set((corpus.documents[1:] - 1).tolist())
    assert sorted(starts) == [s for s in range(corpus.facts.sentences) if s not in lasts]
    assert starts != sorted(starts)
    again = [pair_sampler.draw(i).start for i in range(pair_sampler.anchors, 2 * pair_sampler.anchors)]
    assert again != starts
    assert sorted(again) == sorted(starts)


def sentence_tokens(corpus: Corpus, start: int, tokens: np.ndarray) -> bool:
    """Returns whether the corpus has the tokens from some token of sentence `start` on, within its document."""
    document = int(np.searchsorted(corpus.documents, start, side="right")) - 1
    low, high = corpus.sentences[start], corpus.sentences[corpus.documents[document + 1]]
    text = corpus.tokens[low:high].astype(np.int32)
    return any(np.array_equal(text[i : i + len(tokens)], tokens) for i in range(len(text) - len(tokens) + 1))


def test_a_next_segment_follows_and_a_random_one_is_from_another_document(corpus: Corpus) -> None:
    pair_sampler = sampler(corpus)
    for i in range(200):
        segments = pair_sampler.draw(i)
        assert len(segments.first) + len(segments.second) <= 45
        assert min(len(segments.first), len(segments.second)) > 0
        assert segments.document == pair_sampler.document_of(i)
        assert sentence_tokens(corpus, segments.start, segments.first)
        assert sentence_tokens(corpus, segments.second_start, segments.second)
        # No true next segment is a document's first sentence, so no random one may be.
        assert segments.second_start not in corpus.documents
        assert segments.document != segments.other if segments.label else segments.document == segments.other
        assert corpus.files[segments.document] == corpus.files[segments.other]
        if not segments.label:
            assert segments.second_start > segments.start


def test_swapped_segments_are_the_ordered_ones_swapped(corpus: Corpus) -> None:
    pair_sampler = sampler(corpus, "sop")
    labels = set()
    for i in range(40):
        segments = pair_sampler.draw(i)
        labels.add(segments.label)
        assert segments.document == segments.other
        early, late = (segments.second, segments.first) if segments.label else (segments.first, segments.second)
        assert sentence_tokens(corpus, segments.start, early)
        assert sentence_tokens(corpus, segments.second_start, late)
    assert labels == {0, 1}


def test_single_segments_cover_every_sentence(corpus: Corpus) -> None:
    pair_sampler = sampler(corpus, "none")
    examples = [pair_sampler.draw(i) for i in range(pair_sampler.anchors)]
    assert sorted(example.start for example in examples) == list(range(corpus.facts.sentences))
    assert all(len(example.second) == 0 and 0 < len(example.first) <= 45 for example in examples)


def test_segments_are_full_except_for_the_short_share(corpus: Corpus) -> None:
    def full(short: float) -> float:
        pair_sampler = sampler(corpus, short=short, budget=60)
        sums = [len(d.first) + len(d.second) for d in map(pair_sampler.draw, range(200))]
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
    pair_sampler = sampler(build_index([source], tokenizer, cache=tmp_path)["train"], budget=61)
    examples = [pair_sampler.draw(i) for i in range(3000)]
    label = np.array([d.label for d in examples])
    lengths = np.array([(len(d.first), len(d.second), len(d.first) + len(d.second)) for d in examples])
    words = CountVectorizer(analyzer=lambda d: d.second.tolist()).fit_transform(examples)
    for inputs in (lengths, np.column_stack([lengths, lengths**2]), words):
        right = LogisticRegression(max_iter=2000).fit(inputs[:2000], label[:2000]).score(inputs[2000:], label[2000:])
        # 1,000 examples: three standard errors of a coin are 0.047.
        assert abs(right - 0.5) < 0.05
    places = [
        np.mean([d.second_start - pair_sampler.corpus.documents[d.other] for d in examples if d.label == k])
        for k in (0, 1)
    ]
    assert places[0] == pytest.approx(places[1], rel=0.05)


def test_one_document_a_file_is_drawn_from_all_files(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    for number in range(4):
        write_documents(tmp_path / f"{number}.txt", documents=1, start=number)
    corpus = index(tmp_path / "*.txt", tokenizer, tmp_path / "cache")["train"]
    pair_sampler = sampler(corpus)
    assert {pair_sampler.draw(i).other for i in range(40)} == {0, 1, 2, 3}


def test_a_document_that_is_nearly_all_of_a_source_finds_another(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    most = "\n".join(f"the man sleeps at {place}" for place in range(6000))
    (tmp_path / "a.txt").write_text(f"{most}\n\na dog runs\nno dog eats\n\nall men\n\nsome man\nno man\n")
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    pair_sampler = sampler(corpus)
    examples = [pair_sampler.draw(index) for index in range(40)]
    assert {example.other for example in examples if example.label} == {1, 3}
    assert all(example.other == 0 for example in examples if not example.label)


def test_copies_of_a_document_do_not_count_as_other_documents(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    text = "the man\na dog\nno woman\n\n"
    (tmp_path / "a.txt").write_text(text * 3)
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    with pytest.raises(UserError, match=r"single document.*3 documents, one of two sentences or more"):
        sampler(corpus)
    (tmp_path / "a.txt").write_text(text * 3 + "the man\nall\n")
    pair_sampler = sampler(index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"])
    assert all(3 in (example.document, example.other) for example in map(pair_sampler.draw, range(20)) if example.label)


def test_documents_with_equal_continuations_are_still_other_documents(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    (tmp_path / "a.txt").write_text("the man\nall\n\na dog\nall\n\nno woman\nall\n")
    pair_sampler = sampler(index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"])
    assert all(example.document != example.other for example in map(pair_sampler.draw, range(12)) if example.label)


def test_a_source_with_too_few_documents_is_joined_with_one_neighbour(tmp_path: Path, tokenizer: PairTokenizer) -> None:
    def groups(*counts: int) -> tuple[int, ...]:
        folder = tmp_path / "-".join(map(str, counts))
        folder.mkdir()
        for number, count in enumerate(counts):
            write_documents(folder / f"{number:02}.txt", documents=count, start=100 * number)
        pair_sampler = sampler(index(folder / "*.txt", tokenizer, folder / "cache")["train"])
        source = pair_sampler.corpus.files
        for segments in map(pair_sampler.draw, range(0, 60)):
            low = max(bound for bound in pair_sampler.groups if bound <= segments.document)
            assert low <= segments.other < pair_sampler.groups[pair_sampler.groups.index(low) + 1]
        assert all(bound == len(source) or source[bound] != source[bound - 1] for bound in pair_sampler.groups[1:])
        return pair_sampler.groups

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
def test_text_that_cannot_give_pairs_is_an_error(
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
    examples = [sampler(corpus).draw(i) for i in range(8)]
    assert max(len(d.first) + len(d.second) for d in examples) == 45
    assert all(min(len(d.first), len(d.second)) > 0 for d in examples)
    assert [low < high for low, high in pairwise(corpus.documents)]
