"""Fit a temperature and a threshold on dev, to be applied to every other split."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from pairjax.evaluation.metrics import nll_each

LIMIT = 100.0
"""Temperatures are searched between 1 / LIMIT and LIMIT."""


@dataclass(frozen=True)
class Calibration:
    """What is fitted on dev and applied to every other split.

    Attributes:
        temperature: Divides the logits.
        threshold: With two classes, the calibrated probability from which the positive class is predicted; None if
            none was fitted.
        thresholds: With more classes, the threshold of each class in label order; empty if none were fitted.
        abstain_at: The accuracy for which abstention was fitted; None if it was not asked for.
        abstain_below: Confidence below which the model abstains; None if no part of dev reached the accuracy.
        set_coverage: The coverage for which prediction sets were fitted; None if they were not asked for.
        set_least: Lowest probability of a class in a prediction set.
    """

    temperature: float = 1.0
    threshold: float | None = None
    thresholds: tuple[float, ...] = ()
    abstain_at: float | None = None
    abstain_below: float | None = None
    set_coverage: float | None = None
    set_least: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as plain data; without those that were not fitted, as versions before them wrote it."""
        values = asdict(self)
        return {
            name: values[name]
            for name in values
            if name in ("temperature", "threshold") or values[name] not in (None, ())
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Calibration":
        """Returns the calibration of plain data."""
        return Calibration(**{**values, "thresholds": tuple(values.get("thresholds", ()))})


def fit_temperature(logits: Float[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"]) -> float:
    """Returns the temperature T that minimises the NLL of softmax(logits / T) (Guo et al. 2017).

    The NLL is convex in 1 / T, so it has one minimum in log T, which a bounded search finds. If every pair is
    classified correctly, the likelihood keeps rising as T falls to 0; if all logits of each pair are equal, T has no
    effect. In both cases T is 1.

    Args:
        logits: float [N, classes]; logits on dev.
        label: int [N]; class indices.
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


def temperature_warning(temperature: float) -> str | None:
    """Returns a warning if the temperature is at a bound of the search, so that it is no minimum, else None."""
    if 1.01 / LIMIT < temperature < LIMIT / 1.01:
        return None
    if temperature > 1:
        return (
            f"WARNING: the temperature is at its upper bound, {LIMIT:g}: on dev the model is no better than chance, so "
            "calibrated probabilities are nearly equal for all classes"
        )
    return (
        f"WARNING: the temperature is at its lower bound, {1 / LIMIT:g}: the logits of dev are too small or too few to "
        "calibrate, and calibrated probabilities are nearly 0 or 1"
    )


def fit_threshold(probability: Float64[np.ndarray, " pairs"], positive: Bool[np.ndarray, " pairs"]) -> float | None:
    """Returns the threshold t that maximises F1 if the positive class is predicted for probabilities of at least t.

    Only thresholds that divide dev are tried: one below or above all probabilities would make a constant predictor,
    whose F1 can look good. All thresholds between two neighbouring probabilities predict the same, so one represents
    them: 0.5 if it is between them, else their midpoint. Of several with the same F1, the nearest to 0.5 is taken.

    Args:
        probability: float64 [N]; calibrated probability of the positive class on dev.
        positive: bool [N]; whether each pair belongs to the positive class.

    Returns:
        The threshold, or None if all pairs belong to one class or have the same probability.
    """
    values, group = np.unique(probability, return_inverse=True)
    if len(values) < 2 or positive.all() or not positive.any():
        return None
    hits = np.bincount(group, weights=positive, minlength=len(values))
    sizes = np.bincount(group, minlength=len(values))
    # A threshold just above values[i] predicts everything from values[i + 1] on as positive.
    predicted, true_positive = sizes[::-1].cumsum()[::-1][1:], hits[::-1].cumsum()[::-1][1:]
    scores = 2.0 * true_positive / (predicted + positive.sum())
    below, above = values[:-1], values[1:]
    middle = np.where((below < 0.5) & (above >= 0.5), 0.5, (below + above) / 2.0)
    # The midpoint of two adjacent floats may round down to the lower one.
    middle = np.where(middle > below, middle, above)
    best = np.flatnonzero(scores == scores.max())
    return float(middle[best[np.abs(middle[best] - 0.5).argmin()]])
