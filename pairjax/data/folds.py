"""Stratified folds of a training split, and clusters of pairs that share texts."""

import numpy as np
from jaxtyping import Int64

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.subsets import SCORE_BINS


def stratified_folds(task: TaskSpec, pairs: Pairs, *, folds: int, seed: int) -> Int64[np.ndarray, " pairs"]:
    """Returns the fold of each pair, by scikit-learn's `StratifiedKFold`.

    Folds are disjoint, and each has its share of every class (or of low and high scores).

    Args:
        task: The task. Scores are stratified by tenths (by fewer bins if a tenth would not reach every fold).
        pairs: Labelled pairs.
        folds: Number of folds.
        seed: Seeds the shuffle within a class.

    Raises:
        UserError: The pairs have no labels, or the smallest class has fewer pairs than there are folds, so some fold
            would lack it.
    """
    from sklearn.model_selection import StratifiedKFold

    if pairs.label is None:
        raise UserError("folds need labelled pairs", got="no labels in train")
    if task.kind == "classification":
        group = pairs.label.astype(np.int64)
        sizes = np.bincount(group, minlength=task.outputs)
        smallest = int(sizes.argmin())
        size_note = f"class '{task.labels[smallest]}' has {sizes[smallest]:,}"
        least = int(sizes[smallest])
    else:
        rank = np.empty(len(pairs), np.int64)
        rank[np.argsort(pairs.label, kind="stable")] = np.arange(len(pairs))
        group = rank * max(1, min(SCORE_BINS, len(pairs) // folds)) // max(1, len(pairs))
        size_note, least = f"train has {len(pairs):,}", len(pairs)
    if folds > least:
        raise UserError(
            "--folds is more than the smallest class has pairs",
            got=f"{folds} folds; {size_note}",
            fix="use fewer folds",
        )
    fold_of = np.empty(len(pairs), np.int64)
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(pairs)), group)
    for fold, (_, held_out) in enumerate(parts):
        fold_of[held_out] = fold
    return fold_of


def text_clusters(pairs: Pairs) -> Int64[np.ndarray, " pairs"]:
    """Returns the cluster of each pair: pairs that share a text, directly or through other pairs, are in one cluster.

    Two pairs with a text in common are not independent evidence about a model.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    position = {text: index for index, text in enumerate(dict.fromkeys([*pairs.first, *pairs.second]))}
    first, second = ([position[text] for text in side] for side in (pairs.first, pairs.second))
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(position), len(position)))
    _, label = connected_components(links, directed=False)
    return label[first].astype(np.int64)
