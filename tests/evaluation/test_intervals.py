"""Intervals against SciPy's bootstrap and t-distribution, and their coverage."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pairjax.evaluation import intervals as stats
from pairjax.evaluation import metrics
from pairjax.evaluation.intervals import Interval


def mean_of(values: np.ndarray) -> metrics.Statistic:
    return lambda counts: {"mean": metrics.mean(values, counts)}


def test_counts_are_resamples_of_the_expected_size_and_mean() -> None:
    counts = np.concatenate(list(stats.draw_counts(50, resamples=4000, seed=0)))
    assert counts.shape == (4000, 50)
    np.testing.assert_array_equal(counts.sum(axis=1), 50)
    # Binomial(50, 1/50): mean 1, variance 0.98; five standard errors of 200,000 counts.
    assert counts.var() == pytest.approx(0.98, abs=0.03)
    assert np.abs(counts.mean(axis=0) - 1.0).max() < 5 * math.sqrt(0.98 / 4000)


def test_draws_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(stats.draw_counts(31, resamples=101, seed=3)))
    monkeypatch.setattr(stats, "CHUNK", 31 * 7)
    chunks = list(stats.draw_counts(31, resamples=101, seed=3))
    assert len(chunks) == 15
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_the_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).exponential(size=120)
    found = stats.bootstrap_intervals(mean_of(values), 120, resamples=20000, seed=1)["mean"]
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    # Monte Carlo error of a 2.5 % quantile of 20,000 draws is about 0.02 standard errors of the mean.
    tolerance = 0.1 * values.std() / math.sqrt(120)
    assert found.low == pytest.approx(expected.low, abs=tolerance)
    assert found.high == pytest.approx(expected.high, abs=tolerance)


def test_the_interval_of_spearman_agrees_with_scipys_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=60).round(1)
    y = (x + rng.normal(size=60)).round(1)
    found = stats.bootstrap_intervals(
        lambda counts: {"spearman": metrics.spearman(x, y, counts)}, 60, resamples=4000, seed=0
    )["spearman"]
    expected = scipy_stats.bootstrap(
        (x, y),
        lambda a, b: scipy_stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = found.high - found.low
    assert found.low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.high, abs=0.06 * width)


def test_intervals_are_a_function_of_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=40)
    one, again, other = (
        stats.bootstrap_intervals(mean_of(values), 40, resamples=200, seed=seed)["mean"] for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert one.value == other.value


def test_95_percent_intervals_cover_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        right = (rng.random(300) < 0.8).astype(float)
        found = stats.bootstrap_intervals(mean_of(right), 300, resamples=300, seed=seed)["mean"]
        covered += found.low <= 0.8 <= found.high
    # 95 % of 400 is 380, standard deviation 4.4; the percentile method falls a little short of its level.
    assert 360 <= covered <= 396


def test_the_calibration_error_is_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    share = np.clip(rng.normal(0.5, 0.2, 200), 0.01, 0.99)
    gaps = metrics.calibration_gaps(np.stack([1 - share, share], axis=1), label)
    statistic = lambda counts: {"ece": metrics.ece(gaps, counts)}  # noqa: E731
    found = stats.bootstrap_intervals(statistic, 200, resamples=500, seed=0, recentred=("ece",))["ece"]
    plain = stats.bootstrap_intervals(statistic, 200, resamples=500, seed=0)["ece"]
    assert 0.0 <= found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(plain.high - plain.low)
    assert (plain.low + plain.high) / 2 > found.value


def test_an_undefined_metric_is_nan_with_nan_bounds_and_null_in_json() -> None:
    found = stats.bootstrap_intervals(lambda counts: {"odd": np.full(len(counts), np.nan)}, 10, resamples=100, seed=0)[
        "odd"
    ]
    assert all(map(math.isnan, found))
    assert found.to_json() == {"value": None, "low": None, "high": None}
    assert Interval(0.5, 0.25, math.inf).to_json() == {"value": 0.5, "low": 0.25, "high": None}


def test_resamples_in_which_a_metric_is_undefined_are_left_out() -> None:
    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": np.where(counts[:, 0] == 0, np.nan, 7.0)}

    assert stats.bootstrap_intervals(statistic, 4, resamples=200, seed=0)["x"] == Interval(7.0, 7.0, 7.0)


def test_a_difference_is_paired_so_it_is_exactly_0_for_equal_predictions() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random(500) < 0.7).astype(float)
    better = np.where(rng.random(500) < 0.1, 1.0, right)
    same = stats.bootstrap_difference(mean_of(right), mean_of(right), 500, resamples=200, seed=0)["mean"]
    assert same == Interval(0.0, 0.0, 0.0)
    found = stats.bootstrap_difference(mean_of(better), mean_of(right), 500, resamples=2000, seed=0)["mean"]
    assert found.value == pytest.approx((better - right).mean())
    # Paired: as wide as the mean of the differences is uncertain, much less than two scores apart would be.
    error = (better - right).std() / math.sqrt(500)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_spread_over_seeds_has_students_interval() -> None:
    values = [0.860, 0.862, 0.857]
    found = stats.mean_and_spread(values)
    expected = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.mean, found.runs) == (pytest.approx(np.mean(values)), 3)
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_one_run_has_a_mean_without_spread_and_no_run_is_an_error() -> None:
    found = stats.mean_and_spread([0.5])
    assert (found.mean, found.runs) == (0.5, 1)
    assert all(map(math.isnan, (found.deviation, found.low, found.high)))
    with pytest.raises(ValueError, match="no runs"):
        stats.mean_and_spread([])


def right(rng: np.random.Generator, runs: int, size: int, *, spread: float) -> np.ndarray:
    """Correctness [runs, size] whose runs differ by `spread` in accuracy, of pairs that differ in difficulty."""
    easy = rng.normal(0.0, 1.0, size)
    return ((easy + rng.normal(0.5, spread, (runs, 1)) + rng.normal(0.0, 0.5, (runs, size))) > 0).astype(float)


def test_the_two_way_bootstrap_has_the_error_of_examples_and_runs_together() -> None:
    rng = np.random.default_rng(0)
    estimates = [right(rng, 5, 200, spread=0.4).mean() for _ in range(1500)]
    sizes = []
    for seed in range(40):
        table = right(rng, 5, 200, spread=0.4)
        both = stats.two_way_bootstrap([mean_of(row) for row in table], 200, resamples=400, seed=seed)["mean"]
        alone = stats.two_way_bootstrap(
            [mean_of(row) for row in table], 200, resamples=400, seed=seed, over_runs=False
        )["mean"]
        assert both.value == pytest.approx(table.mean())
        assert alone.error < both.error
        sizes.append(both.error)
    # Five runs: the bootstrap over them is short by sqrt(4 / 5) in their part.
    assert np.mean(sizes) == pytest.approx(np.std(estimates), rel=0.15)


def test_the_two_way_bootstrap_over_runs_only_is_scipys_bootstrap_of_their_means() -> None:
    table = right(np.random.default_rng(1), 12, 50, spread=0.5)
    found = stats.two_way_bootstrap([mean_of(row) for row in table], 50, resamples=4000, seed=0, over_examples=False)[
        "mean"
    ].interval()
    expected = scipy_stats.bootstrap(
        (table.mean(axis=1),), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.high, abs=0.06 * width)


def test_drawing_whole_groups_widens_the_interval_of_similar_pairs() -> None:
    group = np.repeat(np.arange(30), 10) * 7
    for counts in stats.draw_group_counts(group, resamples=50, seed=0):
        by_group = counts.reshape(len(counts), 30, 10)
        assert (by_group == by_group[:, :, :1]).all()
        assert (by_group[:, :, 0].sum(axis=1) == 30).all()
    values = np.random.default_rng(0).normal(size=30).repeat(10)
    plain = stats.two_way_bootstrap([mean_of(values)], 300, resamples=2000, seed=0)["mean"]
    whole = stats.two_way_bootstrap([mean_of(values)], 300, resamples=2000, seed=0, group=group)["mean"]
    assert whole.error == pytest.approx(values[::10].std() / math.sqrt(30), rel=0.06)
    assert whole.error / plain.error == pytest.approx(math.sqrt(10), rel=0.08)


def test_cautious_draws_take_whole_clusters_and_widen_the_spread_of_few_runs() -> None:
    cluster = np.repeat(np.arange(30), 10)
    values = np.random.default_rng(0).normal(size=30).repeat(10)
    run = mean_of(values)
    asked = stats.two_way_bootstrap([run], 300, resamples=2000, seed=0)["mean"]
    found = stats.two_way_bootstrap([run], 300, resamples=2000, seed=0, clusters=cluster)["mean"]
    whole = stats.two_way_bootstrap([run], 300, resamples=2000, seed=0, group=cluster)["mean"]
    np.testing.assert_array_equal(found.samples, asked.samples)
    np.testing.assert_array_equal(found.cautious, whole.samples)
    runs = [mean_of(np.full(5, value)) for value in (1.0, 2.0, 4.0)]
    over = stats.two_way_bootstrap(runs, 5, resamples=500, seed=0, over_examples=False)["mean"]
    centre = np.mean([1.0, 2.0, 4.0])
    np.testing.assert_allclose(over.cautious - centre, stats.widening(3) * (over.samples - centre), atol=1e-12)
    assert stats.widening(3) == pytest.approx(math.sqrt(1.5) * 4.3027 / 1.9600, rel=1e-4)
    assert stats.widening(1) == 1.0


def test_cautious_intervals_of_few_runs_have_their_nominal_coverage() -> None:
    rng, plain, cautious, trials = np.random.default_rng(4), 0, 0, 300
    for seed in range(trials):
        # Runs differ, and pairs come in clusters that are easy or hard together; the mean of all is 0.
        cluster = np.repeat(np.arange(40), 3)
        table = rng.normal(size=(5, 1)) + 2.0 * rng.normal(size=40)[cluster] + rng.normal(size=(5, 120))
        found = stats.two_way_bootstrap(
            [mean_of(row) for row in table], 120, resamples=400, seed=seed, clusters=cluster
        )["mean"]
        plain += found.interval().low <= 0.0 <= found.interval().high
        low, high = found.cautious_interval()[1:]
        cautious += low <= 0.0 <= high
    assert plain / trials < 0.9
    assert cautious / trials >= 0.93


def test_functions_of_several_effects_apply_resample_by_resample() -> None:
    one = stats.Sampled(1.0, np.arange(4.0), np.arange(4.0) * 2)
    other = stats.Sampled(3.0, np.ones(4), np.ones(4))
    found = stats.combine([one, other], lambda parts: parts.max(axis=0))
    assert found.value == 3.0
    np.testing.assert_array_equal(found.samples, [1.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(found.cautious, [1.0, 2.0, 4.0, 6.0])
    np.testing.assert_array_equal((other - one.reversed()).cautious, [-5.0, -3.0, -1.0, 1.0])


def test_the_two_way_bootstrap_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    table = right(np.random.default_rng(2), 4, 60, spread=0.3)
    runs = [mean_of(row) for row in table]
    whole = stats.two_way_bootstrap(runs, 60, resamples=100, seed=5)["mean"].samples
    monkeypatch.setattr(stats, "CHUNK", 60 * 7)
    np.testing.assert_array_equal(stats.two_way_bootstrap(runs, 60, resamples=100, seed=5)["mean"].samples, whole)


def test_an_undefined_run_affects_only_the_resamples_that_draw_it() -> None:
    odd = lambda counts: {"mean": np.full(len(counts), np.nan)}  # noqa: E731
    found = stats.two_way_bootstrap([mean_of(np.ones(5)), odd], 5, resamples=400, seed=0)["mean"]
    assert math.isnan(found.value)
    assert np.isfinite(found.samples).mean() == pytest.approx(0.25, abs=0.08)


def test_the_p_of_resamples_is_two_sided_and_never_0() -> None:
    shifted = stats.Sampled(1.0, *[np.linspace(0.5, 1.5, 999)] * 2)
    assert shifted.p_value() == pytest.approx(2 / 1000)
    assert shifted.p_value(null=1.0) == pytest.approx(1.0)
    normal = stats.Sampled(1.5, *[np.random.default_rng(0).normal(1.5, 1.0, 100000)] * 2)
    assert normal.p_value() == pytest.approx(2 * scipy_stats.norm.sf(1.5), rel=0.05)


def test_the_mean_of_effects_on_several_tasks_has_the_error_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    parts = [stats.Sampled(float(i), *[rng.normal(i, 1.0, 5000)] * 2) for i in range(4)]
    found = stats.mean_of_sampled(parts)
    assert found.value == 1.5
    assert found.error == pytest.approx(0.5, rel=0.05)
