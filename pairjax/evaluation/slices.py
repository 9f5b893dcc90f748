"""Score parts of a split: by word overlap, by length and by negation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64, Num

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.evaluation import metrics
from pairjax.evaluation.intervals import Interval, bootstrap_intervals, wilson_interval
from pairjax.evaluation.metrics import check_outputs
from pairjax.evaluation.words import JACCARD, NEGATION_DISTANCE, length_features, overlap_features

SMALLEST = 10
"""Slices with fewer pairs are left out: their intervals are too wide to read."""


@dataclass(frozen=True)
class Slice:
    """The pairs of a split that are alike in one respect, and the score on them.

    Attributes:
        by: The property that cuts the split: `overlap` (Jaccard index of the two texts' words), `length` (words of
            both texts) or `negation` (1 if one text has more words of negation than the other, else 0).
        low: Smallest value of the property in the slice.
        high: Largest value of the property in the slice.
        pairs: Number of pairs.
        metric: `accuracy` for classes, `spearman` for scores.
        score: The metric on the slice with its 95 % interval.
    """

    by: Literal["overlap", "length", "negation"]
    low: float
    high: float
    pairs: int
    metric: str
    score: Interval


def thirds(values: Float64[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
    """Returns 0, 1 or 2 for each value; equal values stay together, so thirds are uneven if values repeat."""
    return np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values, side="left").astype(np.int64)


def slices(
    task: TaskSpec,
    pairs: Pairs,
    outputs: Float[np.ndarray, "pairs outputs"],
    label: Num[np.ndarray, " pairs"],
    *,
    resamples: int,
) -> list[Slice]:
    """Scores a split by thirds of the word overlap, by thirds of the length, and by negation.

    Args:
        task: The task.
        pairs: The texts, N pairs.
        outputs: float [N, outputs]; logits, or scores in the labels' units.
        label: [N]; class indices or scores.
        resamples: Number of bootstrap resamples of a regression's intervals; accuracy has Wilson's interval.

    Returns:
        The slices of at least ten pairs, for each property that cuts the split into two or more of them.
    """
    scored: list[Slice] = []
    for by, values, groups in _cuts(pairs):
        members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        large = [index for index in members if len(index) >= SMALLEST]
        if len(large) < 2:
            continue
        for index in large:
            metric, score = _leading(task, outputs[index], label[index], resamples=resamples)
            low, high = float(values[index].min()), float(values[index].max())
            scored.append(Slice(by, low, high, len(index), metric, score))
    return scored


def _cuts(
    pairs: Pairs,
) -> Iterator[tuple[Literal["overlap", "length", "negation"], np.ndarray, Int64[np.ndarray, " pairs"]]]:
    """Yields each property's name, its value for each pair, and the number of each pair's slice."""
    overlap = overlap_features(pairs)
    lengths = length_features(pairs)[:, :2].sum(axis=1)
    negated = (overlap[:, NEGATION_DISTANCE] > 0).astype(np.float64)
    yield "overlap", overlap[:, JACCARD], thirds(overlap[:, JACCARD])
    yield "length", lengths, thirds(lengths)
    yield "negation", negated, negated.astype(np.int64)


def slice_scores(
    task: TaskSpec,
    pairs: Pairs,
    outputs: Float[np.ndarray, "pairs outputs"],
    label: Num[np.ndarray, "pairs *labels"],
    *,
    bootstrap: int,
) -> list[dict[str, Any]]:
    """Returns the slices as result.json holds them.

    Args:
        task: The task.
        pairs: The texts, N pairs.
        outputs: float [N, outputs]; logits, or scores in the labels' units.
        label: [N]; class indices or scores.
        bootstrap: Number of resamples of a regression's intervals.

    Returns:
        For each slice `{"by", "low", "high", "pairs", "metric", "score"}`, as `Slice` documents them; `score` is
        `{"value", "low", "high"}`.

    Raises:
        UserError: There are no pairs, or outputs are NaN or infinite.
    """
    if task.kind == "multi-label":
        raise UserError("slices need one class for each pair, or scores", got="pairs that carry several labels")
    check_outputs(task, outputs, label)
    scored = slices(task, pairs, outputs, label, resamples=bootstrap)
    return [vars(part) | {"score": part.score.to_json()} for part in scored]


def _leading(task: TaskSpec, outputs: np.ndarray, label: np.ndarray, *, resamples: int) -> tuple[str, Interval]:
    """Returns accuracy with Wilson's interval, or Spearman's correlation with a bootstrap interval."""
    if task.kind == "classification":
        return "accuracy", wilson_interval(int((outputs.argmax(axis=1) == label).sum()), len(label))
    intervals = bootstrap_intervals(
        lambda counts: {"spearman": metrics.spearman(outputs[:, 0], label, counts)},
        len(label),
        resamples=resamples,
        seed=0,
    )
    return "spearman", intervals["spearman"]
