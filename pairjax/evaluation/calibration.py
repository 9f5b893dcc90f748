"""Temperature and threshold, fitted on dev and applied everywhere else."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from pairjax.evaluation.metrics import nll_each

LIMIT = 100.0
"""Temperatures are sought between 1 / LIMIT and LIMIT."""


def fit_temperature(logits: Float[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"]) -> float:
    """The temperature T that minimises the NLL of softmax(logits / T) (Guo et al. 2017).

    The NLL is convex in 1 / T, so it has one minimum in log T, which a bounded search finds. Where every pair is
    classified right the likelihood rises for ever as T falls to 0, and where a pair's logits are all alike no T
    matters: both leave T at 1.

    Args:
        logits: On dev.
        label: Class indices.
    """
    from scipy.optimize import minimize_scalar

    best = logits.max(axis=1)
    right = (np.take_along_axis(logits, label[:, None].astype(np.int64), axis=1)[:, 0] >= best).all()
    if len(label) == 0 or right or np.ptp(logits, axis=1).max() == 0:
        return 1.0

    def nll(log_temperature: float) -> float:
        return float(nll_each(logits, label, temperature=math.exp(log_temperature)).mean())

    bound = math.log(LIMIT)
    return math.exp(minimize_scalar(nll, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-7}).x)


def fit_threshold(probability: Float64[np.ndarray, " pairs"], positive: Bool[np.ndarray, " pairs"]) -> float | None:
    """The threshold t that maximises F1 of the positive class, predicted where its probability is at least t.

    Only thresholds that part dev are tried: one below or above all probabilities would make a constant predictor, whose
    F1 can look good. Any t between two neighbouring probabilities predicts the same, so the nearest to 0.5 stands for
    them: 0.5 itself, or their midpoint. Among equals the one nearest to 0.5 wins.

    Args:
        probability: Of the positive class, on dev, after the temperature.
        positive: Whether each pair is of that class.

    Returns:
        None where there is nothing to fit: all pairs of one class, or all of one probability.
    """
    values, group = np.unique(probability, return_inverse=True)
    if len(values) < 2 or positive.all() or not positive.any():
        return None
    hits = np.bincount(group, weights=positive, minlength=len(values))
    sizes = np.bincount(group, minlength=len(values))
    # What a threshold just above values[i] predicts positive: everything from values[i + 1] on.
    predicted, caught = sizes[::-1].cumsum()[::-1][1:], hits[::-1].cumsum()[::-1][1:]
    scores = 2.0 * caught / (predicted + positive.sum())
    below, above = values[:-1], values[1:]
    middle = np.where((below < 0.5) & (above >= 0.5), 0.5, (below + above) / 2.0)
    # Neighbours closer than a float apart: their midpoint may round down onto the lower one.
    middle = np.where(middle > below, middle, above)
    best = np.flatnonzero(scores == scores.max())
    return float(middle[best[np.abs(middle[best] - 0.5).argmin()]])


@dataclass(frozen=True)
class Calibration:
    """Fitted on dev only: logits are divided by `temperature`; with two classes the positive one is chosen where its
    probability reaches `threshold`."""

    temperature: float = 1.0
    threshold: float | None = None
