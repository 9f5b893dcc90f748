"""Ranking metrics: how well the scores of a model order the candidates of each group (query)."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Num

from pairjax.base.types import TaskSpec
from pairjax.evaluation.counts import Counts, mean
from pairjax.evaluation.intervals import Interval, bootstrap_intervals

AT = 10
"""Candidates that MRR and NDCG look at."""
RANKING = (f"mrr@{AT}", f"ndcg@{AT}", "map")
"""Names of the metrics of groups."""


def positive_scores(task: TaskSpec, outputs: Float[np.ndarray, "pairs 2"]) -> Float64[np.ndarray, " pairs"]:
    """Returns the logit of the positive class against the other one, by which candidates are ranked.

    Args:
        task: Two classes.
        outputs: float [N, 2]; logits.
    """
    positive = task.positive_index
    assert positive is not None
    wide = outputs.astype(np.float64)
    difference: Float64[np.ndarray, " pairs"] = wide[:, positive] - wide[:, 1 - positive]
    return difference


def group_scores(
    score: Num[np.ndarray, " pairs"], relevant: Bool[np.ndarray, " pairs"], group: Int[np.ndarray, " pairs"]
) -> dict[str, Float64[np.ndarray, " groups"]]:
    """Computes MRR@10, NDCG@10 and average precision of each group.

    Of candidates with equal scores, those that are not relevant come first, so that a constant score is no good score.
    Groups without a relevant candidate, or with nothing else, are left out.

    Args:
        score: Scores of the candidates; higher is better.
        relevant: Whether each candidate is relevant.
        group: Group of each candidate, 0, 1, ...

    Returns:
        By metric, the values of the groups that are ranked.
    """
    # 1. The rank of each candidate in its group.
    order = np.lexsort((relevant, -score, group))
    groups, hit = group[order], relevant[order].astype(np.float64)
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])) if len(groups) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, len(groups)))
    begin = np.repeat(starts, sizes)
    rank = np.arange(len(groups)) - begin + 1.0
    hits = np.add.reduceat(hit, starts) if len(starts) else np.zeros(0)
    ranked = (hits > 0) & (hits < sizes)
    # 2. The metrics; a discount table gives the best possible DCG.
    before = np.cumsum(hit) - np.repeat(np.add.accumulate(np.append(0.0, hits))[:-1], sizes)
    discount = np.where(rank <= AT, 1.0 / np.log2(rank + 1.0), 0.0)
    ideal = np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(AT) + 2.0)))[np.minimum(hits, AT).astype(np.int64)]
    first = np.where((hit > 0) & (before == 1.0) & (rank <= AT), 1.0 / rank, 0.0)
    sums = {
        RANKING[0]: (first, np.ones_like(hits)),
        RANKING[1]: (hit * discount, ideal),
        RANKING[2]: (hit * before / rank, hits),
    }
    return {
        name: (np.add.reduceat(part, starts) if len(starts) else np.zeros(0))[ranked] / total[ranked]
        for name, (part, total) in sums.items()
    }


def ranking_means(
    task: TaskSpec, outputs: np.ndarray, label: np.ndarray, group: Int[np.ndarray, " pairs"]
) -> dict[str, float]:
    """Returns the mean of each metric over groups, for evaluation during training; NaN if no group is ranked."""
    values = group_scores(positive_scores(task, outputs), label == task.positive_index, group)
    return {name: float(each.mean()) if len(each) else float("nan") for name, each in values.items()}


def ranking_intervals(
    task: TaskSpec,
    outputs: np.ndarray,
    label: np.ndarray,
    group: Int[np.ndarray, " pairs"],
    *,
    bootstrap: int,
    seed: int,
) -> dict[str, Interval]:
    """Computes each metric with a bootstrap 95 % interval over groups; NaN if no group is ranked.

    Args:
        task: Two classes.
        outputs: float [N, 2]; logits.
        label: int [N]; class indices.
        group: Group of each pair.
        bootstrap: Number of resamples of groups.
        seed: Seeds the resamples.
    """
    values = group_scores(positive_scores(task, outputs), label == task.positive_index, group)
    size = len(values[RANKING[0]])
    if not size:
        return {name: Interval(np.nan, np.nan, np.nan) for name in values}

    def statistic(counts: Counts) -> dict[str, np.ndarray]:
        return {name: mean(each, counts) for name, each in values.items()}

    return bootstrap_intervals(statistic, size, resamples=bootstrap, seed=seed)


def average_precision(
    score: Num[np.ndarray, " pairs"], relevant: Bool[np.ndarray, " pairs"], counts: Counts
) -> Float64[np.ndarray, " resamples"]:
    """Returns the average precision over all pairs in each resample: the sum of precision times the rise of recall.

    Pairs of equal scores are counted together, as in scikit-learn's `average_precision_score`. NaN without a relevant
    pair.

    Args:
        score: Scores of the pairs; higher is better.
        relevant: Whether each pair is relevant.
        counts: float64 [resamples, N].
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] < ordered[:-1], True))
    everything = np.cumsum(counts[:, order], axis=1)[:, last]
    hits = np.cumsum(counts[:, order] * relevant[order], axis=1)[:, last]
    rises = np.diff(hits, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(everything > 0, hits / everything, 0.0)
        total: Float64[np.ndarray, " resamples"] = (rises * precision).sum(axis=1) / hits[:, -1]
    return total
