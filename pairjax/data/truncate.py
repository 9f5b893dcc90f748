"""Computes how many tokens of each text a pair keeps, in closed form over a split, with one rule for each strategy."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int64

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UncuttableError


def _longest_first(
    first: Int64[np.ndarray, " pairs"], second: Int64[np.ndarray, " pairs"], budget: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Returns what is kept if tokens are dropped from the longer side until both fit, as in transformers.

    The longer side, or the second side of two equal ones, keeps an odd token.
    """
    short, long = np.minimum(first, second), np.maximum(first, second)
    low = np.where(2 * short > budget, budget // 2, short)
    fits = short + long <= budget
    low, high = np.where(fits, short, low), np.where(fits, long, budget - low)
    longer_first = first > second
    return np.where(longer_first, high, low), np.where(longer_first, low, high)


def truncated_lengths(
    first: Int64[np.ndarray, " pairs"],
    second: Int64[np.ndarray, " pairs"],
    *,
    kind: Literal["cross", "bi"],
    budget: int,
    truncation: Truncation,
    where: Sequence[str],
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Returns the number of tokens that each side keeps.

    Args:
        first: int64 [N]; tokens of each text of side A.
        second: int64 [N]; tokens of each text of side B.
        kind: `cross` or `bi`.
        budget: Most tokens of both sides together (cross) or of each side (bi), special tokens not counted.
        truncation: The strategy.
        where: Each pair's place in its source, for messages; may be empty.

    Raises:
        UncuttableError: The only side that may be cut would keep nothing, or (bi) the other side is too long.
    """
    if truncation in ("longest_first", "head_tail"):
        if kind == "bi":
            return np.minimum(first, budget), np.minimum(second, budget)
        return _longest_first(first, second, budget)
    cut, uncut = (first, second) if truncation == "only_first" else (second, first)
    if kind == "bi":
        room, too_long = np.full_like(cut, budget), uncut > budget
    else:
        room = budget - uncut
        too_long = (cut > room) & (room < 1)
    if too_long.any():
        side = "second" if truncation == "only_first" else "first"
        limit = budget if kind == "bi" else budget - 1
        raise UncuttableError(
            {
                index: f"{where[index] if where else f'pair {index + 1}'}: the {side} text alone fills the row, "
                f"and --data.truncation {truncation} may not cut it; got {uncut[index]} tokens; expected at most "
                f"{limit}; shorten it, or train with --data.truncation longest_first or a larger --data.max-length"
                for index in np.flatnonzero(too_long).tolist()
            }
        )
    rest = np.minimum(cut, room)
    return (rest, uncut) if truncation == "only_first" else (uncut, rest)
