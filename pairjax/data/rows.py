"""Select and join token rows that are already encoded, so that pairs of several callers share a batch."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from pairjax.data.encode import EncodedPairs


def select_rows(encoded: EncodedPairs, index: Int64[np.ndarray, " rows"]) -> EncodedPairs:
    """Returns the rows at `index`, in its order.

    Args:
        encoded: The rows.
        index: int64 [M]; indices of rows, which may repeat.

    Returns:
        M rows; the counts of cut rows are 0, but `cut` is that of the rows.
    """
    begins = encoded.offsets[index]
    sizes = encoded.offsets[index + 1] - begins
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    return replace(
        encoded,
        tokens=encoded.tokens[np.repeat(begins, sizes) + within],
        offsets=offsets,
        first_length=encoded.first_length[index],
        truncated=0,
        lost=0,
        bare=0,
        cut=None if encoded.cut is None else encoded.cut[index],
    )


def join_rows(parts: Sequence[EncodedPairs]) -> EncodedPairs:
    """Returns the rows of all parts, one part after another; the counts of cut rows are 0.

    Args:
        parts: Rows that one model encoded; at least one part.
    """
    ends = np.cumsum([0, *(len(part.tokens) for part in parts)])
    offsets = [part.offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
    return replace(
        parts[0],
        tokens=np.concatenate([part.tokens for part in parts]),
        offsets=np.concatenate([[0], *offsets]).astype(np.int64),
        first_length=np.concatenate([part.first_length for part in parts]),
        truncated=0,
        lost=0,
        bare=0,
        cut=None,
    )
