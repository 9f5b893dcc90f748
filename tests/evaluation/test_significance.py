"""Tests and corrections against SciPy, brute force and published tables."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pairjax.evaluation.significance import (
    expected_maximum,
    holm,
    mcnemar,
    paired_permutation,
    smallest_difference,
)


def scipy_permutation(one: np.ndarray, other: np.ndarray, resamples: float) -> float:
    result = scipy_stats.permutation_test(
        (one, other),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


@pytest.mark.parametrize("seed", range(4))
def test_permutation_of_few_pairs_is_scipys_exact_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=10), rng.normal(0.4, 1.0, size=10)
    assert paired_permutation(one, other) == pytest.approx(scipy_permutation(one, other, np.inf))


def test_permutation_of_many_pairs_is_close_to_scipys_and_a_function_of_the_seed() -> None:
    rng = np.random.default_rng(1)
    one = (rng.random(400) < 0.70).astype(float)
    other = np.where(rng.random(400) < 0.2, (rng.random(400) < 0.6).astype(float), one)
    result = paired_permutation(one, other, resamples=20000, seed=3)
    # Two estimates of one p from 20,000 and 10,000 exchanges: five standard errors of their difference.
    expected = scipy_permutation(one, other, 9999)
    error = math.sqrt(expected * (1 - expected) * (1 / 20000 + 1 / 9999))
    assert abs(result - expected) < 5 * error
    assert result == paired_permutation(one, other, resamples=20000, seed=3)


def test_permutation_of_equal_values_is_1_and_never_0() -> None:
    same = np.arange(50.0)
    assert paired_permutation(same, same) == 1.0
    assert paired_permutation(same + 1.0, same, resamples=99) == pytest.approx(1 / 100)


def test_permutation_of_groups_exchanges_their_pairs_together() -> None:
    rng = np.random.default_rng(4)
    one, other, group = rng.normal(0.3, 1.0, size=30), rng.normal(size=30), np.repeat([7, 3, 9, 1, 5, 0], 5)
    sums = np.array([(one - other)[group == number].sum() for number in np.unique(group)])
    assert paired_permutation(one, other, group=group) == pytest.approx(paired_permutation(sums, np.zeros(6)))
    assert paired_permutation(one, other, group=np.arange(30)) == paired_permutation(one, other)
    # Copies of one pair are no evidence: 40 equal differences in one group say as little as one.
    assert paired_permutation(np.ones(40), np.zeros(40), group=np.zeros(40, np.int64)) == 1.0


def test_permutation_of_groups_keeps_its_level_and_that_of_pairs_does_not() -> None:
    rng, group = np.random.default_rng(2), np.repeat(np.arange(20), 5)
    draws = [np.repeat(rng.normal(size=20), 5) + 0.3 * rng.normal(size=100) for _ in range(200)]
    low = [paired_permutation(draw, np.zeros(100), group=group, resamples=199) <= 0.05 for draw in draws]
    # 5 % of 200 is 10, standard deviation 3.1.
    assert 2 <= sum(low) <= 20
    assert sum(paired_permutation(draw, np.zeros(100), resamples=199) <= 0.05 for draw in draws) > 50


def test_permutation_keeps_its_level_under_the_null() -> None:
    rng = np.random.default_rng(0)
    low = [paired_permutation(*rng.normal(size=(2, 30)), resamples=199, seed=s) <= 0.05 for s in range(400)]
    # 5 % of 400 is 20, standard deviation 4.4.
    assert 6 <= sum(low) <= 34


def test_mcnemar_is_the_binomial_test_of_the_differing_pairs() -> None:
    one = np.array([True] * 12 + [False] * 3 + [True] * 20 + [False] * 5)
    other = np.array([False] * 12 + [True] * 3 + [True] * 20 + [False] * 5)
    result = mcnemar(one, other)
    assert (result.only_one, result.only_other) == (12, 3)
    by_hand = 2 * sum(math.comb(15, k) for k in range(4)) / 2**15
    assert result.p == pytest.approx(by_hand)
    assert mcnemar(other, one).p == pytest.approx(by_hand)
    assert mcnemar(one, one) == (0, 0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_with_bonferronis_local_tests(seed: int) -> None:
    p = np.random.default_rng(seed).random(5) ** 3
    families = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
    expected = [max(min(1.0, len(s) * min(p[j] for j in s)) for s in families if i in s) for i in range(5)]
    assert holm(list(p)) == pytest.approx(expected)


def test_holm_keeps_nan_and_counts_it() -> None:
    result = holm([0.01, math.nan])
    assert result[0] == pytest.approx(0.02)
    assert math.isnan(result[1])
    assert holm([]) == ()


def test_expected_maximum_is_the_mean_over_all_subsets() -> None:
    scores = np.array([0.3, 0.9, 0.5, 0.5, 0.7, 0.1])
    expected = [np.mean([max(s) for s in itertools.combinations(scores, n)]) for n in range(1, 7)]
    np.testing.assert_allclose(expected_maximum(scores), expected, rtol=1e-12)


def test_expected_maximum_of_many_trials_is_finite_and_rises() -> None:
    scores = np.random.default_rng(0).random(3000)
    result = expected_maximum(scores)
    assert result[0] == pytest.approx(scores.mean())
    assert result[-1] == pytest.approx(scores.max())
    assert (np.diff(result) > -1e-9).all()
    with pytest.raises(ValueError, match="finite"):
        expected_maximum(np.array([0.1, np.nan]))


def test_smallest_difference_has_its_power() -> None:
    size = smallest_difference(0.7)
    drawn = np.random.default_rng(0).normal(size, 0.7, 40000)
    assert (np.abs(drawn) > scipy_stats.norm.ppf(0.975) * 0.7).mean() == pytest.approx(0.8, abs=0.01)
