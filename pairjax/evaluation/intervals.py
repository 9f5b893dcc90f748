"""Bootstrap intervals over examples, documents and seeds, and means over seeds with their spread.

Tests, corrections and power are in `pairjax.evaluation.significance`.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from pairjax.evaluation.counts import Statistic, once

LEVEL = 0.95
RESAMPLES = 1000
"""Number of resamples where neither a config nor a caller gives one."""
CHUNK = 2_000_000
"""Number of counts drawn at a time; it bounds the memory and does not change a result."""


class Interval(NamedTuple):
    """A value with the bounds of its 95 % interval; NaN if undefined."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Returns the interval as result.json holds it; NaN and infinities become null."""
        return {name: value if math.isfinite(value) else None for name, value in self._asdict().items()}


def draw_counts(size: int, *, resamples: int, seed: int) -> Iterator[Float64[np.ndarray, "chunk size"]]:
    """Yields resamples with replacement as counts of each example, a chunk of resamples at a time.

    Args:
        size: Number of examples, and of draws in each resample.
        resamples: Number of resamples in all chunks together.
        seed: Seeds the draws.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // size)
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        index = generator.integers(0, size, (chunk, size))
        index += np.arange(chunk)[:, None] * size
        yield np.bincount(index.ravel(), minlength=chunk * size).reshape(chunk, size).astype(np.float64)


def bootstrap_intervals(
    statistic: Statistic,
    size: int,
    *,
    resamples: int,
    seed: int,
    recentred: Collection[str] = (),
    group: Int[np.ndarray, " size"] | None = None,
) -> dict[str, Interval]:
    """Computes 95 % percentile bootstrap intervals of all metrics of a statistic from the same resamples.

    Args:
        statistic: Maps counts [resamples, examples] to each metric's values [resamples].
        size: Number of examples.
        resamples: Number of resamples.
        seed: Seeds the draws.
        recentred: Metrics whose resamples are shifted by their bias, mean(resamples) - value, and clipped at 0. The
            calibration error needs it: a mean of absolute values grows under resampling, so its plain percentiles are
            too high.
        group: int [N]; if given, whole groups of examples are resampled (`draw_group_counts`).

    Returns:
        The interval of each metric. Resamples in which a metric is undefined are left out; a metric that is undefined
        on the examples themselves is NaN with NaN bounds.
    """
    values = {name: float(value[0]) for name, value in statistic(once(size)).items()}
    chunks = [statistic(counts) for counts in draw_resamples(size, group, resamples=resamples, seed=seed)]
    return {
        name: interval_of(value, np.concatenate([chunk[name] for chunk in chunks]), recentred=name in recentred)
        for name, value in values.items()
    }


def interval_of(
    value: float, sampled: Float64[np.ndarray, " resamples"], *, recentred: bool = False, level: float = LEVEL
) -> Interval:
    """Returns the percentile interval of a value from its resamples; those that are not finite are left out.

    Args:
        value: The value on the examples themselves.
        sampled: float64 [resamples]; the value on each resample.
        recentred: Whether the bias is subtracted, as `bootstrap_intervals` explains.
        level: Coverage of the interval, in (0, 1).
    """
    sampled = sampled[np.isfinite(sampled)]
    if not math.isfinite(value) or len(sampled) == 0:
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(sampled, ((1 - level) / 2, (1 + level) / 2))
    if recentred:
        bias = sampled.mean() - value
        low, high = max(low - bias, 0.0), max(high - bias, 0.0)
    return Interval(value, float(low), float(high))


def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    size: int,
    *,
    resamples: int,
    seed: int,
    group: Int[np.ndarray, " size"] | None = None,
) -> dict[str, Interval]:
    """Computes intervals of the first statistic minus the second; both are resampled together (paired).

    Args:
        first: Statistic of one set of predictions.
        second: Statistic of another set of predictions for the same examples in the same order.
        size: Number of examples.
        resamples: Number of resamples.
        seed: Seeds the draws.
        group: int [N]; if given, whole groups of examples are resampled (`draw_group_counts`).

    Returns:
        The interval of each metric that both statistics have.
    """

    def difference(counts: np.ndarray) -> dict[str, np.ndarray]:
        left, right = first(counts), second(counts)
        return {name: left[name] - right[name] for name in left if name in right}

    return bootstrap_intervals(difference, size, resamples=resamples, seed=seed, group=group)


def draw_group_counts(
    group: Int[np.ndarray, " size"], *, resamples: int, seed: int
) -> Iterator[Float64[np.ndarray, "chunk size"]]:
    """Yields resamples of whole groups (documents that several pairs share) as counts of each example.

    A resample draws as many groups as there are, so its number of examples varies.

    Args:
        group: int [N]; examples with equal numbers belong to one group.
        resamples: Number of resamples in all chunks together.
        seed: Seeds the draws.
    """
    names, index = np.unique(group, return_inverse=True)
    rows = max(1, CHUNK // len(group))
    for counts in draw_counts(len(names), resamples=resamples, seed=seed):
        for start in range(0, len(counts), rows):
            yield counts[start : start + rows][:, index]


def draw_resamples(
    size: int, group: Int[np.ndarray, " size"] | None, *, resamples: int, seed: int
) -> Iterator[Float64[np.ndarray, "chunk size"]]:
    """Yields resamples of groups if there are groups (`draw_group_counts`), else of examples (`draw_counts`)."""
    if group is None:
        return draw_counts(size, resamples=resamples, seed=seed)
    return draw_group_counts(group, resamples=resamples, seed=seed)


@dataclass(frozen=True)
class Sampled:
    """A value with its bootstrap distribution, so that several values can be combined before an interval is computed.

    Attributes:
        value: The value on the data themselves.
        samples: float64 [resamples]; the value on each resample.
        cautious: float64 [resamples]; the value on resamples under weaker assumptions (`two_way_bootstrap`).
    """

    value: float
    samples: Float64[np.ndarray, " resamples"]
    cautious: Float64[np.ndarray, " resamples"]

    def __sub__(self, other: "Sampled") -> "Sampled":
        """Returns the difference, resample by resample, of two effects whose examples and runs were drawn together."""
        return combine([self, other], lambda parts: parts[0] - parts[1])

    def reversed(self) -> "Sampled":
        """Returns the value with reversed resamples, as if it were independent of others with the same draws."""
        return Sampled(self.value, self.samples[::-1], self.cautious[::-1])

    def interval(self, *, level: float = LEVEL) -> Interval:
        """Returns the percentile interval."""
        return interval_of(self.value, self.samples, level=level)

    def cautious_interval(self, *, level: float = LEVEL) -> Interval:
        """Returns the percentile interval under the weaker assumptions."""
        return interval_of(self.value, self.cautious, level=level)

    @property
    def error(self) -> float:
        """Standard error: the standard deviation of the finite resamples."""
        finite = self.samples[np.isfinite(self.samples)]
        return float(finite.std(ddof=1)) if len(finite) > 1 else math.nan

    def p_value(self, null: float = 0.0, *, cautious: bool = False) -> float:
        """Returns the two-sided p: twice the share of resamples beyond `null`, with the value itself counted as one.

        With n resamples it is at least 2 / (n + 1), so a p at this bound means `less than`.

        Args:
            null: The value of the null hypothesis.
            cautious: Whether to use the resamples under weaker assumptions.
        """
        samples = self.cautious if cautious else self.samples
        finite = samples[np.isfinite(samples)]
        if not math.isfinite(self.value) or len(finite) == 0:
            return math.nan
        below, above = float((finite <= null).sum()), float((finite >= null).sum())
        return min(1.0, 2.0 * (min(below, above) + 1.0) / (len(finite) + 1.0))


def combine(parts: Sequence[Sampled], function: Callable[[np.ndarray], np.ndarray]) -> Sampled:
    """Applies a function to several values, resample by resample.

    Args:
        parts: The values.
        function: Maps float64 [parts, n] to [n].
    """
    return Sampled(
        float(function(np.array([[part.value] for part in parts]))[0]),
        function(np.stack([part.samples for part in parts])),
        function(np.stack([part.cautious for part in parts])),
    )


def mean_of_sampled(parts: Sequence[Sampled]) -> Sampled:
    """Returns the mean of independent values, such as one effect on several tasks, resample by resample."""
    return combine(parts, lambda values: values.mean(axis=0))


def widening(runs: int, *, level: float = LEVEL) -> float:
    """Returns by how much a percentile bootstrap of a mean over few runs is too narrow: sqrt(n / (n - 1)) t / z.

    The first factor corrects a deviation with n in its denominator; the second is the quantile of Student's t with
    n - 1 degrees of freedom over the normal quantile (Hesterberg 2015, the expanded percentile interval). It is 1 for
    a single run, which has no spread.

    Args:
        runs: Number of runs, n.
        level: Coverage of the interval, in (0, 1).
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    if runs < 2:
        return 1.0
    quantile = (1 + level) / 2
    return math.sqrt(runs / (runs - 1)) * float(student.ppf(quantile, runs - 1) / norm.ppf(quantile))


def two_way_bootstrap(
    runs: Sequence[Statistic],
    size: int,
    *,
    resamples: int,
    seed: int,
    group: Int[np.ndarray, " size"] | None = None,
    clusters: Int[np.ndarray, " size"] | None = None,
    runs_seed: int | None = None,
    over_runs: bool = True,
    over_examples: bool = True,
    level: float = LEVEL,
) -> dict[str, Sampled]:
    """Bootstraps the mean over runs of each metric; examples and runs (seeds) are resampled together.

    A score depends on the sample of test pairs and on the sample of seeds, so an interval over only one of them is too
    narrow. All runs are resampled with the same pairs. For the difference of two arms, pass the statistics of the
    difference, run by run, so that both are paired.

    The resamples are drawn twice: as requested, and cautiously, with whole clusters of examples and with the spread of
    the runs widened for their small number (`widening`).

    Args:
        runs: The statistic of each run, on the same examples in the same order.
        size: Number of examples.
        resamples: Number of resamples.
        seed: Seeds the draws.
        group: int [N]; if given, whole groups of examples are drawn (`draw_group_counts`).
        clusters: int [N]; groups for the cautious draws; by default, `group`.
        runs_seed: Seeds the draws of runs separately, so that the same runs are drawn alike for several sets of
            examples.
        over_runs: Whether runs are resampled.
        over_examples: Whether examples are resampled.
        level: Coverage of the intervals that will be read from the cautious draws.

    Returns:
        The mean of each metric with its bootstrap distributions.

    Raises:
        ValueError: There are no runs.
    """
    if not runs:
        raise ValueError("no runs to take the mean of")
    count = len(runs)
    plain = [run(once(size)) for run in runs]
    values = {name: float(np.mean([scores[name][0] for scores in plain])) for name in plain[0]}
    examples_seed, own = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
    runs_seed = own if runs_seed is None else runs_seed
    shares = np.full((resamples, count), 1.0 / count)
    if over_runs:
        shares = np.concatenate(list(draw_counts(count, resamples=resamples, seed=runs_seed))) / count
    wider = 1.0 / count + widening(count, level=level) * (shares - 1.0 / count)

    def sample(shares: np.ndarray, group: np.ndarray | None) -> dict[str, np.ndarray]:
        if not over_examples:
            return {name: shares @ np.array([float(scores[name][0]) for scores in plain]) for name in values}
        chunks = draw_resamples(size, group, resamples=resamples, seed=examples_seed)
        return _means_over_runs(runs, list(values), shares, chunks)

    samples, cautious = sample(shares, group), sample(wider, group if clusters is None else clusters)
    return {name: Sampled(values[name], samples[name], cautious[name]) for name in values}


def _means_over_runs(
    runs: Sequence[Statistic], names: Sequence[str], shares: np.ndarray, chunks: Iterator[np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the mean over runs of each metric in each resample; a row of `shares` weights the runs of a resample."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    start = 0
    for counts in chunks:
        weights = shares[start : start + len(counts)]
        start += len(counts)
        totals = {name: np.zeros(len(counts)) for name in names}
        for index, run in enumerate(runs):
            weight = weights[:, index]
            for name, scores in run(counts).items():
                # A run without weight adds nothing, even if its metric is undefined.
                totals[name] += np.where(weight != 0, weight * scores, 0.0)
        for name in names:
            parts[name].append(totals[name])
    return {name: np.concatenate(parts[name]) for name in names}


@dataclass(frozen=True)
class Spread:
    """A mean over runs with its spread.

    Attributes:
        mean: Mean of the runs.
        deviation: Standard deviation of the runs (with n - 1); NaN for one run.
        low: Lower bound of the mean's 95 % interval by Student's t; NaN for one run.
        high: Upper bound of that interval; NaN for one run.
        runs: Number of runs.
    """

    mean: float
    deviation: float
    low: float
    high: float
    runs: int


def mean_and_spread(values: Sequence[float], *, overlap: float = 0.0) -> Spread:
    """Computes mean, standard deviation and t-interval over runs with different seeds, or over folds.

    The scores of folds are not independent, since their training sets overlap: the variance of their mean is
    (1 / n + overlap) s^2, not s^2 / n (Nadeau and Bengio 2003).

    Args:
        values: The score of each run or fold.
        overlap: Number of test pairs over training pairs, 1 / (k - 1) for k folds; 0 for independent runs.

    Raises:
        ValueError: There are no runs.
    """
    from scipy.stats import t as student

    if not values:
        raise ValueError("no runs to take the mean of")
    runs, mean = len(values), float(np.mean(values))
    if runs == 1:
        return Spread(mean, math.nan, math.nan, math.nan, 1)
    deviation = float(np.std(values, ddof=1))
    half = float(student.ppf((1 + LEVEL) / 2, runs - 1)) * deviation * math.sqrt(1 / runs + overlap)
    return Spread(mean, deviation, mean - half, mean + half, runs)


def wilson_interval(right: int, total: int) -> Interval:
    """Returns a share with its 95 % interval (Wilson 1927, the score interval of a binomial proportion).

    Args:
        right: Number of successes.
        total: Number of trials, at least one.
    """
    z, share = 1.959963984540054, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    # At both ends the bound is the share itself, which rounding would miss.
    return Interval(share, middle - half if right else 0.0, middle + half if right < total else 1.0)
