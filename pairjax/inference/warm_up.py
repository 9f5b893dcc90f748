"""Compile a model's programs before they are needed, so that no later call waits for a compilation."""

from collections.abc import Callable, Sequence
from typing import Any

from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout
from pairjax.data.sides import blank_rows
from pairjax.inference.text_vectors import CachedVectors


def compile_shapes(
    outputs: Callable[..., Any],
    sides: CachedVectors | None,
    like: EncodedPairs,
    *,
    layout: Layout,
    batch_size: int,
    rows: Sequence[int] | None,
) -> int:
    """Compiles a program for every shape of batch.

    Args:
        outputs: Computes the outputs of joint rows, as `PairClassifier.encoded_outputs`.
        sides: Computes the vectors of single texts; None if the model has none, so that rows hold both texts.
        like: Rows of the model.
        layout: Lengths of rows.
        batch_size: Largest number of rows in a compiled batch.
        rows: Numbers of joint rows, each a power of two; by default all up to `batch_size`.

    Returns:
        The number of shapes.
    """
    if sides is not None:
        return sides.warm_up(like, batch_size=batch_size)
    if rows is None:
        rows = sorted({min(batch_size, 1 << power) for power in range(batch_size.bit_length() + 1)})
    for length in layout.ladder:
        for count in rows:
            outputs(blank_rows(length, count, like), batch_size=batch_size)
    return len(rows) * len(layout.ladder)
