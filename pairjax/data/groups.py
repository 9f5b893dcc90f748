"""Groups of pairs that share texts: finds them, counts them, and fixes their order for cuts of a split."""

import numpy as np
from jaxtyping import Int64

from pairjax.base.types import Pairs
from pairjax.evaluation.clusters import text_clusters

SCALE = 2**40
"""Weights of strata are integers, in units of 1 / SCALE, so sums are equal on every machine."""


def number_groups(cluster: Int64[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
    """Numbers clusters from 0 in the order of their first pairs, whatever numbers they have."""
    _, first, inverse = np.unique(cluster, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    return number[inverse]


def group_order(sizes: Int64[np.ndarray, " groups"], *, seed: int, largest_first: bool) -> Int64[np.ndarray, " groups"]:
    """Returns the groups in a seeded random order, large ones first if asked for.

    The order is equal in every process and with every version: groups are numbered by their first pairs, NumPy has
    frozen the stream of `RandomState` (unlike that of `Generator`), and the sort by size is stable.
    """
    order = np.random.RandomState(seed % 2**32).permutation(len(sizes))
    return order[np.argsort(-sizes[order], kind="stable")] if largest_first else order


def count_strata(
    group: Int64[np.ndarray, " pairs"], stratum: Int64[np.ndarray, " pairs"], *, groups: int | None = None
) -> Int64[np.ndarray, "groups strata"]:
    """Counts the pairs of each group and stratum.

    Args:
        group: The group of each pair.
        stratum: The stratum of each pair.
        groups: Number of groups, if the last ones may be empty.
    """
    counts = np.zeros((int(group.max()) + 1 if groups is None else groups, int(stratum.max()) + 1), np.int64)
    np.add.at(counts, (group, stratum), 1)
    return counts


def stratum_weights(counts: Int64[np.ndarray, "groups strata"]) -> Int64[np.ndarray, " strata"]:
    """Returns the integer weight of each stratum's squared counts: SCALE / size^2, at least 1; rare ones count more."""
    sizes = counts.sum(axis=0)
    return np.maximum(SCALE // np.maximum(sizes, 1) ** 2, 1)


def describe_groups(pairs: Pairs) -> str:
    """Describes the groups of pairs that share texts: `3,000 groups of pairs that share texts, largest 12`."""
    sizes = np.bincount(number_groups(text_clusters(pairs)))
    if sizes.max(initial=0) <= 1:
        return "each text is in one pair only"
    connected = int(sizes[sizes > 1].sum())
    return (
        f"{len(sizes):,} groups of pairs that share texts, the largest of {sizes.max():,} pairs; "
        f"{connected:,} pairs share a text with another"
    )
