"""Metrics and thresholds of pairs that carry several labels: each label is decided alone, by its sigmoid."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from pairjax.base.types import TaskSpec
from pairjax.evaluation.counts import Counts, Statistic, mean, once

Members = Bool[np.ndarray, "pairs labels"]


def sigmoid(logits: Float[np.ndarray, "pairs labels"]) -> Float64[np.ndarray, "pairs labels"]:
    """Returns the probability of each label."""
    wide = logits.astype(np.float64)
    small = np.exp(-np.abs(wide))
    probability: Float64[np.ndarray, "pairs labels"] = np.where(wide >= 0, 1.0, small) / (1.0 + small)
    return probability


def fit_label_thresholds(
    probability: Float64[np.ndarray, "pairs labels"], label: Float[np.ndarray, "pairs labels"]
) -> tuple[float, ...]:
    """Returns the threshold of each label with its best F1 on dev; 0.5 if all or none of the pairs carry the label.

    Args:
        probability: Probabilities on dev.
        label: 1 if a pair carries a label, else 0.
    """
    from pairjax.evaluation.calibration import fit_threshold  # It imports metrics.py, which imports this module.

    fitted = (fit_threshold(probability[:, index], label[:, index] > 0) for index in range(label.shape[1]))
    return tuple(0.5 if threshold is None else threshold for threshold in fitted)


def labels_at(probability: Float64[np.ndarray, "pairs labels"], thresholds: tuple[float, ...]) -> Members:
    """Returns whether each label is predicted: its probability is at least its threshold.

    Args:
        probability: Probabilities of the labels.
        thresholds: A threshold for each label; 0.5 for all of them if it is empty.
    """
    members: Members = probability >= (np.asarray(thresholds) if thresholds else 0.5)
    return members


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, or 0 if the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)


def make_label_statistic(label: Members, predicted: Members, *, suffix: str = "") -> Statistic:
    """Builds micro F1, macro F1 and the share of pairs whose labels are all right.

    F1 is 0 if its denominator is 0, as in scikit-learn. A resample that lacks a label leaves it out of macro F1.

    Args:
        label: Whether each pair carries each label.
        predicted: Whether each label is predicted.
        suffix: Appended to the names of the metrics.
    """
    hits = (label & predicted).astype(np.float64)
    sums = label.astype(np.float64) + predicted
    exact = (label == predicted).all(axis=1).astype(np.float64)
    occurring = sums.sum(axis=0) > 0

    def statistic(counts: Counts) -> dict[str, np.ndarray]:
        both, total = 2.0 * (counts @ hits), counts @ sums
        left_out = occurring & (total == 0)
        values = {
            "micro_f1": _ratio(both.sum(axis=1), total.sum(axis=1)),
            "macro_f1": _ratio(both, total).sum(axis=1) / np.maximum((~left_out).sum(axis=1), 1),
            "exact_match": mean(exact, counts),
        }
        return {f"{name}{suffix}": value for name, value in values.items()}

    return statistic


def make_multi_label_statistic(
    outputs: Float[np.ndarray, "pairs labels"], label: Float[np.ndarray, "pairs labels"]
) -> Statistic:
    """Builds the metrics at a threshold of 0.5, and the mean binary cross-entropy of a label (`nll`).

    Args:
        outputs: Logits.
        label: 1 if a pair carries a label, else 0.
    """
    sets = make_label_statistic(label > 0, labels_at(sigmoid(outputs), ()))
    losses = np.logaddexp(0.0, np.where(label > 0, -1.0, 1.0) * outputs.astype(np.float64)).mean(axis=1)
    return lambda counts: sets(counts) | {"nll": mean(losses, counts)}


def label_report(
    task: TaskSpec, predicted: Members, label: Members
) -> dict[str, dict[str, dict[str, float | int]] | list[str]]:
    """Computes precision, recall and F1 of each label, as result.json holds them (without a confusion matrix).

    Args:
        task: The task.
        predicted: Whether each label is predicted.
        label: Whether each pair carries each label.
    """
    counts = once(len(label))
    hits, carried, given = ((counts @ part.astype(np.float64))[0] for part in (label & predicted, label, predicted))
    columns = {
        "precision": _ratio(hits, given),
        "recall": _ratio(hits, carried),
        "f1": _ratio(2 * hits, carried + given),
    }
    return {
        "labels": list(task.labels),
        "per_class": {
            name: {column: float(values[index]) for column, values in columns.items()}
            | {"support": int(carried[index])}
            for index, name in enumerate(task.labels)
        },
    }
