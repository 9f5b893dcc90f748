"""Makes batches from planned rows: NumPy arrays of static shapes, prefetched by Grain.

Nothing here keeps state. A batch is a function of the plan and the step, so a run can resume at any step, with any
number of processes.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int, Int32

from pairjax.base.types import Batch
from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout, Plan, plan_epoch, steps_per_epoch

PADDING_POSITION = 1
"""Position id of an empty slot: valid in every embedding table, and not 0, which marks a sequence's first token."""


def make_batch(
    encoded: EncodedPairs,
    label: Int32[np.ndarray, " pairs"] | Float32[np.ndarray, "pairs *labels"] | None,
    index: Int32[np.ndarray, "rows slots"],
    length: int,
    soft: Float32[np.ndarray, "pairs classes"] | None = None,
) -> Batch:
    """Makes a batch: places the pairs of each row of `index` one after another in `length` token slots.

    Example:
        >>> tokens, offsets = np.array([1, 5, 2, 6, 2, 1, 7, 2, 8, 2], np.int32), np.array([0, 5, 10])
        >>> first_length = np.array([3, 3], np.int32)
        >>> encoded = EncodedPairs(tokens, offsets, first_length, "cross", True, 0, 8, "longest_first")
        >>> batch = make_batch(encoded, np.array([0, 1], np.int32), np.array([[1], [-1]], np.int32), length=6)
        >>> batch.input_ids
        array([[1, 7, 2, 8, 2, 0],
               [0, 0, 0, 0, 0, 0]], dtype=int32)
        >>> batch.label.tolist(), batch.weight.tolist()
        ([[1], [0]], [[1.0], [0.0]])

    Args:
        encoded: The split's token rows.
        label: int32 [N], float32 [N] or float32 [N, C]; labels, or None: the batch's are then int32 zeros.
        index: int32 [R, K]; index of the pair in each pair slot, -1 for an empty one.
        length: Token slots of each row.
        soft: float32 [N, C]; class probabilities of the split, or None.

    Returns:
        NumPy arrays as `Batch` describes them. Empty token slots have the pad token, pair id 0, segment and side 0, and
        position 1.

    Raises:
        ValueError: A row's pairs need more than `length` slots.
    """
    filled = index >= 0
    example = np.where(filled, index, 0).astype(np.int64)
    offset = encoded.offsets[example]
    need = np.where(filled, encoded.offsets[example + 1] - offset, 0)
    if int(need.sum(axis=1).max(initial=0)) > length:
        raise ValueError(f"a row of {length} slots cannot hold {need.sum(axis=1).max()}")
    shape = (len(index), length)
    input_ids = np.full(shape, encoded.pad_id, np.int32)
    position_ids = np.full(shape, PADDING_POSITION, np.int32)
    pair_ids, side_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    start = np.zeros(len(index), np.int64)
    for slot in range(index.shape[1]):
        position = np.arange(length) - start[:, None]
        row, column = np.nonzero((position >= 0) & (position < need[:, slot, None]))
        within = position[row, column]
        side, begin = _sides(encoded, example[:, slot], need[:, slot], row, within)
        input_ids[row, column] = encoded.tokens[offset[row, slot] + within]
        position_ids[row, column] = within - begin if encoded.kind == "bi" else within
        pair_ids[row, column] = slot + 1
        side_ids[row, column] = side
        start += need[:, slot]
    labels = np.zeros(index.shape, np.int32)
    if label is not None:
        labels = np.zeros((*index.shape, *label.shape[1:]), label.dtype)
        labels[filled] = label[index[filled]]
    return Batch(
        input_ids=input_ids,
        token_type_ids=side_ids.copy() if encoded.segments else np.zeros(shape, np.int32),
        position_ids=position_ids,
        pair_ids=pair_ids,
        side_ids=side_ids,
        label=labels,
        weight=filled.astype(np.float32),
        example_id=index,
        soft=None if soft is None else np.where(filled[..., None], soft[example], np.float32(0)),
    )


def _sides(
    encoded: EncodedPairs, example: np.ndarray, need: np.ndarray, row: np.ndarray, within: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the side of each token, and where the side begins in its pair, for tokens at `within` of their pairs."""
    first_length = encoded.first_length[example][row]
    side = (within >= first_length).astype(np.int32)
    begin = first_length * side
    if encoded.third_length is not None:
        third = (need - encoded.third_length[example])[row]
        begin = np.where(within >= third, third, begin)
        side += within >= third
    return side, begin


def own_rows(rows: int, process_index: int, process_count: int) -> slice:
    """Returns the rows of a batch that one of several processes makes.

    Args:
        rows: Number of rows in the batch.
        process_index: The process.
        process_count: Number of processes.

    Raises:
        ValueError: The rows do not divide over the processes.
    """
    if rows % process_count:
        raise ValueError(f"{rows} rows do not divide over {process_count} processes; give multiple=")
    share = rows // process_count
    return slice(process_index * share, (process_index + 1) * share)


def prefetch_batches(
    batch: Callable[[int], tuple[int, Batch]], start_step: int, stop_step: int, *, prefetch: int
) -> Iterator[tuple[int, Batch]]:
    """Yields the batches of steps `start_step` to `stop_step - 1`, with `prefetch` of them made ahead in a thread.

    The first batch is made without Grain, which takes a quarter of a second to import.

    Args:
        batch: Returns a step and its batch.
        start_step: The first step.
        stop_step: One past the last step.
        prefetch: Number of batches made ahead; 0 makes each on demand.
    """
    if start_step < stop_step:
        yield batch(start_step)
    if start_step + 1 < stop_step:
        import grain

        options = grain.ReadOptions(num_threads=min(prefetch, 1), prefetch_buffer_size=prefetch)
        yield from grain.MapDataset.range(start_step + 1, stop_step).map(batch).to_iter_dataset(options)


def train_batches(
    encoded: EncodedPairs,
    label: Int32[np.ndarray, " pairs"] | Float32[np.ndarray, "pairs *labels"] | None,
    *,
    seed: int,
    layout: Layout,
    batch_size: int,
    start_step: int,
    stop_step: int,
    process_index: int = 0,
    process_count: int = 1,
    multiple: int = 1,
    prefetch: int = 2,
    subset: Int[np.ndarray, " subset"] | None = None,
    soft: Float32[np.ndarray, "pairs classes"] | None = None,
) -> Iterator[tuple[int, Batch]]:
    """Yields the batches of steps `start_step` to `stop_step - 1`, epoch after epoch.

    Args:
        encoded: The training split.
        label: int32 [N], float32 [N] or float32 [N, C]; labels of the split, or None.
        seed: Seeds the order of the pairs.
        layout: The row lengths.
        batch_size: Number of pairs in a step, over all processes.
        start_step: First step, counted from 0 over the whole run.
        stop_step: One past the last step.
        process_index: Which slice of each batch's rows to make.
        process_count: Number of slices.
        multiple: The number of rows in a batch is rounded up to a multiple of this.
        prefetch: Number of batches made ahead in a thread; 0 makes each on demand. The batches are the same.
        subset: int [M]; indices of the pairs to train on; None for all pairs.
        soft: float32 [N, C]; class probabilities of the split, or None.

    Yields:
        The step and this process's rows of its batch.
    """
    lengths = encoded.lengths if subset is None else encoded.lengths[subset]
    steps = steps_per_epoch(len(lengths), batch_size)
    plan = lru_cache(maxsize=2)(
        lambda epoch: plan_epoch(
            seed=seed, epoch=epoch, lengths=lengths, layout=layout, batch_size=batch_size, multiple=multiple
        )
    )

    def batch(step: int) -> tuple[int, Batch]:
        epoch = plan(step // steps)
        index = epoch.index[step % steps]
        index = index[own_rows(len(index), process_index, process_count)]
        if subset is not None:
            index = np.where(index >= 0, subset[np.maximum(index, 0)], -1).astype(np.int32)
        return step, make_batch(encoded, label, index, int(epoch.length[step % steps]), soft)

    return prefetch_batches(batch, start_step, stop_step, prefetch=prefetch)


def eval_batches(
    encoded: EncodedPairs,
    label: Int32[np.ndarray, " pairs"] | Float32[np.ndarray, "pairs *labels"] | None,
    plan: Plan,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yields this process's rows of the batches of a plan, in order.

    Args:
        encoded: The split's token rows.
        label: int32 [N], float32 [N] or float32 [N, C]; labels of the split, or None.
        plan: From `plan_in_order`.
        process_index: Which slice of each batch's rows to make.
        process_count: Number of slices.
    """
    for index, length in zip(plan.index, plan.length, strict=True):
        own = own_rows(len(index), process_index, process_count)
        yield make_batch(encoded, label, index[own], int(length))
