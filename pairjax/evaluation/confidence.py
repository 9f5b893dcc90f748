"""Decide from calibrated probabilities: abstain, choose by a threshold for each class, or predict a set of classes.

Everything is fitted on dev and applied to other splits. The confidence of a prediction is its largest probability.
"""

import math

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from pairjax.evaluation.calibration import Calibration, fit_threshold
from pairjax.evaluation.counts import Statistic, mean

Probability = Float64[np.ndarray, "pairs classes"]


def risk_coverage(
    probability: Probability, label: Int[np.ndarray, " pairs"]
) -> tuple[Float64[np.ndarray, " points"], Float64[np.ndarray, " points"], Float64[np.ndarray, " points"]]:
    """Returns the risk-coverage curve: the error of the most confident pairs, as more and more of them are answered.

    Pairs of equal confidence are answered together, so there is a point for each distinct confidence (El-Yaniv and
    Wiener, "On the Foundations of Noise-free Selective Classification", 2010).

    Args:
        probability: Calibrated probabilities of the classes.
        label: Class indices.

    Returns:
        Coverage (share of pairs answered, increasing), risk (error among them) and confidence (lowest among them).
    """
    confidence = probability.max(axis=1)
    wrong = probability.argmax(axis=1) != label
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.flatnonzero(np.append(ordered[1:] < ordered[:-1], True))
    answered = last + 1.0
    return answered / len(label), np.cumsum(wrong[order])[last] / answered, ordered[last]


def fit_abstention(probability: Probability, label: Int[np.ndarray, " pairs"], *, accuracy: float) -> float | None:
    """Returns the lowest confidence from which the pairs of dev are answered with an accuracy of at least `accuracy`.

    Args:
        probability: Calibrated probabilities on dev.
        label: Class indices on dev.
        accuracy: The wanted accuracy, in (0, 1].

    Returns:
        The confidence, or None if no part of dev reaches the accuracy.
    """
    _, risk, confidence = risk_coverage(probability, label)
    reached = np.flatnonzero(1.0 - risk >= accuracy - 1e-12)
    return float(confidence[reached[-1]]) if len(reached) else None


def fit_class_thresholds(probability: Probability, label: Int[np.ndarray, " pairs"]) -> tuple[float, ...]:
    """Returns a threshold for each class: the one that maximises the F1 of the class against all others on dev.

    A class that dev does not tell apart (it has none of its pairs, or only its pairs) gets 1 / classes.

    Args:
        probability: Calibrated probabilities on dev.
        label: Class indices on dev.
    """
    classes = probability.shape[1]
    fitted = (fit_threshold(probability[:, index], label == index) for index in range(classes))
    return tuple(1.0 / classes if threshold is None else max(threshold, 1e-6) for threshold in fitted)


def classes_at_thresholds(probability: Probability, thresholds: tuple[float, ...]) -> Int64[np.ndarray, " pairs"]:
    """Returns the class whose probability exceeds its threshold most, as a ratio, for each pair.

    If several classes reach their thresholds, or none does, the ratio decides too.

    Args:
        probability: Calibrated probabilities of the classes.
        thresholds: A threshold for each class.
    """
    chosen: Int64[np.ndarray, " pairs"] = (probability / np.asarray(thresholds)).argmax(axis=1)
    return chosen


def fit_conformal(probability: Probability, label: Int[np.ndarray, " pairs"], *, coverage: float) -> float:
    """Returns the lowest probability of a class in a prediction set, by split conformal prediction on dev.

    The score of a pair is 1 - p(true class); the threshold is its ceil((n + 1) coverage)-th smallest value (Sadinle et
    al., "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", 2019). If pairs of dev and new pairs are
    exchangeable, sets contain the true class with probability `coverage` or more. Dev also chose the temperature and
    the best step, so the coverage on test should be looked at.

    Args:
        probability: Calibrated probabilities on dev.
        label: Class indices on dev.
        coverage: The wanted coverage, in (0, 1).

    Returns:
        The lowest probability; 0, so that sets hold all classes, if dev has too few pairs for the coverage.
    """
    own = np.sort(probability[np.arange(len(label)), label])[::-1]
    rank = math.ceil((len(label) + 1) * coverage - 1e-9)
    return float(own[rank - 1]) if rank <= len(label) else 0.0


def label_sets(probability: Probability, least: float) -> np.ndarray:
    """Returns which classes the set of each pair holds, bool [N, C]; at least the most probable one.

    Args:
        probability: Calibrated probabilities of the classes.
        least: The lowest probability of a class in a set.
    """
    # Probabilities are computed again for the same pair in another batch, which rounds them differently.
    members: np.ndarray = probability >= least - 1e-6
    members[np.arange(len(probability)), probability.argmax(axis=1)] = True
    return members


def make_confidence_statistic(
    calibration: Calibration, probability: Probability, label: Int[np.ndarray, " pairs"]
) -> Statistic | None:
    """Builds the metrics of abstention (`answered`, `accuracy_answered`) and of prediction sets (`set_coverage`,
    `set_size`); None if neither was fitted.

    Args:
        calibration: What was fitted on dev.
        probability: Calibrated probabilities of the classes.
        label: Class indices.
    """
    parts: list[Statistic] = []
    if calibration.abstain_below is not None:
        answered = (probability.max(axis=1) >= calibration.abstain_below - 1e-6).astype(np.float64)
        right = answered * (probability.argmax(axis=1) == label)

        def abstention(counts: Float[np.ndarray, "resamples pairs"]) -> dict[str, np.ndarray]:
            share = mean(answered, counts)
            with np.errstate(invalid="ignore"):
                return {"answered": share, "accuracy_answered": mean(right, counts) / share}

        parts.append(abstention)
    if calibration.set_least is not None:
        members = label_sets(probability, calibration.set_least)
        holds, size = members[np.arange(len(label)), label].astype(np.float64), members.sum(axis=1)
        parts.append(lambda counts: {"set_coverage": mean(holds, counts), "set_size": mean(size, counts)})
    if not parts:
        return None
    return lambda counts: {name: value for part in parts for name, value in part(counts).items()}
