"""The leading metric on parts of a split: by overlap of words, by length and by negation."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64, Num

from pairjax.base.types import Pairs, TaskSpec
from pairjax.evaluation import metrics
from pairjax.evaluation.intervals import Interval, bootstrap_intervals, wilson
from pairjax.evaluation.metrics import check_outputs
from pairjax.evaluation.words import length_features, overlap_features

SMALLEST = 10
"""A slice of fewer pairs says nothing."""


def thirds(values: Float64[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
    """0, 1 or 2 for each value; equal values stay together, so that thirds are uneven where values repeat."""
    return np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values, side="left").astype(np.int64)


def slice_scores(
    task: TaskSpec,
    pairs: Pairs,
    outputs: Float[np.ndarray, "pairs outputs"],
    label: Num[np.ndarray, " pairs"],
    *,
    bootstrap: int,
) -> list[dict[str, Any]]:
    """Scores of slices, as in result.json.

    Args:
        task: What is predicted.
        pairs: The texts.
        outputs: Logits, or scores in the labels' units.
        label: Class indices or scores.
        bootstrap: Resamples of a regression's intervals.

    Returns:
        For each slice `{"by", "low", "high", "pairs", "metric", "score"}`. `by` is `overlap` (Jaccard index of the two
        texts' words, thirds of the pairs), `length` (words of both, thirds) or `negation` (1 where one text has more
        words of negation than the other, else 0); `low` and `high` are the least and greatest value in the slice;
        `score` is `{"value", "low", "high"}` of `metric`: accuracy with Wilson's 95 % interval, or Spearman's
        correlation with a bootstrap one. Slices under 10 pairs are left out, and a cut that leaves one slice with them.

    Raises:
        UserError: No pairs, or outputs that are NaN or infinite.
    """
    check_outputs(task, outputs, label)
    overlap = overlap_features(pairs)
    lengths = length_features(pairs)[:, :2].sum(axis=1)
    negated = (overlap[:, 8] > 0).astype(np.float64)
    found: list[dict[str, Any]] = []
    for by, values, groups in (
        ("overlap", overlap[:, 0], thirds(overlap[:, 0])),
        ("length", lengths, thirds(lengths)),
        ("negation", negated, negated.astype(np.int64)),
    ):
        members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        kept = [rows for rows in members if len(rows) >= SMALLEST]
        if len(kept) < 2:
            continue
        for rows in kept:
            metric, score = _leading(task, outputs[rows], label[rows], bootstrap=bootstrap)
            bounds = {"low": float(values[rows].min()), "high": float(values[rows].max())}
            found.append({"by": by, **bounds, "pairs": len(rows), "metric": metric, "score": score.to_json()})
    return found


def _leading(task: TaskSpec, outputs: np.ndarray, label: np.ndarray, *, bootstrap: int) -> tuple[str, Interval]:
    if task.kind == "classification":
        return "accuracy", Interval(**wilson(int((outputs.argmax(axis=1) == label).sum()), len(label)))
    intervals = bootstrap_intervals(
        lambda counts: {"spearman": metrics.spearman(outputs[:, 0], label, counts)},
        len(label),
        resamples=bootstrap,
        seed=0,
    )
    return "spearman", intervals["spearman"]
