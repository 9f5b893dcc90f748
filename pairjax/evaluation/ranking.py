"""The area under the ROC curve, which compares scores without a threshold."""

import numpy as np
from jaxtyping import Int, Num

from pairjax.evaluation.counts import Counts, Statistic


def auc(label: Int[np.ndarray, " pairs"], score: Num[np.ndarray, " pairs"]) -> Statistic:
    """Builds the statistic `value`, the area under the ROC curve in points (percent), resample by resample.

    It is the probability that a positive pair has a higher score than a negative one, with ties counted as one half
    (Mann and Whitney 1947); NaN in a resample with pairs of one class only.

    Args:
        label: int [N]; 1 for a positive pair, 0 for a negative one.
        score: [N]; a higher score speaks for a positive pair.
    """
    order = np.argsort(score, kind="stable")
    positive = label[order] == 1
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])

    def statistic(counts: Counts) -> dict[str, np.ndarray]:
        ordered = counts[:, order]
        # Positive and negative pairs of each distinct score.
        high = np.add.reduceat(ordered * positive, starts, axis=1)
        low = np.add.reduceat(ordered * ~positive, starts, axis=1)
        below = np.cumsum(low, axis=1) - 0.5 * low
        possible = high.sum(axis=1) * low.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"value": 100.0 * (high * below).sum(axis=1) / possible}

    return statistic
