"""Folds and clusters of pairs."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.folds import describe_folds, stratified_folds
from pairjax.evaluation.clusters import text_clusters

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


def sharing_pairs(count: int, *, seed: int = 0, texts: int = 90, classes: int = 3) -> Pairs:
    """Pairs of random texts, so most pairs share one, also in the other order."""
    generator = np.random.default_rng(seed)
    sides = generator.integers(texts, size=count), generator.integers(texts, size=count)
    first, second = (tuple(f"text {number}" for number in side) for side in sides)
    return Pairs(first, second, generator.integers(classes, size=count).astype(np.int32))


@pytest.mark.parametrize("task", [CLASSES, TaskSpec("regression")], ids=lambda task: task.kind)
def test_no_fold_shares_a_text_with_another(task: TaskSpec) -> None:
    pairs = sharing_pairs(120, texts=400)
    folds_of = stratified_folds(task, pairs, folds=4, seed=1)
    texts = [
        {text for i in np.flatnonzero(folds_of == fold) for text in (pairs.first[i], pairs.second[i])}
        for fold in range(4)
    ]
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert np.ptp(np.bincount(folds_of)) <= 3
    assert pairs.label is not None
    counts = [np.bincount(pairs.label[folds_of == fold], minlength=3) for fold in range(4)]
    assert task.kind == "regression" or np.ptp(counts, axis=0).max() <= 2
    apart = stratified_folds(task, pairs, folds=4, seed=1, group_texts=False)
    clusters = text_clusters(pairs)
    assert any(len(set(apart[clusters == cluster])) > 1 for cluster in clusters)
    assert "pairs that share texts are in one fold" in describe_folds(pairs, folds_of, group_texts=True)


def test_grouped_folds_are_the_same_in_every_process_and_version() -> None:
    # The digits are those of the first version that grouped texts. A change makes every kept sweep train again.
    folds_of = stratified_folds(CLASSES, sharing_pairs(40, texts=150), folds=4, seed=7)
    assert "".join(map(str, folds_of)) == "3211231022002321032001311322010213031031"
    assert (folds_of != stratified_folds(CLASSES, sharing_pairs(40, texts=150), folds=4, seed=8)).any()


def test_folds_that_one_group_empties_are_refused() -> None:
    texts = ("one text",) * 20
    pairs = Pairs(texts, tuple(f"text {index}" for index in range(20)), np.arange(20, dtype=np.int32) % 3)
    with pytest.raises(UserError, match="no pair of class 'a' for fold 1; the largest group has 20 of 20 pairs"):
        stratified_folds(CLASSES, pairs, folds=4, seed=0)
    assert np.bincount(stratified_folds(CLASSES, pairs, folds=4, seed=0, group_texts=False)).tolist() == [5] * 4


def test_pairs_linked_by_shared_texts_are_one_cluster() -> None:
    # a-b, b-c and c-d hang together, also over sides; e-f and g-g stand alone.
    pairs = Pairs(("a", "c", "e", "g", "d"), ("b", "b", "f", "g", "c"), np.zeros(5, np.int32))
    clusters = text_clusters(pairs)
    assert clusters[0] == clusters[1] == clusters[4]
    assert len({clusters[0], clusters[2], clusters[3]}) == 3
