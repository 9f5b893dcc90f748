"""Test paired differences, correct for multiple tests, and compute the power of a design."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Num
from scipy.special import gammaln
from scipy.stats import binomtest, norm

EXACT = 14
"""With at most this many differing pairs n, all 2^n exchanges are tried."""
AT_ONCE = 4_000_000
"""Number of signs drawn at a time; it bounds the memory."""


def paired_permutation(
    first: Num[np.ndarray, " pairs"],
    second: Num[np.ndarray, " pairs"],
    *,
    group: Int[np.ndarray, " pairs"] | None = None,
    resamples: int = 9999,
    seed: int = 0,
) -> float:
    """Returns the two-sided p of the mean difference of paired values under random exchanges within pairs.

    It is exact if few pairs differ; otherwise it is (exceedances + 1) / (resamples + 1), which is valid for any number
    of resamples (Phipson and Smyth 2010). Pairs without a difference have no effect and are left out.

    Pairs that share a text are not independent. If they are one group, the values of all its pairs are exchanged
    together.

    Args:
        first: [N]; a value for each pair, such as its correctness averaged over seeds.
        second: [N]; values of the other model for the same pairs.
        group: int [N]; pairs with equal numbers are exchanged together. By default, each pair alone.
        resamples: Number of random exchanges, if there are too many to try all.
        seed: Seeds the exchanges.
    """
    difference = first.astype(np.float64) - second.astype(np.float64)
    if group is not None:
        difference = np.bincount(np.unique(group, return_inverse=True)[1], weights=difference).astype(np.float64)
    difference = difference[difference != 0]
    if len(difference) == 0:
        return 1.0
    observed = abs(difference.sum())
    slack = 1e-9 * np.abs(difference).sum()
    if len(difference) <= EXACT:
        bits = (np.arange(2 ** len(difference))[:, None] >> np.arange(len(difference))) & 1
        return float((np.abs((2 * bits - 1) @ difference) >= observed - slack).mean())
    generator = np.random.default_rng(seed)
    rows, exceeding = max(1, AT_ONCE // len(difference)), 0
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        signs = generator.integers(0, 2, (chunk, len(difference)), dtype=np.int8) * 2 - 1
        exceeding += int((np.abs(signs @ difference) >= observed - slack).sum())
    return (exceeding + 1) / (resamples + 1)


class McNemar(NamedTuple):
    """The pairs on which two models differ, and the exact two-sided p of McNemar's test.

    Attributes:
        only_one: Number of pairs that only the first model classifies correctly.
        only_other: Number of pairs that only the second model classifies correctly.
        p: Probability of a division at least as uneven under a fair coin; 1 if the models never differ.
    """

    only_one: int
    only_other: int
    p: float


def mcnemar(first: Bool[np.ndarray, " pairs"], second: Bool[np.ndarray, " pairs"]) -> McNemar:
    """Runs McNemar's exact test of two models' correctness on the same pairs.

    Args:
        first: bool [N]; whether the first model is correct on each pair.
        second: bool [N]; whether the second model is.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p = float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_first, only_second, p)


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Returns p values corrected for their number (Holm 1979), which bounds the chance of any false rejection.

    A NaN counts in the number of tests and stays NaN.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)  # NaN last
    factors = len(values) - np.arange(len(values))
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return tuple(float(value) for value in corrected)


def expected_maximum(scores: Float[np.ndarray, " trials"]) -> Float64[np.ndarray, " trials"]:
    """Returns the expected best score of n trials for n = 1..N, drawn from the N scores without replacement.

    This is the unbiased estimate (Tang et al. 2020) of the curve of Dodge et al. (2019), the sum over i of
    s_(i) C(i - 1, n - 1) / C(N, n) with ascending scores s_(1) <= ... <= s_(N).

    Args:
        scores: float [N]; score of each trial.

    Raises:
        ValueError: There are no scores, or some are not finite.
    """
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError("an expected maximum needs finite scores")
    ascending = np.sort(scores.astype(np.float64))
    total = len(ascending)
    rank, trials = np.arange(1, total + 1)[None, :], np.arange(1, total + 1)[:, None]

    def log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
        return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(np.maximum(n - k, 0) + 1.0)

    logs = log_choose(rank - 1, trials - 1) - log_choose(np.full_like(trials, total), trials)
    return np.where(rank >= trials, np.exp(logs), 0.0) @ ascending


def smallest_difference(error: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Returns the smallest true difference that a design detects with a given power.

    It is (z_{1 - alpha / 2} + z_power) * error for a two-sided test of an estimate that is nearly normal.

    Args:
        error: Standard error of the estimated difference.
        power: Probability of detecting the difference.
        alpha: Significance level of the test.
    """
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * error)
