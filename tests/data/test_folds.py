"""Folds and clusters of pairs."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.folds import stratified_folds
from pairjax.data.groups import text_clusters

CLASSES = TaskSpec("classification", ("a", "b", "c"))


def pairs_of(label: np.ndarray) -> Pairs:
    texts = tuple(f"text {index}" for index in range(len(label)))
    return Pairs(texts, texts, label)


def test_every_pair_is_in_one_fold_and_each_fold_has_its_share_of_each_class() -> None:
    label = np.random.default_rng(0).choice(3, 101, p=(0.6, 0.3, 0.1)).astype(np.int32)
    folds_of = stratified_folds(CLASSES, pairs_of(label), folds=5, seed=3)
    assert sorted(np.unique(folds_of)) == [0, 1, 2, 3, 4]
    expected = [
        np.bincount(label[held], minlength=3)
        for _, held in StratifiedKFold(5, shuffle=True, random_state=1).split(label, label)
    ]
    counts = [np.bincount(label[folds_of == fold], minlength=3) for fold in range(5)]
    assert sorted(map(tuple, counts)) == sorted(map(tuple, expected))
    assert np.ptp(counts, axis=0).max() <= 1


def test_folds_are_a_function_of_the_seed() -> None:
    label = np.arange(60, dtype=np.int32) % 3
    first, again, other = (stratified_folds(CLASSES, pairs_of(label), folds=4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_scores_are_spread_evenly_over_folds() -> None:
    label = np.random.default_rng(0).exponential(size=200).astype(np.float32)
    folds_of = stratified_folds(TaskSpec("regression"), pairs_of(label), folds=5, seed=0)
    low = np.argsort(label)[:20]
    assert np.bincount(folds_of[low], minlength=5).tolist() == [4] * 5


def test_more_folds_than_the_smallest_class_has_pairs_are_refused() -> None:
    label = np.array([0] * 20 + [1] * 20 + [2] * 4, np.int32)
    with pytest.raises(UserError, match="smallest class has pairs; got 5 folds; class 'c' has 4"):
        stratified_folds(CLASSES, pairs_of(label), folds=5, seed=0)
    assert len(stratified_folds(CLASSES, pairs_of(label), folds=4, seed=0)) == 44
    with pytest.raises(UserError, match="train has 3"):
        stratified_folds(TaskSpec("regression"), pairs_of(np.ones(3, np.float32)), folds=4, seed=0)


def test_pairs_linked_by_shared_texts_are_one_cluster() -> None:
    # a-b, b-c and c-d hang together, also over sides; e-f and g-g stand alone.
    pairs = Pairs(("a", "c", "e", "g", "d"), ("b", "b", "f", "g", "c"), np.zeros(5, np.int32))
    clusters = text_clusters(pairs)
    assert clusters[0] == clusters[1] == clusters[4]
    assert len({clusters[0], clusters[2], clusters[3]}) == 3
