"""Stratified folds of a training split. By default pairs that share a text are in one fold."""

import numpy as np
from jaxtyping import Int64

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.groups import (
    count_strata,
    describe_groups,
    group_order,
    number_groups,
    stratum_weights,
)
from pairjax.data.subsets import SCORE_BINS
from pairjax.evaluation.clusters import text_clusters


def stratified_folds(
    task: TaskSpec, pairs: Pairs, *, folds: int, seed: int, group_texts: bool = True
) -> Int64[np.ndarray, " pairs"]:
    """Returns the fold of each pair.

    Folds are disjoint, and each has its share of every class (or of low and high scores), as far as groups allow. If
    no two pairs share a text, or without `group_texts`, the folds are those of scikit-learn's `StratifiedKFold`.

    Args:
        task: The task. Scores are stratified by tenths (by fewer bins if a tenth would not reach every fold).
        pairs: Labelled pairs.
        folds: Number of folds.
        seed: Seeds the shuffle.
        group_texts: Whether pairs that share a text, directly or through other pairs, are in one fold. Otherwise a
            model has seen the texts of the fold that scores it.

    Raises:
        UserError: The pairs have no labels; or the smallest class has fewer pairs than there are folds, or groups are
            too large, so some fold would lack a class.
    """
    if pairs.label is None:
        raise UserError("folds need labelled pairs", got="no labels in train")
    if task.kind == "multi-label":
        raise UserError("--folds cannot stratify pairs that carry several labels", fix="leave it out: dev decides")
    if task.kind == "classification":
        stratum = pairs.label.astype(np.int64)
        sizes = np.bincount(stratum, minlength=task.outputs)
        smallest = int(sizes.argmin())
        size_note = f"class '{task.labels[smallest]}' has {sizes[smallest]:,}"
        least = int(sizes[smallest])
    else:
        rank = np.empty(len(pairs), np.int64)
        rank[np.argsort(pairs.label, kind="stable")] = np.arange(len(pairs))
        stratum = rank * max(1, min(SCORE_BINS, len(pairs) // folds)) // max(1, len(pairs))
        size_note, least = f"train has {len(pairs):,}", len(pairs)
    if folds > least:
        raise UserError(
            "--folds is more than the smallest class has pairs",
            got=f"{folds} folds; {size_note}",
            fix="use fewer folds",
        )
    group = number_groups(text_clusters(pairs)) if group_texts else np.arange(len(pairs))
    if group.max() + 1 == len(pairs):
        return _single_folds(stratum, folds=folds, seed=seed)
    fold_of = _group_folds(stratum, group, folds=folds, seed=seed)
    kinds = stratum if task.kind == "classification" else np.zeros_like(stratum)
    present = count_strata(fold_of, kinds, groups=folds)
    if not present.all():
        fold, kind = (int(number) for number in np.argwhere(present == 0)[0])
        lacks = f"no pair of class '{task.labels[kind]}'" if task.kind == "classification" else "no pair"
        raise UserError(
            f"--folds {folds} is too many for groups of pairs that share texts",
            got=f"{lacks} for fold {fold}; the largest group has {np.bincount(group).max():,} of {len(pairs):,} pairs",
            fix="use fewer folds, or --data.no-group-texts, whose folds share texts",
        )
    return fold_of


def _single_folds(stratum: np.ndarray, *, folds: int, seed: int) -> Int64[np.ndarray, " pairs"]:
    """Returns the folds of scikit-learn's `StratifiedKFold`."""
    from sklearn.model_selection import StratifiedKFold

    fold_of = np.empty(len(stratum), np.int64)
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(stratum)), stratum)
    for fold, (_, held_out) in enumerate(parts):
        fold_of[held_out] = fold
    return fold_of


def _group_folds(stratum: np.ndarray, group: np.ndarray, *, folds: int, seed: int) -> Int64[np.ndarray, " pairs"]:
    """Assigns groups to folds, large ones first, each to the fold that has least of its strata.

    This is the greedy method of scikit-learn's `StratifiedGroupKFold`. It is written out here because its folds must
    not depend on the version of a library: `group_order` fixes the order of the groups, all sums are integers, and the
    first of equal folds is taken.
    """
    counts = count_strata(group, stratum)
    sizes, weight = counts.sum(axis=1), stratum_weights(counts)
    all_weight = stratum_weights(sizes[:, None])[0]
    filled = np.zeros((folds, counts.shape[1]), np.int64)
    fold_of_group = np.empty(len(counts), np.int64)
    for number in group_order(sizes, seed=seed, largest_first=True):
        # The growth of the sum of squares of the folds' strata, and of the folds' sizes.
        cost = (filled * (counts[number] * weight)).sum(axis=1) + filled.sum(axis=1) * (sizes[number] * all_weight)
        fold = int(cost.argmin())
        fold_of_group[number] = fold
        filled[fold] += counts[number]
    return fold_of_group[group]


def describe_folds(pairs: Pairs, fold: Int64[np.ndarray, " pairs"], *, group_texts: bool, name: str = "train") -> str:
    """Describes the folds of a split: how they were cut, and their sizes.

    Args:
        pairs: The split.
        fold: The fold of each pair.
        group_texts: As it was for `stratified_folds`.
        name: Name of the split.
    """
    sizes = " ".join(f"{size:,}" for size in np.bincount(fold))
    how = "pairs that share texts are in one fold" if group_texts else "pairs that share texts may be in two folds"
    return f"{name}: folds of {sizes} pairs; {how} ({describe_groups(pairs)})"
