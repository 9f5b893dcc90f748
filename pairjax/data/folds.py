"""Folds of a training split, and which pairs hang together.

Folds are disjoint parts, each with its share of every class (or of low and high scores).
"""

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
            "--folds is more than the smallest class has pairs", got=f"{folds} folds; {what}", fix="use fewer folds"
        )
    found = np.empty(len(pairs), np.int64)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(pairs)), group)
    for number, (_, held) in enumerate(cut):
        found[held] = number
    return found


def text_clusters(pairs: Pairs) -> Int64[np.ndarray, " pairs"]:
    """The cluster of each pair: pairs that share a text, or are linked by others that do, are of one.

    What a model gets right of two pairs with a sentence in common is no independent evidence.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    place = {text: index for index, text in enumerate(dict.fromkeys([*pairs.first, *pairs.second]))}
    first, second = ([place[text] for text in side] for side in (pairs.first, pairs.second))
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(place), len(place)))
    _, label = connected_components(links, directed=False)
    return label[first].astype(np.int64)
