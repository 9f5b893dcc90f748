"""Packs several pairs in a row: chooses which pairs form a batch, and which pairs of a batch share a row.

Batches have as many pairs as in the other layouts, so steps, schedule and loss weights are the same. Only the number of
pairs in a row varies.
"""

import numpy as np
from jaxtyping import Int32, Int64


def deal_pairs(
    order: Int64[np.ndarray, " pairs"],
    keys: Int64[np.ndarray, "size batches"],
    lengths: Int32[np.ndarray, " all_pairs"],
) -> Int64[np.ndarray, "batches size"]:
    """Deals the pairs of a window to its batches so that all batches need nearly the same number of slots.

    The pairs are sorted by length and cut into strata with one pair for each batch, and each stratum is dealt in random
    order. A batch is thus a random draw from every stratum, and its mean length varies less than that of a plain random
    draw.

    Args:
        order: int64 [batches * size]; indices of the window's pairs, in random order.
        keys: int64 [size, batches]; random numbers. Those of a stratum say which batch gets which pair.
        lengths: int32 [N]; slots that each pair of the split needs.
    """
    strata = order[np.argsort(lengths[order], kind="stable")].reshape(keys.shape)
    return np.take_along_axis(strata, np.argsort(keys, axis=1, kind="stable"), axis=1).T


def pack_pairs(
    batches: Int64[np.ndarray, "steps size"],
    lengths: Int32[np.ndarray, " all_pairs"],
    *,
    row: int,
    most: int,
) -> Int32[np.ndarray, "steps rows slots"]:
    """Packs the pairs of every batch into rows by best-fit decreasing, all batches at once.

    Args:
        batches: int64 [steps, size]; indices of each batch's pairs, padded with -1.
        lengths: int32 [N]; slots that each pair of the split needs, none greater than `row`.
        row: Slots of a row.
        most: Most pairs in a row.

    Returns:
        int32 [steps, R, K]; pairs of each row, longest first, padded with -1. R is the number of rows that the fullest
        batch needs, K the number of pairs in the fullest row.
    """
    steps, size = batches.shape
    need = np.where(batches < 0, 0, lengths[batches].astype(np.int64))
    longest_first = np.argsort(-need, axis=1, kind="stable")
    batches, need = (np.take_along_axis(array, longest_first, axis=1) for array in (batches, need))
    index = np.full((steps, size, min(most, size)), -1, np.int32)
    free = np.full((steps, size), row, np.int64)
    count = np.zeros((steps, size), np.int64)
    all_steps = np.arange(steps)
    for position in range(size):
        length = need[:, position]
        fits = (free >= length[:, None]) & (count < index.shape[2])
        # The row with the fewest free slots that are enough. Empty rows have the most, so argmin takes the first of
        # them only if no other row fits.
        fullest = np.where(fits, free, row + 1).argmin(axis=1)
        real = batches[:, position] >= 0
        step, target = all_steps[real], fullest[real]
        index[step, target, count[step, target]] = batches[real, position]
        free[step, target] -= length[real]
        count[step, target] += 1
    rows = int((count > 0).sum(axis=1).max(initial=0))
    return index[:, :rows, : max(1, int(count.max(initial=0)))]
