from typing import Literal

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.evaluation.baselines import lexical_baselines
from pairjax.evaluation.words import length_features, overlap_features

LABELS = ("contradiction", "entailment", "neutral")
WORDS = [f"word{index}" for index in range(60)]


def data_of(rows: list[tuple[str, str, int]], *, task: TaskSpec | None = None) -> PairData:
    def pairs(part: list[tuple[str, str, int]]) -> Pairs:
        first, second, label = zip(*part, strict=True)
        kind = np.int32 if task is None or task.kind == "classification" else np.float32
        return Pairs(tuple(first), tuple(second), np.array(label, kind))

    half = len(rows) * 2 // 3
    return PairData(
        task=task or TaskSpec("classification", LABELS),
        splits={"train": pairs(rows[:half]), "dev": pairs(rows[half:])},
        source={},
    )


def texts(rng: np.random.Generator, count: int = 6) -> str:
    return " ".join(rng.choice(WORDS, count))


def accuracies(data: PairData) -> dict[str, float]:
    return {name: scores["accuracy"]["value"] for name, scores in lexical_baselines(data).items()}


def test_without_a_leak_every_baseline_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    rows = [(texts(rng), texts(rng), index % 3) for index in range(3000)]
    result = accuracies(data_of(rows))
    assert set(result) == {"majority", "length", "hypothesis_only", "word_overlap"}
    assert all(abs(value - 1 / 3) < 0.06 for value in result.values())


def test_a_second_text_that_reveals_the_label_is_detected_even_if_each_word_says_little() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(3000):
        # Each class prefers a third of the words, by odds of two to one.
        odds = np.where(np.arange(60) % 3 == index % 3, 2.0, 1.0)
        rows.append((texts(rng), " ".join(rng.choice(WORDS, 8, p=odds / odds.sum())), index % 3))
    result = accuracies(data_of(rows))
    assert result["hypothesis_only"] > 0.5
    assert abs(result["word_overlap"] - 1 / 3) < 0.06


def test_overlap_and_negation_that_reveal_the_label_are_detected() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(900):
        text = texts(rng)
        rows.append((text, {0: f"not {text}", 1: text, 2: texts(rng)}[index % 3], index % 3))
    assert accuracies(data_of(rows))["word_overlap"] > 0.95


def test_lengths_that_reveal_the_label_are_detected() -> None:
    rng = np.random.default_rng(0)
    rows = [(texts(rng), texts(rng, 3 + 4 * (index % 3)), index % 3) for index in range(900)]
    assert accuracies(data_of(rows))["length"] > 0.95


def test_majority_is_the_most_frequent_class_of_train_with_wilsons_interval() -> None:
    rng = np.random.default_rng(0)
    rows = [(texts(rng), texts(rng), int(index % 4 == 0)) for index in range(300)]
    data = data_of(rows, task=TaskSpec("classification", ("a", "b"), positive="b"))
    result = lexical_baselines(data)["majority"]["accuracy"]
    assert result["value"] == accuracy_score(data.splits["dev"].label, np.zeros(100))
    # Wilson (1927) for 75 of 100, as statsmodels' proportion_confint(75, 100, method="wilson") gives it.
    assert (result["low"], result["high"]) == pytest.approx((0.6569, 0.8245), abs=1e-4)


def test_regression_gives_rank_correlations_with_intervals() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(600):
        common, words = int(rng.integers(0, 7)), rng.choice(WORDS, 12, replace=False)
        rows.append((" ".join(words[:6]), " ".join([*words[:common], *words[6 : 12 - common]]), common))
    result = lexical_baselines(data_of(rows, task=TaskSpec("regression")))
    assert set(result) == {"length", "hypothesis_only", "word_overlap"}
    overlap = result["word_overlap"]["spearman"]
    assert 0.9 < overlap["low"] <= overlap["value"] <= overlap["high"] <= 1
    assert abs(result["hypothesis_only"]["spearman"]["value"]) < 0.25


def test_features_of_empty_texts_are_finite() -> None:
    pairs = Pairs(("", "a b"), ("", ""), None)
    assert np.isfinite(length_features(pairs)).all()
    assert np.isfinite(overlap_features(pairs)).all()
    assert length_features(Pairs((), (), None)).shape == (0, 6)


def test_contracted_and_portuguese_negations_are_counted() -> None:
    pairs = Pairs(("It isn't so.", "Não é assim."), ("It is so.", "É assim."), None)
    assert overlap_features(pairs)[:, 5:].tolist() == [[1, 0, 1, 1], [1, 0, 1, 1]]


def test_unlabelled_and_missing_splits_are_errors() -> None:
    rows = [("a", "b", 0), ("c", "d", 1), ("e", "f", 2)]
    with pytest.raises(UserError, match="labelled pairs in test; got no such split"):
        lexical_baselines(data_of(rows), split="test")


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_texts_without_a_word_are_scored_too(kind: Literal["classification", "regression"]) -> None:
    faces = ["\N{GRINNING FACE}", "\N{CRYING FACE}", "\N{THUMBS UP SIGN}"]
    rows = [(faces[index % 3], faces[index % 2], index % 3) for index in range(90)]
    task = TaskSpec(kind, LABELS if kind == "classification" else ())
    scores = lexical_baselines(data_of(rows, task=task))
    if kind == "regression":
        assert np.isnan(scores["hypothesis_only"]["spearman"]["value"])
    else:
        assert scores["hypothesis_only"] == scores["majority"]
