"""Ranking metrics: worked examples, and scikit-learn as the oracle."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from pairjax.base.types import TaskSpec
from pairjax.evaluation.metrics import quick_scores
from pairjax.evaluation.rank_metrics import average_precision, group_scores
from pairjax.evaluation.scores import score

TWO = TaskSpec("classification", ("no", "yes"), positive="yes")


def draw(groups: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    relevant = rng.random((groups, size)) < 0.3
    relevant[:, 0], relevant[:, 1] = True, False
    values = rng.permuted(np.arange(groups * size).reshape(groups, size), axis=1) + 3.5 * relevant
    return values.astype(np.float64), relevant, np.repeat(np.arange(groups), size).reshape(groups, size)


def test_ranking_metrics_by_hand() -> None:
    # Relevant at ranks 2 and 3 of 3, and at rank 1 of 2.
    scores = group_scores(
        np.array([0.9, 0.8, 0.7, 0.1, 0.6]), np.array([False, True, True, False, True]), np.array([0, 0, 0, 1, 1])
    )
    np.testing.assert_allclose(scores["mrr@10"], [1 / 2, 1.0])
    np.testing.assert_allclose(scores["map"], [(1 / 2 + 2 / 3) / 2, 1.0])
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(scores["ndcg@10"], [(1 / np.log2(3) + 1 / np.log2(4)) / ideal, 1.0])


def test_only_the_first_ten_candidates_count_for_mrr_and_ndcg() -> None:
    relevant = np.arange(12) == 11
    scores = group_scores(-np.arange(12.0), relevant, np.zeros(12, np.int64))
    assert (scores["mrr@10"][0], scores["ndcg@10"][0], scores["map"][0]) == (0.0, 0.0, pytest.approx(1 / 12))


def test_equal_scores_count_against_the_model_and_groups_of_one_kind_are_left_out() -> None:
    tied = group_scores(np.zeros(4), np.array([True, False, False, False]), np.zeros(4, np.int64))
    assert tied["mrr@10"].tolist() == [0.25]
    single = group_scores(np.zeros(4), np.array([True, True, False, False]), np.array([0, 0, 1, 1]))
    assert [len(values) for values in single.values()] == [0, 0, 0]


@pytest.mark.parametrize("size", [4, 25])
def test_ndcg_and_average_precision_equal_scikit_learns_in_any_order_of_rows(size: int) -> None:
    values, relevant, group = draw(8, size)
    order = np.random.default_rng(1).permutation(values.size)
    scores = group_scores(values.ravel()[order], relevant.ravel()[order], group.ravel()[order])
    for index in range(8):
        wanted = ndcg_score([relevant[index]], [values[index]], k=10)
        assert scores["ndcg@10"][index] == pytest.approx(wanted)
        assert scores["map"][index] == pytest.approx(average_precision_score(relevant[index], values[index]))


def test_average_precision_of_resamples_equals_scikit_learns_with_weights() -> None:
    rng = np.random.default_rng(0)
    values, relevant = rng.integers(0, 12, 60).astype(np.float64), rng.random(60) < 0.4
    counts = rng.integers(0, 3, (5, 60)).astype(np.float64)
    actual = average_precision(values, relevant, counts)
    for row, count in enumerate(counts):
        kept = count > 0
        wanted = average_precision_score(relevant[kept], values[kept], sample_weight=count[kept])
        assert actual[row] == pytest.approx(wanted)


def test_groups_add_their_metrics_with_intervals_over_groups() -> None:
    values, relevant, group = draw(40, 6)
    outputs = np.stack([np.zeros(values.size), values.ravel() / 50.0], axis=1).astype(np.float32)
    label = relevant.ravel().astype(np.int64)
    result = score(TWO, outputs, label, bootstrap=200, seed=0, group=group.ravel())
    quick = quick_scores(TWO, outputs, label, group=group.ravel())
    for name in ("mrr@10", "ndcg@10", "map"):
        assert result[name].low < result[name].value < result[name].high
        assert result[name].value == pytest.approx(quick[name])
    assert "map" not in score(TWO, outputs, label, bootstrap=100, seed=0)
