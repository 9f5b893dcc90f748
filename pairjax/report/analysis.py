"""Computes what a run folder does not hold: reliability, slices, intervals of classes, and tests between runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64, Num

from pairjax.base.types import Pairs, TaskSpec
from pairjax.evaluation import metrics
from pairjax.evaluation.clusters import text_clusters
from pairjax.evaluation.counts import Statistic, mean
from pairjax.evaluation.intervals import RESAMPLES, Interval, bootstrap_difference, bootstrap_intervals, wilson_interval
from pairjax.evaluation.significance import holm, mcnemar, paired_permutation
from pairjax.evaluation.slices import Slice, slices
from pairjax.report.folder import Predictions, RunRecord, probability_of

MIN_GROUPS = 10
"""With fewer groups of pairs that share texts there is no paired test and no interval: they would be too narrow."""
MAX_COMPARISONS = 15
"""Up to this number of comparisons, all runs are compared with each other; beyond it, each with the first."""


class Bin(NamedTuple):
    """Pairs of similar confidence.

    Attributes:
        confidence: Mean probability of the predicted class.
        accuracy: Share of correct predictions, with a 95 % interval.
        pairs: Number of pairs.
    """

    confidence: float
    accuracy: Interval
    pairs: int


def reliability(
    probability: Float64[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"]
) -> list[Bin | None]:
    """Computes confidence and accuracy in the bins of the calibration error (`metrics.ece`); None for an empty bin."""
    confidence = probability.max(axis=1)
    correct = probability.argmax(axis=1) == label
    bin_of = np.clip(np.ceil(confidence * metrics.ECE_BINS).astype(np.int64) - 1, 0, metrics.ECE_BINS - 1)
    bins: list[Bin | None] = []
    for number in range(metrics.ECE_BINS):
        members = bin_of == number
        pairs = int(members.sum())
        accuracy = wilson_interval(int(correct[members].sum()), pairs) if pairs else None
        bins.append(None if accuracy is None else Bin(float(confidence[members].mean()), accuracy, pairs))
    return bins


def slices_of(task: TaskSpec, predictions: Predictions) -> list[Slice]:
    """Computes the leading metric by word overlap, length and negation; empty if the predictions have no labels."""
    if predictions.label is None:
        return []
    pairs = Pairs(predictions.first, predictions.second, None)
    return slices(task, pairs, predictions.outputs, predictions.label, resamples=RESAMPLES)


def class_scores(task: TaskSpec, predictions: Predictions) -> dict[str, dict[str, Interval]]:
    """Computes precision, recall and F1 of each class, with 95 % bootstrap intervals over the pairs."""
    label = predictions.label
    assert label is not None
    predicted = predictions.outputs.argmax(axis=1)

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        tally = metrics.tally(label, predicted, counts, classes=task.outputs)
        scores = {"precision": metrics.precision(tally), "recall": metrics.recall(tally), "f1": metrics.f1(tally)}
        return {f"{index}/{name}": values[:, index] for name, values in scores.items() for index in range(task.outputs)}

    flat = bootstrap_intervals(statistic, len(predictions), resamples=RESAMPLES, seed=0)
    return {
        name: {column: flat[f"{index}/{column}"] for column in ("precision", "recall", "f1")}
        for index, name in enumerate(task.labels)
    }


def hardest(task: TaskSpec, predictions: Predictions, *, count: int) -> list[int]:
    """Returns the worst errors, worst first: by the true class's probability, or by the error of the score."""
    label = predictions.label
    if label is None:
        return []
    if task.kind == "regression":
        return [int(i) for i in np.argsort(-np.abs(predictions.outputs[:, 0] - label), kind="stable")[:count]]
    probability = probability_of(predictions, temperature=1.0)
    true = probability[np.arange(len(label)), label]
    wrong = np.flatnonzero(probability.argmax(axis=1) != label)
    return [int(i) for i in wrong[np.argsort(true[wrong], kind="stable")][:count]]


# ---------------------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class Test:
    """A paired test of two runs on the same pairs.

    Attributes:
        first: Index of the first run.
        second: Index of the second run.
        metric: The metric that is compared: `accuracy`, `nll` or `mae`.
        difference: The first run's value minus the second's, with a paired 95 % bootstrap interval.
        test: `mcnemar` (exact), `permutation` (of the values of each pair), or `groups`: a permutation test that
            exchanges pairs that share a text together. With fewer than `MIN_GROUPS` groups p is NaN.
        only_first: Pairs that only the first run predicts correctly; 0 unless the metric is the accuracy.
        only_second: Pairs that only the second run predicts correctly; 0 unless the metric is the accuracy.
        p: Two-sided p value.
        p_holm: p value corrected for all tests of the table (Holm 1979).
    """

    first: int
    second: int
    metric: str
    difference: Interval
    test: str
    only_first: int
    only_second: int
    p: float
    p_holm: float = float("nan")


def sharing_a_split(runs: Sequence[RunRecord]) -> list[tuple[str, list[int]]]:
    """Returns (split, indices of the runs) of each group of two or more runs with the same pairs and labels."""
    groups: dict[tuple, list[int]] = {}
    for index, run in enumerate(runs):
        split, task = run.main_split, run.task
        if split is None or task is None or split not in run.predictions:
            continue
        predictions = run.predictions[split]
        if predictions.label is None or len(predictions) == 0:
            continue
        texts, label = (predictions.first, predictions.second), predictions.label.tobytes()
        groups.setdefault((split, task.kind, task.labels, texts, label), []).append(index)
    return [(key[0], members) for key, members in groups.items() if len(members) > 1]


def compare(runs: Sequence[RunRecord], members: Sequence[int], *, split: str) -> list[Test]:
    """Runs paired tests between runs on the same pairs, corrected together (Holm 1979).

    All runs are compared with each other if that gives at most `MAX_COMPARISONS`; otherwise each with the first. Pairs
    that share a text are no independent evidence, so they are resampled and exchanged together.

    Args:
        runs: All runs of the report.
        members: Indices of the runs to compare.
        split: The split that they share.
    """
    couples = [(a, b) for place, a in enumerate(members) for b in members[place + 1 :]]
    if len(couples) > MAX_COMPARISONS:
        couples = [(members[0], b) for b in members[1:]]
    group = shared_texts(runs[members[0]].predictions[split])
    tests = [test for a, b in couples for test in _tests(runs, a, b, split=split, group=group)]
    corrected = holm([test.p for test in tests])
    return [replace(test, p_holm=p) for test, p in zip(tests, corrected, strict=True)]


def shared_texts(predictions: Predictions) -> Int64[np.ndarray, " pairs"] | None:
    """Returns the group of each pair, in which pairs share texts (`text_clusters`); None if no pairs share a text."""
    group = text_clusters(Pairs(predictions.first, predictions.second, None))
    return None if len(np.unique(group)) == len(group) else group


def _tests(
    runs: Sequence[RunRecord], a: int, b: int, *, split: str, group: Int64[np.ndarray, " pairs"] | None
) -> list[Test]:
    """Compares two runs by accuracy and log-likelihood, or by the absolute error of their scores."""
    left, right = runs[a].predictions[split], runs[b].predictions[split]
    task, label = runs[a].task, left.label
    assert task is not None
    assert label is not None
    difference = bootstrap_difference(
        _statistic(runs[a], left, label),
        _statistic(runs[b], right, label),
        len(label),
        resamples=RESAMPLES,
        seed=0,
        group=group,
    )
    if group is not None and len(np.unique(group)) < MIN_GROUPS:
        unknown = {name: Interval(score.value, math.nan, math.nan) for name, score in difference.items()}
        return [Test(a, b, name, score, "groups", 0, 0, math.nan) for name, score in unknown.items()]
    permutation = "permutation" if group is None else "groups"
    if task.kind == "regression":
        errors = [np.abs(predictions.outputs[:, 0] - label) for predictions in (left, right)]
        p = paired_permutation(*errors, group=group)
        return [Test(a, b, "mae", difference["mae"], permutation, 0, 0, p)]
    correct: list[Bool[np.ndarray, " pairs"]] = [
        predictions.outputs.argmax(axis=1) == label for predictions in (left, right)
    ]
    exact = mcnemar(*correct)
    name, p = "mcnemar", exact.p
    if group is not None:
        name, p = "groups", paired_permutation(*(right.astype(np.int8) for right in correct), group=group)
    losses = [_losses(runs[a], left, label), _losses(runs[b], right, label)]
    return [
        Test(a, b, "accuracy", difference["accuracy"], name, exact.only_one, exact.only_other, p),
        Test(a, b, "nll", difference["nll"], permutation, 0, 0, paired_permutation(*losses, group=group)),
    ]


def _losses(
    run: RunRecord, predictions: Predictions, label: Num[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Computes the negative log-likelihood of each pair at the run's temperature."""
    return metrics.nll_each(predictions.outputs, label.astype(np.int64), temperature=run.temperature)


def _statistic(run: RunRecord, predictions: Predictions, label: Num[np.ndarray, " pairs"]) -> Statistic:
    task = run.task
    assert task is not None
    if task.kind == "regression":
        error = np.abs(predictions.outputs[:, 0] - label)
        return lambda counts: {"mae": mean(error, counts)}
    correct = (predictions.outputs.argmax(axis=1) == label).astype(np.float64)
    losses = _losses(run, predictions, label)
    return lambda counts: {"accuracy": mean(correct, counts), "nll": mean(losses, counts)}
