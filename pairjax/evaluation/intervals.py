"""Uncertainty: bootstrap intervals over examples, documents and seeds, and means with their spread over seeds.

Tests, corrections and power stand in `pairjax.evaluation.significance`.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from pairjax.evaluation.metrics import Statistic, once

LEVEL = 0.95
RESAMPLES = 1000
"""Number of resamples where neither a config nor a caller gives one."""
CHUNK = 2_000_000
"""Counts drawn at a time: bounds the memory, and changes no result."""


class Interval(NamedTuple):
    """A value with the bounds of its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """As in result.json: NaN and infinities become null."""
        return {name: value if math.isfinite(value) else None for name, value in self._asdict().items()}


def draw_counts(size: int, *, resamples: int, seed: int) -> Iterator[Float64[np.ndarray, "chunk size"]]:
    """Resamples with replacement, as counts of each example, a chunk of resamples at a time.

    Args:
        size: Examples; each resample draws as many.
        resamples: In all chunks together.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // size)
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        drawn = generator.integers(0, size, (chunk, size))
        drawn += np.arange(chunk)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=chunk * size).reshape(chunk, size).astype(np.float64)


def bootstrap_intervals(
    statistic: Statistic, size: int, *, resamples: int, seed: int, recentred: Collection[str] = ()
) -> dict[str, Interval]:
    """Percentile bootstrap intervals (95 %) of all metrics of a statistic, from the same resamples.

    Args:
        statistic: From counts [resamples, examples] to each metric's values [resamples].
        size: Examples.
        resamples: How many are drawn.
        seed: Of the draws.
        recentred: Metrics whose resamples are moved by their bias, mean(resamples) - value, and cut off at 0. The
            calibration error needs it: a mean of absolute values grows with every resampling, so that its plain
            percentiles lie above it.

    Returns:
        By metric. Resamples in which a metric is undefined are left out; a metric that is undefined on the examples
        themselves is NaN with NaN bounds.
    """
    values = {name: float(value[0]) for name, value in statistic(once(size)).items()}
    chunks = [statistic(counts) for counts in draw_counts(size, resamples=resamples, seed=seed)]
    return {
        name: interval_of(value, np.concatenate([chunk[name] for chunk in chunks]), recentred=name in recentred)
        for name, value in values.items()
    }


def interval_of(
    value: float, sampled: Float64[np.ndarray, " resamples"], *, recentred: bool = False, level: float = LEVEL
) -> Interval:
    """The percentile interval of a value from its resamples; those that are not finite are left out.

    Args:
        value: On the examples themselves.
        sampled: Over resamples.
        recentred: As in `bootstrap_intervals`.
        level: Of the interval, in (0, 1).
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
    one: Statistic, other: Statistic, size: int, *, resamples: int, seed: int
) -> dict[str, Interval]:
    """Intervals of one's metrics less the other's on the same examples: both are resampled together (paired).

    Args:
        one: A statistic of one set of predictions.
        other: Of another, for the same examples in the same order.
        size: Examples.
        resamples: How many are drawn.
        seed: Of the draws.

    Returns:
        By metric that both have.
    """

    def difference(counts: np.ndarray) -> dict[str, np.ndarray]:
        left, right = one(counts), other(counts)
        return {name: left[name] - right[name] for name in left if name in right}

    return bootstrap_intervals(difference, size, resamples=resamples, seed=seed)


def draw_group_counts(
    group: Int[np.ndarray, " size"], *, resamples: int, seed: int
) -> Iterator[Float64[np.ndarray, "chunk size"]]:
    """Resamples of whole groups (documents that several pairs share), as counts of each example.

    A resample draws as many groups as there are; its number of examples varies with them.

    Args:
        group: Any number for each example; equal numbers share a group.
        resamples: In all chunks together.
        seed: Of the draws.
    """
    names, index = np.unique(group, return_inverse=True)
    rows = max(1, CHUNK // len(group))
    for counts in draw_counts(len(names), resamples=resamples, seed=seed):
        for start in range(0, len(counts), rows):
            yield counts[start : start + rows][:, index]


@dataclass(frozen=True)
class Sampled:
    """A value with its bootstrap distribution, so that several can be added up before an interval is taken.

    Attributes:
        value: On the data themselves.
        samples: float64 [resamples].
        cautious: float64 [resamples], drawn under harder assumptions (`two_way_bootstrap`).
    """

    value: float
    samples: Float64[np.ndarray, " resamples"]
    cautious: Float64[np.ndarray, " resamples"]

    def __sub__(self, other: "Sampled") -> "Sampled":
        """The difference, resample i with resample i: of two effects whose examples and runs were drawn together."""
        return combine([self, other], lambda parts: parts[0] - parts[1])

    def reversed(self) -> "Sampled":
        """With its resamples in reverse, so that it goes with another of the same draws as though drawn apart."""
        return Sampled(self.value, self.samples[::-1], self.cautious[::-1])

    def interval(self, *, level: float = LEVEL) -> Interval:
        """Percentile interval."""
        return interval_of(self.value, self.samples, level=level)

    def cautious_interval(self, *, level: float = LEVEL) -> Interval:
        """Percentile interval under the harder assumptions."""
        return interval_of(self.value, self.cautious, level=level)

    @property
    def error(self) -> float:
        """Standard error: the deviation of the finite resamples."""
        finite = self.samples[np.isfinite(self.samples)]
        return float(finite.std(ddof=1)) if len(finite) > 1 else math.nan

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided: twice the share of resamples on the far side of `null`, the value itself counted among them."""
        finite = self.samples[np.isfinite(self.samples)]
        if not math.isfinite(self.value) or len(finite) == 0:
            return math.nan
        below, above = float((finite <= null).sum()), float((finite >= null).sum())
        return min(1.0, 2.0 * (min(below, above) + 1.0) / (len(finite) + 1.0))


def combine(parts: Sequence[Sampled], function: Callable[[np.ndarray], np.ndarray]) -> Sampled:
    """A function of several values, resample i with resample i.

    Args:
        parts: Their values.
        function: From float64 [parts, n] to [n].
    """
    return Sampled(
        float(function(np.array([[part.value] for part in parts]))[0]),
        function(np.stack([part.samples for part in parts])),
        function(np.stack([part.cautious for part in parts])),
    )


def mean_of_sampled(parts: Sequence[Sampled]) -> Sampled:
    """The mean of independent values, such as one effect on several tasks; resample i with resample i."""
    return combine(parts, lambda values: values.mean(axis=0))


def widening(runs: int, *, level: float = LEVEL) -> float:
    """By how much the percentile bootstrap of a mean over few runs is too narrow: sqrt(n / (n - 1)) t / z.

    The first factor is that of a deviation with n in its denominator, the second Student's t with n - 1 degrees of
    freedom beside the normal's quantile (Hesterberg 2015, the expanded percentile interval). 1 for a single run,
    which shows no spread to widen.
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
) -> dict[str, Sampled]:
    """The mean over runs of each metric, with examples and runs (seeds) resampled together.

    A score hangs on the test pairs that were drawn and on the seeds that were; an interval over one of them alone
    is too narrow. Runs that read the same pairs are resampled with the same pairs; for a difference of two arms give
    the statistic of the difference, run by run, so that both are paired.

    Drawn twice: as asked, and cautiously, with clusters of examples drawn whole and what runs add to the spread
    widened by their number (`widening`).

    Args:
        runs: A statistic for each run, of the same examples in the same order.
        size: Examples.
        resamples: How many are drawn.
        seed: Of the draws.
        group: Where given, whole groups of examples are drawn (`draw_group_counts`).
        clusters: Likewise, for the cautious draws alone; where not given, `group`.
        runs_seed: Of the draws of runs alone: where the same runs are read on several sets of examples, they are drawn
            alike for all of them.
        over_runs: Whether runs are resampled.
        over_examples: Whether examples are.

    Returns:
        By metric.

    Raises:
        ValueError: There are no runs.
    """
    if not runs:
        raise ValueError("no runs to take the mean of")
    count = len(runs)
    plain = [run(once(size)) for run in runs]
    values = {name: float(np.mean([found[name][0] for found in plain])) for name in plain[0]}
    examples_seed, own = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
    runs_seed = own if runs_seed is None else runs_seed
    shares = np.full((resamples, count), 1.0 / count)
    if over_runs:
        shares = np.concatenate(list(draw_counts(count, resamples=resamples, seed=runs_seed))) / count
    wider = 1.0 / count + widening(count) * (shares - 1.0 / count)

    def sample(shares: np.ndarray, group: np.ndarray | None) -> dict[str, np.ndarray]:
        if not over_examples:
            return {name: shares @ np.array([float(found[name][0]) for found in plain]) for name in values}
        if group is None:
            drawn = draw_counts(size, resamples=resamples, seed=examples_seed)
        else:
            drawn = draw_group_counts(group, resamples=resamples, seed=examples_seed)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in values}
        start = 0
        for counts in drawn:
            here = shares[start : start + len(counts)]
            start += len(counts)
            total = {name: np.zeros(len(counts)) for name in values}
            for index, run in enumerate(runs):
                for name, sampled in run(counts).items():
                    # A run without weight adds nothing, even where its metric is undefined.
                    total[name] += np.where(here[:, index] != 0, here[:, index] * sampled, 0.0)
            for name in values:
                parts[name].append(total[name])
        return {name: np.concatenate(parts[name]) for name in values}

    found, cautious = sample(shares, group), sample(wider, group if clusters is None else clusters)
    return {name: Sampled(values[name], found[name], cautious[name]) for name in values}


@dataclass(frozen=True)
class Spread:
    """A mean over runs.

    Attributes:
        mean: Of the runs.
        deviation: Their standard deviation (n - 1); NaN for one run.
        low: Lower bound of the mean's 95 % interval by Student's t; NaN for one run.
        high: Upper bound.
        runs: How many.
    """

    mean: float
    deviation: float
    low: float
    high: float
    runs: int


def mean_and_spread(values: Sequence[float], *, overlap: float = 0.0) -> Spread:
    """Mean, standard deviation and t-interval over runs that differ in their seeds, or over folds.

    The scores of folds are no independent draws, since their training sets overlap: the variance of their mean is
    (1 / n + overlap) s^2 and not s^2 / n (Nadeau and Bengio 2003).

    Args:
        values: One of each run or fold.
        overlap: Test pairs over training pairs, 1 / (k - 1) for k folds; 0 for independent runs.

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
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))
