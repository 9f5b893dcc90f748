"""Uncertainty: bootstrap intervals over examples, and means with their spread over seeds."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student

from pairjax.base.metrics import Statistic, once

LEVEL = 0.95
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
    found = {}
    for name, value in values.items():
        sampled = np.concatenate([chunk[name] for chunk in chunks])
        sampled = sampled[np.isfinite(sampled)]
        if not math.isfinite(value) or len(sampled) == 0:
            found[name] = Interval(value, math.nan, math.nan)
            continue
        low, high = np.quantile(sampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        if name in recentred:
            bias = sampled.mean() - value
            low, high = max(low - bias, 0.0), max(high - bias, 0.0)
        found[name] = Interval(value, float(low), float(high))
    return found


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


def mean_and_spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and t-interval over runs that differ in their seeds.

    Raises:
        ValueError: There are no runs.
    """
    if not values:
        raise ValueError("no runs to take the mean of")
    runs, mean = len(values), float(np.mean(values))
    if runs == 1:
        return Spread(mean, math.nan, math.nan, math.nan, 1)
    deviation = float(np.std(values, ddof=1))
    half = float(student.ppf((1 + LEVEL) / 2, runs - 1)) * deviation / math.sqrt(runs)
    return Spread(mean, deviation, mean - half, mean + half, runs)
