"""Tests of paired differences, corrections for many of them, and what a design could have seen."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Num
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import binomtest, nct, norm
from scipy.stats import t as student

EXACT = 14
"""Up to so many pairs that differ, every one of the 2^n exchanges is tried."""
AT_ONCE = 4_000_000


def paired_permutation(
    one: Num[np.ndarray, " pairs"], other: Num[np.ndarray, " pairs"], *, resamples: int = 9999, seed: int = 0
) -> float:
    """Two-sided p of the mean difference of paired values under random exchanges within pairs.

    Exact where few pairs differ; otherwise (exceedances + 1) / (resamples + 1), which is valid at any number of
    resamples (Phipson and Smyth 2010). Pairs without a difference change nothing and are left out.

    Args:
        one: A value a pair (whether it is right, averaged over seeds, say).
        other: Of the other model, for the same pairs.
        resamples: Random exchanges, where all of them are too many.
        seed: Of the exchanges.
    """
    difference = one.astype(np.float64) - other.astype(np.float64)
    difference = difference[difference != 0]
    if len(difference) == 0:
        return 1.0
    seen = abs(difference.sum())
    slack = 1e-9 * np.abs(difference).sum()
    if len(difference) <= EXACT:
        bits = (np.arange(2 ** len(difference))[:, None] >> np.arange(len(difference))) & 1
        return float((np.abs((2 * bits - 1) @ difference) >= seen - slack).mean())
    generator = np.random.default_rng(seed)
    rows, exceeding = max(1, AT_ONCE // len(difference)), 0
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        signs = generator.integers(0, 2, (chunk, len(difference)), dtype=np.int8) * 2 - 1
        exceeding += int((np.abs(signs @ difference) >= seen - slack).sum())
    return (exceeding + 1) / (resamples + 1)


class McNemar(NamedTuple):
    """Pairs on which two models differ, and the exact two-sided p of their balance.

    Attributes:
        only_one: Pairs that the first has right and the second wrong.
        only_other: The reverse.
        p: Of a split as uneven under a fair coin; 1 where they never differ.
    """

    only_one: int
    only_other: int
    p: float


def mcnemar(one: Bool[np.ndarray, " pairs"], other: Bool[np.ndarray, " pairs"]) -> McNemar:
    """McNemar's exact test of two models' correctness on the same pairs."""
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    differ = first + second
    return McNemar(first, second, float(binomtest(first, differ, 0.5).pvalue) if differ else 1.0)


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """p values corrected for their number (Holm 1979): of the family, the chance of one false alarm is at most p.

    A NaN counts in the family's size and stays NaN.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)  # NaN last
    factors = len(values) - np.arange(len(values))
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return tuple(float(value) for value in corrected)


def expected_maximum(scores: Float[np.ndarray, " trials"]) -> Float64[np.ndarray, " trials"]:
    """E[best of n trials] for n = 1..N, of n drawn from the N scores without replacement.

    The unbiased estimate (Tang et al. 2020) of the curve of Dodge et al. 2019, sum_i s_(i) C(i - 1, n - 1) / C(N, n)
    over ascending scores s_(1) <= ... <= s_(N).

    Raises:
        ValueError: There are no scores, or some are not finite.
    """
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError("an expected maximum needs finite scores")
    ascending = np.sort(scores.astype(np.float64))
    total = len(ascending)
    rank, taken = np.arange(1, total + 1)[None, :], np.arange(1, total + 1)[:, None]

    def log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
        return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(np.maximum(n - k, 0) + 1.0)

    logs = log_choose(rank - 1, taken - 1) - log_choose(np.full_like(taken, total), taken)
    return np.where(rank >= taken, np.exp(logs), 0.0) @ ascending


def smallest_difference(error: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true difference that a design with this standard error finds with the power given.

    (z_{1 - alpha / 2} + z_power) * error: two-sided, for an estimate that is close to normal, such as a bootstrap's.
    """
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * error)


def smallest_difference_of_runs(deviation: float, runs: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The same for a paired t-test over runs, whose differences have this standard deviation; by the noncentral t.

    Infinite below two runs, which show no spread.
    """
    if runs < 2:
        return math.inf
    freedom = runs - 1
    limit = float(student.ppf(1 - alpha / 2, freedom))

    def lacking(size: float) -> float:
        shift = size * math.sqrt(runs)
        found = nct.sf(limit, freedom, shift) + nct.cdf(-limit, freedom, shift)
        return float(found) - power

    high = 1.0
    while lacking(high) < 0:
        high *= 2.0
    return deviation * float(brentq(lacking, 0.0, high))
