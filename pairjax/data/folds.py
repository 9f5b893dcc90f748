"""Folds of a training split: disjoint parts, each with its share of every class (or of low and high scores)."""

import numpy as np
from jaxtyping import Int64

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec

SCORE_BINS = 10
"""Scores are dealt out by tenths."""


def stratified_folds(task: TaskSpec, pairs: Pairs, *, folds: int, seed: int) -> Int64[np.ndarray, " pairs"]:
    """The fold of each pair, by scikit-learn's `StratifiedKFold`.

    Args:
        task: Classes, or scores, which are dealt out by tenths (fewer where a tenth would not reach every fold).
        pairs: Labelled.
        folds: How many.
        seed: Of the shuffle within a class.

    Raises:
        UserError: No labels; or more folds than the smallest class has pairs, so that some fold would lack it.
    """
    from sklearn.model_selection import StratifiedKFold

    if pairs.label is None:
        raise UserError("folds need labelled pairs", got="no labels in train")
    if task.kind == "classification":
        group = pairs.label.astype(np.int64)
        sizes = np.bincount(group, minlength=task.outputs)
        smallest = int(sizes.argmin())
        what = f"class '{task.labels[smallest]}' has {sizes[smallest]:,}"
        least = int(sizes[smallest])
    else:
        rank = np.empty(len(pairs), np.int64)
        rank[np.argsort(pairs.label, kind="stable")] = np.arange(len(pairs))
        group = rank * max(1, min(SCORE_BINS, len(pairs) // folds)) // max(1, len(pairs))
        what, least = f"train has {len(pairs):,}", len(pairs)
    if folds > least:
        raise UserError(
            "--folds is more than the smallest class has pairs", got=f"{folds} folds; {what}", mend="use fewer folds"
        )
    found = np.empty(len(pairs), np.int64)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(pairs)), group)
    for number, (_, held) in enumerate(cut):
        found[held] = number
    return found
