"""Score predictions: the part of evaluation that needs no model."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from pairjax.base.config import EvalConfig
from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration, fit_temperature, fit_threshold
from pairjax.evaluation.confidence import (
    classes_at_thresholds,
    fit_abstention,
    fit_class_thresholds,
    fit_conformal,
    make_confidence_statistic,
)
from pairjax.evaluation.counts import Statistic, mean, once
from pairjax.evaluation.intervals import Interval, bootstrap_intervals
from pairjax.evaluation.metrics import (
    check_outputs,
    confusion_matrix,
    f1,
    make_class_statistic,
    make_probability_statistic,
    make_statistic,
    pearson,
    precision,
    probabilities,
    recall,
    tally,
)
from pairjax.evaluation.multi_label import (
    fit_label_thresholds,
    label_report,
    labels_at,
    make_label_statistic,
    sigmoid,
)
from pairjax.evaluation.rank_metrics import ranking_intervals

CALIBRATED, AT_THRESHOLD, SWAPPED = "_calibrated", "_at_threshold", "swap_"
"""Suffixes of metrics of calibrated probabilities and of metrics at the threshold; prefix of metrics of swaps."""
RECENTRED = ("ece", "ece" + CALIBRATED)
"""Metrics whose bootstrap intervals are corrected for bias; see `bootstrap_intervals`."""


def classes_at_threshold(
    probability: Float[np.ndarray, "pairs 2"], *, positive: int, threshold: float
) -> Int[np.ndarray, " pairs"]:
    """Returns class indices, int [N]: the positive class if its probability is at least the threshold.

    Args:
        probability: float [N, 2]; probabilities of the two classes.
        positive: Index of the positive class.
        threshold: The threshold, in [0, 1].
    """
    return np.where(probability[:, positive] >= threshold, positive, 1 - positive)


def calibrate(
    task: TaskSpec,
    logits: Float[np.ndarray, "pairs outputs"],
    label: Num[np.ndarray, "pairs *labels"],
    *,
    config: EvalConfig | None = None,
) -> Calibration:
    """Fits the temperature, the threshold of two classes, and what the config asks for besides.

    Args:
        task: The task.
        logits: float [N, outputs]; logits on dev.
        label: [N]; class indices or scores on dev.
        config: Says whether thresholds of classes, abstention and prediction sets are fitted; by default they are not.

    Returns:
        Temperature 1 and no threshold for regression; the threshold is also None if dev gives nothing to fit it on.

    Raises:
        UserError: There are no pairs, or outputs are NaN or infinite.
    """
    check_outputs(task, logits, label)
    if task.kind == "regression":
        return Calibration()
    if task.kind == "multi-label":
        return Calibration(thresholds=fit_label_thresholds(sigmoid(logits), label))
    temperature = fit_temperature(logits, label)
    positive, probability = task.positive_index, probabilities(logits, temperature=temperature)
    fitted = Calibration(temperature)
    if positive is not None:
        fitted = replace(fitted, threshold=fit_threshold(probability[:, positive], label == positive))
    if config is None:
        return fitted
    if config.class_thresholds and positive is None:
        fitted = replace(fitted, thresholds=fit_class_thresholds(probability, label))
    if config.abstain_at is not None:
        least = fit_abstention(probability, label, accuracy=config.abstain_at)
        fitted = replace(fitted, abstain_at=config.abstain_at, abstain_below=least)
    if config.conformal is not None:
        least = fit_conformal(probability, label, coverage=config.conformal)
        fitted = replace(fitted, set_coverage=config.conformal, set_least=least)
    return fitted


def abstention_warning(calibration: Calibration) -> str | None:
    """Returns a warning if no part of dev reaches the accuracy that abstention should reach, else None."""
    if calibration.abstain_at is None or calibration.abstain_below is not None:
        return None
    return (
        f"WARNING: no part of dev is answered with an accuracy of {calibration.abstain_at:g} "
        "(--evaluation.abstain-at), so the model does not abstain"
    )


def _make_swap_statistic(task: TaskSpec, outputs: np.ndarray, swapped: np.ndarray) -> Statistic:
    """Builds the metrics of the change between the outputs of (a, b) and of (b, a)."""
    if task.kind == "regression":
        before, after = outputs[:, 0], swapped[:, 0]
        return lambda counts: {
            "swap_difference": mean(np.abs(before - after), counts),
            "swap_correlation": pearson(before, after, counts),
        }
    if task.kind == "multi-label":
        sets = [labels_at(sigmoid(each), ()) for each in (outputs, swapped)]
        same = (sets[0] == sets[1]).all(axis=1).astype(np.float64)
        change = np.abs(sigmoid(outputs) - sigmoid(swapped)).mean(axis=1)
        return lambda counts: {"swap_agreement": mean(same, counts), "swap_difference": mean(change, counts)}
    agree = (outputs.argmax(axis=1) == swapped.argmax(axis=1)).astype(np.float64)
    distance = np.abs(probabilities(outputs) - probabilities(swapped)).sum(axis=1) / 2.0
    return lambda counts: {"swap_agreement": mean(agree, counts), "swap_difference": mean(distance, counts)}


def score(
    task: TaskSpec,
    outputs: Float[np.ndarray, "pairs outputs"],
    label: Num[np.ndarray, "pairs *labels"],
    *,
    bootstrap: int,
    seed: int,
    temperature: float = 1.0,
    threshold: float | None = None,
    calibration: Calibration | None = None,
    swapped_logits: Float[np.ndarray, "pairs outputs"] | None = None,
    group: Int[np.ndarray, " pairs"] | None = None,
) -> dict[str, Interval]:
    """Computes all metrics of a split, each with a bootstrap 95 % interval over its pairs.

    Args:
        task: The task.
        outputs: float [N, outputs]; logits, or scores in the labels' units.
        label: [N]; class indices or scores.
        bootstrap: Number of resamples.
        seed: Seeds the resamples, which all metrics share; with the same seed, two models are resampled alike.
        temperature: Temperature fitted on dev; if it is not 1, `nll_calibrated`, `brier_calibrated` and
            `ece_calibrated` are added.
        threshold: Threshold on the calibrated probability of the positive class, fitted on dev; adds
            `accuracy_at_threshold`, `f1_at_threshold` and so on.
        calibration: Thresholds of classes, abstention and prediction sets, if they were fitted; adds
            `accuracy_at_threshold` and so on, `answered` and `accuracy_answered`, `set_coverage` and `set_size`.
        swapped_logits: float [N, outputs]; outputs for (b, a). For classes it adds `swap_agreement`, the share of pairs
            whose predicted class is the same both ways, and `swap_difference`, the mean total variation distance of
            the probabilities (for two classes, the absolute difference). For scores it adds `swap_difference`, the
            mean absolute difference, and `swap_correlation`.
        group: int [N]; the group of each pair; adds `mrr@10`, `ndcg@10` and `map`, with intervals over groups.

    Returns:
        By metric, NaN if undefined. Classification: accuracy, macro_f1, mcc, nll, brier, ece, and for two classes
        precision, recall and f1 of the positive class. Regression: pearson, spearman, mse, mae.

    Raises:
        UserError: There are no pairs, or outputs are NaN or infinite.
    """
    parts = [make_statistic(task, outputs, label)]
    if task.kind == "classification" and temperature != 1.0:
        parts.append(make_probability_statistic(outputs, label, temperature=temperature, suffix=CALIBRATED))
    if task.positive_index is not None and threshold is not None:
        predicted = classes_at_threshold(
            probabilities(outputs, temperature=temperature), positive=task.positive_index, threshold=threshold
        )
        parts.append(make_class_statistic(task, label, predicted, suffix=AT_THRESHOLD))
    if task.kind == "classification" and calibration is not None:
        probability = probabilities(outputs, temperature=temperature)
        if calibration.thresholds:
            predicted = classes_at_thresholds(probability, calibration.thresholds)
            parts.append(make_class_statistic(task, label, predicted, suffix=AT_THRESHOLD))
        confidence = make_confidence_statistic(calibration, probability, label)
        parts += [] if confidence is None else [confidence]
    if task.kind == "multi-label" and calibration is not None and calibration.thresholds:
        members = labels_at(sigmoid(outputs), calibration.thresholds)
        parts.append(make_label_statistic(label > 0, members, suffix=AT_THRESHOLD))
    if swapped_logits is not None:
        check_outputs(task, swapped_logits, label)
        parts.append(_make_swap_statistic(task, outputs, swapped_logits))

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value for part in parts for name, value in part(counts).items()}

    ranked = {}
    if group is not None:
        ranked = ranking_intervals(task, outputs, label, group, bootstrap=bootstrap, seed=seed)
    return ranked | bootstrap_intervals(statistic, len(label), resamples=bootstrap, seed=seed, recentred=RECENTRED)


def scores_to_json(scores: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Returns scores as result.json holds them: `{name: {"value", "low", "high"}}`, null if undefined."""
    return {name: interval.to_json() for name, interval in scores.items()}


class MetricNames(NamedTuple):
    """Names of metrics by what they measure, each in the order given.

    Attributes:
        plain: Metrics of the outputs as they are.
        calibrated: Metrics of the probabilities after the temperature.
        at_threshold: Metrics of the classes at the threshold.
        swapped: Metrics of the change when the two texts are swapped.
    """

    plain: tuple[str, ...]
    calibrated: tuple[str, ...]
    at_threshold: tuple[str, ...]
    swapped: tuple[str, ...]


def group_metrics(splits: Iterable[Iterable[str]]) -> MetricNames:
    """Groups the names of the metrics of several splits; each name is listed once.

    Args:
        splits: The names of each split's metrics, as `score` made them.
    """
    names = tuple(dict.fromkeys(name for split in splits for name in split))
    calibrated = tuple(name for name in names if name.endswith(CALIBRATED))
    at_threshold = tuple(name for name in names if name.endswith(AT_THRESHOLD))
    swapped = tuple(name for name in names if name.startswith(SWAPPED))
    special = {*calibrated, *at_threshold, *swapped}
    return MetricNames(tuple(name for name in names if name not in special), calibrated, at_threshold, swapped)


def base_metric(name: str) -> str:
    """Returns the metric that a name is a variant of: `f1` for `f1_at_threshold`, `ece` for `ece_calibrated`."""
    return name.removesuffix(CALIBRATED).removesuffix(AT_THRESHOLD)


def class_report(
    task: TaskSpec, outputs: Float[np.ndarray, "pairs outputs"], label: Num[np.ndarray, "pairs *labels"]
) -> dict[str, Any]:
    """Computes the confusion matrix and the metrics of each class, as result.json holds them.

    Args:
        task: The task.
        outputs: float [N, outputs]; logits, or scores in the labels' units.
        label: [N]; class indices or scores.

    Returns:
        `{"labels": [name], "confusion": [[pairs]] (rows true, columns predicted), "per_class": {name: {"precision",
        "recall", "f1", "support"}}}`; precision, recall and F1 are 0 if their denominator is 0. Empty for regression.

    Raises:
        UserError: There are no pairs, or outputs are NaN or infinite.
    """
    check_outputs(task, outputs, label)
    if task.kind == "regression":
        return {}
    if task.kind == "multi-label":
        return label_report(task, labels_at(sigmoid(outputs), ()), label > 0)
    predicted = outputs.argmax(axis=1)
    tallied = tally(label, predicted, once(len(label)), classes=task.outputs)
    columns = {"precision": precision(tallied)[0], "recall": recall(tallied)[0], "f1": f1(tallied)[0]}
    return {
        "labels": list(task.labels),
        "confusion": confusion_matrix(label, predicted, classes=task.outputs).tolist(),
        "per_class": {
            name: {column: float(values[index]) for column, values in columns.items()}
            | {"support": int(tallied.labelled[0, index])}
            for index, name in enumerate(task.labels)
        },
    }


def collapsed(task: TaskSpec, outputs: Float[np.ndarray, "pairs outputs"], *, split: str = "dev") -> str | None:
    """Returns a warning if the model predicts the same for every pair, else None.

    Args:
        task: The task.
        outputs: float [N, outputs]; logits, or scores in the labels' units.
        split: Name of the split, for the warning.
    """
    if len(outputs) < 2:
        return None
    if task.kind == "regression":
        if float(np.ptp(outputs)) > 1e-4 * task.scale:
            return None
        answer, also = f"the score {float(outputs[0, 0]):.3g}", ""
    elif task.kind == "multi-label":
        sets = labels_at(sigmoid(outputs), ())
        if len(np.unique(sets, axis=0)) > 1:
            return None
        names = [name for name, member in zip(task.labels, sets[0], strict=True) if member]
        answer, also = f"{' and '.join(names)}" if names else "no label", ""
    else:
        predicted = np.unique(outputs.argmax(axis=1))
        if len(predicted) > 1:
            return None
        answer, also = f"'{task.labels[int(predicted[0])]}'", ", or --loss.class-weights balanced"
    return (
        f"WARNING: the model predicts {answer} for all {len(outputs):,} pairs of {split}: it has not learned the "
        f"task. Try another --optim.learning-rate or more steps{also}"
    )
