"""How many tokens of each text a pair keeps: closed forms over whole splits, one rule a strategy."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int64

from pairjax.base.config import Truncation
from pairjax.base.errors import UserError


def _longest_first(
    first: Int64[np.ndarray, " pairs"], second: Int64[np.ndarray, " pairs"], budget: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """What is kept when tokens are taken from the longer side until both fit, as transformers counts it.

    An odd token goes to the side that was longer, or to the second of equals.
    """
    short, long = np.minimum(first, second), np.maximum(first, second)
    low = np.where(2 * short > budget, budget // 2, short)
    fits = short + long <= budget
    low, high = np.where(fits, short, low), np.where(fits, long, budget - low)
    longer_first = first > second
    return np.where(longer_first, high, low), np.where(longer_first, low, high)


def kept_tokens(
    first: Int64[np.ndarray, " pairs"],
    second: Int64[np.ndarray, " pairs"],
    *,
    kind: Literal["cross", "bi"],
    budget: int,
    truncation: Truncation,
    where: Sequence[str],
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Tokens that each side keeps: of `budget` together (cross) or each (bi).

    Raises:
        UserError: The one side that may be cut would keep nothing, or (bi) the other is too long.
    """
    if truncation in ("longest_first", "head_tail"):
        if kind == "bi":
            return np.minimum(first, budget), np.minimum(second, budget)
        return _longest_first(first, second, budget)
    cut, whole = (first, second) if truncation == "only_first" else (second, first)
    if kind == "bi":
        room, wrong = np.full_like(cut, budget), whole > budget
    else:
        room = budget - whole
        wrong = (cut > room) & (room < 1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        side = "second" if truncation == "only_first" else "first"
        raise UserError(
            f"{where[row] if where else f'pair {row + 1}'}: the {side} text alone fills the row, and "
            f"--data.truncation {truncation} may not cut it",
            got=f"{whole[row]} tokens",
            expected=f"at most {budget if kind == 'bi' else budget - 1}",
            fix="use --data.truncation longest_first or a larger --data.max-length",
        )
    kept = np.minimum(cut, room)
    return (kept, whole) if truncation == "only_first" else (whole, kept)
