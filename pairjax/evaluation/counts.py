"""Statistics as functions of counts: how often each pair occurs in each resample."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int, Num

Counts = Float64[np.ndarray, "resamples pairs"]


Scores = dict[str, Float64[np.ndarray, " resamples"]]


Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps counts [resamples, pairs] to each metric's values [resamples]."""


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """Builds the statistic whose metric `value` is that of the first minus that of the second, resample by resample."""
    return lambda counts: {"value": first(counts)["value"] - second(counts)["value"]}


def constant(value: float) -> Statistic:
    """Builds a statistic whose metric `value` is the same in every resample; NaN for a metric that is undefined."""
    return lambda counts: {"value": np.full(len(counts), value)}


def once(pairs: int) -> Float64[np.ndarray, "1 pairs"]:
    """Returns the counts of the pairs themselves, float64 [1, N]: one resample with each pair once."""
    return np.ones((1, pairs))


def mean(values: Num[np.ndarray, " pairs"], counts: Counts) -> Float64[np.ndarray, " resamples"]:
    """Returns the mean of the values, [N], in each resample."""
    return counts @ values.astype(np.float64) / counts.sum(axis=1)


def group_sums(
    counts: Counts, group: Int[np.ndarray, " pairs"], groups: int
) -> Float64[np.ndarray, "resamples groups"]:
    """Returns the number of pairs of each group 0..groups-1 in each resample."""
    order = np.argsort(group, kind="stable")
    occurring, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((counts.shape[0], groups))
    if len(occurring):
        sums[:, occurring] = np.add.reduceat(counts[:, order], starts, axis=1)
    return sums
