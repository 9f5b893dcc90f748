"""Figures of held-out text against hand computation; baselines that find a planted leak and nothing else."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.data.masking import RowMaker, build_masking
from pairjax.data.nsp import build_sampler
from pairjax.pretrain import baselines
from pairjax.pretrain.baselines import SegmentTexts, baseline_scores, segment_texts
from pairjax.pretrain.held_out import HeldOut, quick_scores, scores_with_intervals, sizes
from tests.data.texts import index, tiny_tokenizer, write_documents


def three_documents() -> HeldOut:
    """Five examples of three documents."""
    return HeldOut(
        document=np.array([7, 7, 9, 4, 9]),
        label=np.array([0, 1, 0, 1, 1]),
        probability=np.array([0.1, 0.9, 0.8, 0.2, 0.7]),
        segment_loss=np.array([0.1, 0.2, 1.6, 1.5, 0.4]),
        masked=np.array([4.0, 2.0, 1.0, 3.0, 2.0]),
        masked_loss=np.array([4.0, 1.0, 3.0, 2.0, 2.0]),
        masked_correct=np.array([2.0, 2.0, 0.0, 1.0, 1.0]),
        unmasked_probability=np.array([0.1, 0.9, 0.2, 0.6, 0.3]),
    )


def test_the_figures_are_those_of_a_hand_computation() -> None:
    actual = quick_scores(three_documents(), segments=True)
    # Each masked token counts once: 12 of them, 12 nats, 6 right; of five segments three are told.
    expected = {"mlm_loss": 1.0, "mlm_perplexity": math.e, "mlm_accuracy": 0.5}
    expected |= {"segment_accuracy": 0.6, "segment_loss": 3.8 / 5, "loss": 1.0 + 3.8 / 5}
    assert actual == pytest.approx(expected)
    alone = quick_scores(three_documents(), segments=False)
    assert alone == pytest.approx({"mlm_loss": 1.0, "mlm_perplexity": math.e, "mlm_accuracy": 0.5, "loss": 1.0})


def test_the_scores_with_intervals_have_the_same_values_and_resample_documents() -> None:
    actual = scores_with_intervals(three_documents(), segments=True, bootstrap=2000)
    quick = quick_scores(three_documents(), segments=True)
    assert {name: actual[name]["value"] for name in quick if name != "loss"} == pytest.approx(
        {name: value for name, value in quick.items() if name != "loss"}
    )
    assert actual["segment_accuracy_unmasked"]["value"] == pytest.approx(0.8)
    # Documents 7, 9 and 4 have 6, 3 and 3 tokens of 5, 5 and 2 nats; of 27 resamples one is of 9 alone and one of 4.
    assert actual["mlm_loss"]["low"] == pytest.approx(2 / 3)
    assert actual["mlm_loss"]["high"] == pytest.approx(5 / 3)
    assert actual["mlm_perplexity"]["low"] == pytest.approx(math.exp(2 / 3))
    assert actual["mlm_perplexity"]["high"] == pytest.approx(math.exp(5 / 3))
    # Documents 7, 9 and 4 are right 2 of 2, 1 of 2 and 0 of 1.
    assert (actual["segment_accuracy"]["low"], actual["segment_accuracy"]["high"]) == (0.0, 1.0)
    assert sizes(three_documents()) == {"examples": 5, "documents": 3, "masked_tokens": 12}


def test_segments_that_were_not_read_whole_or_at_all_have_no_figure() -> None:
    once = dataclasses.replace(three_documents(), unmasked_probability=None)
    assert "segment_accuracy_unmasked" not in scores_with_intervals(once, segments=True, bootstrap=100)
    assert set(scores_with_intervals(once, segments=False, bootstrap=100)) == {
        "mlm_loss",
        "mlm_perplexity",
        "mlm_accuracy",
    }


def segments(*, seed: int, examples: int, leak: bool) -> SegmentTexts:
    """Segments of random words; B of label 0 shares half of A's words, and of label 1, with a leak, names itself."""
    rng = np.random.default_rng(seed)
    label = np.arange(examples) % 2
    words = np.array([f"word{number}" for number in range(400)])
    first = [rng.choice(words, 10).tolist() for _ in range(examples)]
    second = [
        [*(a[:5] if not one else rng.choice(words, 5)), *rng.choice(words, 5)]
        for a, one in zip(first, label, strict=True)
    ]
    if leak:
        second = [[*b, "telltale"] if one else [*b, "word1"] for b, one in zip(second, label, strict=True)]
    lengths = np.array([(len(a), len(b)) for a, b in zip(first, second, strict=True)], np.float64)
    joined = ([" ".join(side) for side in sides] for sides in (first, second))
    return SegmentTexts(*joined, lengths, label, np.arange(examples) // 4)


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Path:
        raise UserError(f"{name}: not installed")

    monkeypatch.setattr(baselines, "resolve_encoder", absent)


@pytest.mark.usefixtures("no_encoder")
def test_the_second_segment_alone_finds_a_planted_leak_and_overlap_what_the_segments_share() -> None:
    held_out = {"dev": segments(seed=1, examples=200, leak=True), "test": segments(seed=2, examples=120, leak=True)}
    right = {"dev": np.ones(200, bool), "test": np.ones(120, bool)}
    actual = baseline_scores(segments(seed=0, examples=400, leak=True), held_out, right, bootstrap=200)
    assert set(actual.accuracy) == set(actual.margin) == {"dev", "test"}
    for scores in actual.accuracy.values():
        assert scores["second_alone"].low > 0.95
        assert scores["tfidf_overlap"].low > 0.9
        assert scores["majority"].value == 0.5
        assert scores["lengths"].value == 0.5
        assert "frozen_minilm" not in scores
    assert "left out" in actual.notes[0]


@pytest.mark.usefixtures("no_encoder")
def test_the_second_segment_alone_is_at_chance_without_a_leak() -> None:
    train, dev = segments(seed=0, examples=400, leak=False), segments(seed=1, examples=400, leak=False)
    actual = baseline_scores(train, {"dev": dev}, {"dev": np.ones(400, bool)}, bootstrap=1000).accuracy["dev"]
    assert actual["second_alone"].low < 0.5 < actual["second_alone"].high
    assert actual["tfidf_overlap"].low > 0.9


@pytest.mark.usefixtures("no_encoder")
def test_a_margin_over_a_baseline_is_of_the_same_resamples_as_the_two() -> None:
    train, dev = segments(seed=0, examples=400, leak=False), segments(seed=1, examples=400, leak=False)
    perfect, even = np.ones(400, bool), dev.label == 0
    best, same = (baseline_scores(train, {"dev": dev}, {"dev": right}, bootstrap=1000) for right in (perfect, even))
    for name, score in best.accuracy["dev"].items():
        # Where the model is never wrong, its margin is the baseline's errors, resample by resample.
        expected = [1.0 - score.value, 1.0 - score.high, 1.0 - score.low]
        assert list(best.margin["dev"][name]) == pytest.approx(expected)
    # A model that answers as the baseline does has a margin of 0 in every resample, though both scores vary.
    assert list(same.margin["dev"]["majority"]) == [0.0, 0.0, 0.0]


@pytest.mark.usefixtures("no_encoder")
def test_answers_stand_beside_their_own_labels_and_documents() -> None:
    train, dev = segments(seed=0, examples=400, leak=True), segments(seed=1, examples=200, leak=True)
    order = np.random.default_rng(3).permutation(200)
    shuffled = SegmentTexts(
        [dev.first[i] for i in order],
        [dev.second[i] for i in order],
        *(value[order] for value in (dev.lengths, dev.label, dev.document)),
    )
    right = {"dev": np.ones(200, bool)}
    one, two = (baseline_scores(train, {"dev": each}, right, bootstrap=200).accuracy["dev"] for each in (dev, shuffled))
    assert one == two
    # Labels that are another row's say nothing.
    rolled = dev._replace(label=np.roll(dev.label, 1))
    wrong = baseline_scores(train, {"dev": rolled}, right, bootstrap=200).accuracy["dev"]
    assert wrong["second_alone"].high < 0.05


def test_segment_texts_are_the_examples_that_the_model_reads(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    write_documents(tmp_path / "a.txt", documents=8)
    corpus = index(tmp_path / "a.txt", tokenizer, tmp_path / "cache")["train"]
    sampler = build_sampler(corpus, "nsp", budget=45, short=0.1, seed=0, what="a.txt")
    maker = RowMaker(sampler, build_masking(tokenizer, rate=0.15, most=7, whole_words=False), tokenizer, 48)
    drawn = segment_texts(maker, 6)
    batch = maker.batch(np.arange(6))
    assert drawn.label.tolist() == np.asarray(batch.label)[:, 0].tolist()
    for row, (one, a, b) in enumerate(zip(map(sampler.draw, range(6)), drawn.first, drawn.second, strict=True)):
        assert a == tokenizer.backend.decode(one.first.tolist())
        assert b == tokenizer.backend.decode(one.second.tolist())
        assert drawn.lengths[row].tolist() == [len(one.first), len(one.second)]
        assert drawn.document[row] == one.document
        assert drawn.lengths[row].sum() + 3 == np.asarray(batch.pair_ids)[row].sum()
