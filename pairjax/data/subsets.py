"""Subsets of a split: the pairs of given indices, a fixed sample, and a dev split cut off train."""

import math
from typing import Any

import numpy as np
from jaxtyping import Int64

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs
from pairjax.data.groups import count_strata, group_order, number_groups, stratum_weights
from pairjax.data.tasks import Kind

SCORE_BINS = 10
"""Scores are stratified by tenths."""


def take_pairs(pairs: Pairs, index: Any) -> Pairs:
    """Returns the pairs of the given indices, int [M], in that order."""
    positions = [int(i) for i in index]
    return Pairs(
        first=tuple(pairs.first[i] for i in positions),
        second=tuple(pairs.second[i] for i in positions),
        label=None if pairs.label is None else pairs.label[positions],
        where=tuple(pairs.where[i] for i in positions) if pairs.where else (),
        soft=None if pairs.soft is None else pairs.soft[positions],
        negative=tuple(pairs.negative[i] for i in positions) if pairs.negative else (),
        group=None if pairs.group is None else pairs.group[positions],
    )


def sample_pairs(pairs: Pairs, most: int) -> Pairs:
    """Returns a fixed sample of `most` pairs in their order, or all pairs if there are no more than that."""
    if len(pairs) <= most:
        return pairs
    return take_pairs(pairs, np.sort(np.random.default_rng(0).permutation(len(pairs))[:most]))


def _strata(label: np.ndarray, kind: Kind) -> Int64[np.ndarray, " pairs"]:
    """Returns the class of each pair, its set of labels, or its tenth of the scores."""
    if kind == "multi-label":
        return np.unique(label, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if kind == "regression":
        rank = np.empty(len(label), np.int64)
        rank[np.argsort(label, kind="stable")] = np.arange(len(label))
        return rank * min(SCORE_BINS, max(len(label) // 2, 1)) // len(label)
    return label.astype(np.int64)


def cut_dev(
    label: np.ndarray,
    *,
    kind: Kind,
    fraction: float,
    seed: int,
    cluster: Int64[np.ndarray, " pairs"] | None = None,
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " dev"]]:
    """Returns the indices of train and of dev, each in ascending order.

    Dev gets `fraction` of the pairs, and at least one. Each class (or tenth of the scores) gives its share by largest
    remainder. The last pair of a class stays in train.

    Args:
        label: Class indices or scores [N], or which labels each pair carries [N, C].
        kind: Whether `label` has class indices (`classification`), scores (`regression`) or sets (`multi-label`).
        fraction: Share of dev, in (0, 1).
        seed: Seeds the draw within a stratum.
        cluster: The cluster of each pair (`text_clusters`), which is not cut apart: shares are then as near as whole
            clusters allow. None cuts pair by pair, and so do clusters of one pair each.

    Raises:
        UserError: Nothing can be cut, because each class has one pair, or because all clusters are too large.
    """
    stratum = _strata(label, kind)
    strata = {int(value): np.flatnonzero(stratum == value) for value in np.unique(stratum)}
    total = max(round(len(label) * fraction), 1)
    exact = {value: len(index) * fraction for value, index in strata.items()}
    most = {value: len(index) - 1 for value, index in strata.items()}
    take = {value: min(math.floor(share), most[value]) for value, share in exact.items()}
    for value in sorted(strata, key=lambda value: (-(exact[value] - math.floor(exact[value])), value)):
        if sum(take.values()) >= total:
            break
        take[value] = min(take[value] + 1, most[value])
    if not sum(take.values()):
        raise UserError("--data.dev-fraction finds nothing to cut", got=f"{len(label)} rows in train")
    if cluster is not None and len(np.unique(cluster)) < len(label):
        wanted = np.zeros(int(stratum.max()) + 1, np.int64)
        wanted[list(take)] = list(take.values())
        dev = _cut_groups(stratum, number_groups(cluster), wanted, seed=seed)
    else:
        rng = np.random.default_rng(seed)
        dev = np.sort(np.concatenate([rng.permutation(index)[: take[value]] for value, index in strata.items()]))
    return np.setdiff1d(np.arange(len(label)), dev), dev


def _cut_groups(
    stratum: np.ndarray, group: np.ndarray, wanted: Int64[np.ndarray, " strata"], *, seed: int
) -> Int64[np.ndarray, " dev"]:
    """Returns the indices of dev, made of whole groups, with about the wanted number of pairs of each stratum.

    Groups come in a random order that `group_order` fixes. First those that fit are taken, then those that bring the
    counts nearer to the wanted ones. If all groups are larger than that, dev is the smallest one.
    """
    counts = count_strata(group, stratum)
    sizes, left, weight = counts.sum(axis=1), counts.sum(axis=0), stratum_weights(counts)
    taken, cut = np.zeros_like(wanted), np.zeros(len(counts), bool)
    order = group_order(sizes, seed=seed, largest_first=False)
    for must_fit in (True, False):
        for number in order:
            row = counts[number]
            excess = 2 * (taken - wanted) + row
            wins = (taken + row <= wanted).all() if must_fit else (row * excess * weight).sum() < 0
            # The last pair of a class stays in train.
            if not cut[number] and wins and (taken + row < left)[row > 0].all():
                cut[number] = True
                taken += row
    if not cut.any():
        usable = [number for number in order if (counts[number] < left)[counts[number] > 0].all()]
        smallest = min(usable, key=lambda number: int(sizes[number]), default=None)
        if smallest is None or 2 * sizes[smallest] > len(group):
            raise UserError(
                "--data.dev-fraction finds nothing to cut, because pairs that share texts stay together",
                got=f"a group of {sizes.max():,} of {len(group):,} pairs",
                fix="give a dev file, or --data.no-group-texts, whose dev shares texts with train",
            )
        cut[smallest] = True
    return np.flatnonzero(cut[group])
