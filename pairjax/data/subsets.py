"""Subsets of a split: the pairs of given indices, a fixed sample, and a dev split cut off train."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs
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
    )


def sample_pairs(pairs: Pairs, most: int) -> Pairs:
    """Returns a fixed sample of `most` pairs in their order, or all pairs if there are no more than that."""
    if len(pairs) <= most:
        return pairs
    return take_pairs(pairs, np.sort(np.random.default_rng(0).permutation(len(pairs))[:most]))


def _strata(label: np.ndarray, kind: Kind) -> Mapping[int, np.ndarray]:
    """Returns the indices of each class, or of each tenth of the scores."""
    if kind == "regression":
        rank = np.empty(len(label), np.int64)
        rank[np.argsort(label, kind="stable")] = np.arange(len(label))
        group = rank * min(SCORE_BINS, max(len(label) // 2, 1)) // len(label)
    else:
        group = label
    return {int(value): np.flatnonzero(group == value) for value in np.unique(group)}


def cut_dev(
    label: np.ndarray, *, kind: Kind, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " dev"]]:
    """Returns the indices of train and of dev, each in ascending order.

    Dev gets `fraction` of the pairs, and at least one. Each class (or tenth of the scores) gives its share by largest
    remainder. The last pair of a class stays in train.

    Args:
        label: Class indices or scores [N].
        kind: Whether `label` has class indices (`classification`) or scores (`regression`).
        fraction: Share of dev, in (0, 1).
        seed: Seeds the draw within a stratum.

    Raises:
        UserError: Nothing can be cut, because each class has one pair.
    """
    strata = _strata(label, kind)
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
    rng = np.random.default_rng(seed)
    dev = np.sort(np.concatenate([rng.permutation(index)[: take[value]] for value, index in strata.items()]))
    return np.setdiff1d(np.arange(len(label)), dev), dev
