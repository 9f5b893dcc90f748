"""Several pairs a row: which pairs form a batch, and which of a batch share a row.

Batches hold as many pairs as those of the other layouts, so steps, schedule and loss weights are the same; what varies
is how many pairs stand in a row.
"""

import numpy as np
from jaxtyping import Int32, Int64


def deal(
    order: Int64[np.ndarray, " pairs"],
    keys: Int64[np.ndarray, "size batches"],
    lengths: Int32[np.ndarray, " every"],
) -> Int64[np.ndarray, "batches size"]:
    """A window's pairs to its batches, so that all batches need nearly as many slots.

    Sorted by length and cut into strata of one pair a batch, each stratum is dealt in random order: a batch is a random
    draw from every stratum, and its mean length varies less than a plain random draw's.

    Args:
        order: Indices of the window's pairs, in random order; batches x size of them.
        keys: Random numbers; those of a stratum say who gets which pair.
        lengths: Slots that each pair of the split needs.
    """
    strata = order[np.argsort(lengths[order], kind="stable")].reshape(keys.shape)
    return np.take_along_axis(strata, np.argsort(keys, axis=1, kind="stable"), axis=1).T


def pack(
    batches: Int64[np.ndarray, "steps size"],
    lengths: Int32[np.ndarray, " every"],
    *,
    row: int,
    most: int,
) -> Int32[np.ndarray, "steps rows slots"]:
    """Best fit, longest first, of every batch at once.

    Args:
        batches: Indices of each batch's pairs; -1 where a batch has fewer.
        lengths: Slots that each pair of the split needs; none above `row`.
        row: Slots of a row.
        most: Pairs that a row may hold.

    Returns:
        int32 [steps, R, K]: R is what the fullest batch needs, K what the fullest row holds; -1 in empty slots. A row's
        pairs stand longest first.
    """
    steps, size = batches.shape
    need = np.where(batches < 0, 0, lengths[batches].astype(np.int64))
    longest_first = np.argsort(-need, axis=1, kind="stable")
    batches, need = (np.take_along_axis(x, longest_first, axis=1) for x in (batches, need))
    index = np.full((steps, size, min(most, size)), -1, np.int32)
    left = np.full((steps, size), row, np.int64)
    count = np.zeros((steps, size), np.int64)
    every = np.arange(steps)
    for place in range(size):
        length = need[:, place]
        fits = (left >= length[:, None]) & (count < index.shape[2])
        # The fullest row that takes it; an empty one, having most left, comes last, the first of them first.
        chosen = np.where(fits, left, row + 1).argmin(axis=1)
        real = batches[:, place] >= 0
        at, where = every[real], chosen[real]
        index[at, where, count[at, where]] = batches[real, place]
        left[at, where] -= length[real]
        count[at, where] += 1
    rows = int((count > 0).sum(axis=1).max(initial=0))
    return index[:, :rows, : max(1, int(count.max(initial=0)))]
