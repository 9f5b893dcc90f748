"""Numbers of a report that no run folder holds: reliability, slices, classes with intervals, comparisons of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Num

from pairjax.base.types import Pairs, TaskSpec
from pairjax.evaluation import metrics
from pairjax.evaluation.intervals import RESAMPLES, Interval, bootstrap_difference, bootstrap_intervals, wilson_interval
from pairjax.evaluation.significance import holm, mcnemar, paired_permutation
from pairjax.evaluation.slices import Slice, slices
from pairjax.report.folder import Predictions, RunRecord, probability_of

MOST_COMPARISONS = 15
"""Up to so many pairs of runs are all compared; beyond, each with the first."""


class Bin(NamedTuple):
    """Pairs of like confidence.

    Attributes:
        confidence: Their mean probability of the predicted class.
        right: Share of them predicted right, with its interval.
        pairs: How many.
    """

    confidence: float
    right: Interval
    pairs: int


def reliability(
    probability: Float64[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"]
) -> list[Bin | None]:
    """Confidence and correctness in the bins of the calibration error (`metrics.ece`); None for an empty one."""
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == label
    place = np.clip(np.ceil(confidence * metrics.ECE_BINS).astype(np.int64) - 1, 0, metrics.ECE_BINS - 1)
    found: list[Bin | None] = []
    for number in range(metrics.ECE_BINS):
        chosen = place == number
        total = int(chosen.sum())
        share = wilson_interval(int(right[chosen].sum()), total) if total else None
        found.append(None if share is None else Bin(float(confidence[chosen].mean()), share, total))
    return found


def slices_of(task: TaskSpec, predictions: Predictions) -> list[Slice]:
    """Returns the leading metric by word overlap, length and negation; none if the predictions carry no labels."""
    if predictions.label is None:
        return []
    pairs = Pairs(predictions.first, predictions.second, None)
    return slices(task, pairs, predictions.outputs, predictions.label, resamples=RESAMPLES)


def class_scores(task: TaskSpec, predictions: Predictions) -> dict[str, dict[str, Interval]]:
    """Precision, recall and F1 of each class with 95 % bootstrap intervals over the pairs."""
    label = predictions.label
    assert label is not None
    predicted = predictions.outputs.argmax(axis=1)

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        tallied = metrics.tally(label, predicted, counts, classes=task.outputs)
        found = {"precision": metrics.precision(tallied), "recall": metrics.recall(tallied), "f1": metrics.f1(tallied)}
        return {f"{index}/{name}": values[:, index] for name, values in found.items() for index in range(task.outputs)}

    flat = bootstrap_intervals(statistic, len(predictions), resamples=RESAMPLES, seed=0)
    return {
        name: {column: flat[f"{index}/{column}"] for column in ("precision", "recall", "f1")}
        for index, name in enumerate(task.labels)
    }


def hardest(task: TaskSpec, predictions: Predictions, *, count: int) -> list[int]:
    """The worst mistakes first: wrong pairs by how little the true class got, or scores by how far they are off."""
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
    """One difference of two runs on the same pairs.

    Attributes:
        one: Number of the first run.
        other: Of the second.
        metric: What differs: `accuracy`, `spearman`, `nll` or `mae`.
        difference: The first's less the second's, with a paired 95 % bootstrap interval.
        test: `mcnemar` (exact) or `permutation` (of the pairs' values).
        only_one: Pairs that only the first has right; McNemar's alone.
        only_other: Pairs that only the second has right.
        p: Two-sided.
        p_holm: Corrected for all tests of the table.
    """

    one: int
    other: int
    metric: str
    difference: Interval
    test: str
    only_one: int
    only_other: int
    p: float
    p_holm: float = float("nan")


def sharing_a_split(runs: Sequence[RunRecord]) -> list[tuple[str, list[int]]]:
    """(split, numbers of the runs) of every group of two or more that answered the same pairs with the same labels."""
    groups: dict[tuple, list[int]] = {}
    for number, run in enumerate(runs):
        split, task = run.main_split, run.task
        if split is None or task is None or split not in run.predictions:
            continue
        found = run.predictions[split]
        if found.label is None or len(found) == 0:
            continue
        key = (split, task.kind, task.labels, found.first, found.second, found.label.tobytes())
        groups.setdefault(key, []).append(number)
    return [(key[0], members) for key, members in groups.items() if len(members) > 1]


def compare(runs: Sequence[RunRecord], members: Sequence[int], *, split: str) -> list[Test]:
    """Paired tests between runs that answered the same pairs, corrected together (Holm).

    Up to fifteen comparisons every two runs are compared; beyond, each with the first.

    Args:
        runs: All runs.
        members: Numbers of those to compare.
        split: What they share.
    """
    every = [(a, b) for place, a in enumerate(members) for b in members[place + 1 :]]
    chosen = every if len(every) <= MOST_COMPARISONS else [(members[0], b) for b in members[1:]]
    tests = [test for a, b in chosen for test in _tests(runs, a, b, split=split)]
    corrected = holm([test.p for test in tests])
    return [Test(**{**vars(test), "p_holm": p}) for test, p in zip(tests, corrected, strict=True)]


def _tests(runs: Sequence[RunRecord], a: int, b: int, *, split: str) -> list[Test]:
    one, other = runs[a].predictions[split], runs[b].predictions[split]
    task, label = runs[a].task, one.label
    assert task is not None
    assert label is not None
    differ = bootstrap_difference(
        _statistic(runs[a], one, label), _statistic(runs[b], other, label), len(label), resamples=RESAMPLES, seed=0
    )
    if task.kind == "regression":
        errors = [np.abs(found.outputs[:, 0] - label) for found in (one, other)]
        p = paired_permutation(*errors)
        return [Test(a, b, "mae", differ["mae"], "permutation", 0, 0, p)]
    right: list[Bool[np.ndarray, " pairs"]] = [found.outputs.argmax(axis=1) == label for found in (one, other)]
    balance = mcnemar(*right)
    losses = [_losses(run, found, label) for run, found in ((runs[a], one), (runs[b], other))]
    return [
        Test(a, b, "accuracy", differ["accuracy"], "mcnemar", balance.only_one, balance.only_other, balance.p),
        Test(a, b, "nll", differ["nll"], "permutation", 0, 0, paired_permutation(*losses)),
    ]


def _losses(run: RunRecord, found: Predictions, label: Num[np.ndarray, " pairs"]) -> Float64[np.ndarray, " pairs"]:
    """Negative log-likelihood of each pair, after the run's temperature."""
    return metrics.nll_each(found.outputs, label.astype(np.int64), temperature=run.temperature)


def _statistic(run: RunRecord, found: Predictions, label: Num[np.ndarray, " pairs"]) -> metrics.Statistic:
    task = run.task
    assert task is not None
    if task.kind == "regression":
        error = np.abs(found.outputs[:, 0] - label)
        return lambda counts: {"mae": metrics.mean(error, counts)}
    right = (found.outputs.argmax(axis=1) == label).astype(np.float64)
    losses = _losses(run, found, label)
    return lambda counts: {"accuracy": metrics.mean(right, counts), "nll": metrics.mean(losses, counts)}
