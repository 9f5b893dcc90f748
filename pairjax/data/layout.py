"""Chooses row lengths and plans the order of an epoch: which pairs are in which row of which step.

A plan is a pure function of (seed, epoch, lengths, layout, batch size) and the same on every process, so the state of
the data is one integer, the step. Its random bits come from Philox's raw stream, which NumPy keeps stable over
versions.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.packing import deal_pairs, pack_pairs

MULTIPLE = 8
"""Row lengths are multiples of this."""

WINDOW = 32
"""Number of batches within which pairs are grouped by row length; see `plan_epoch`.

Padding is 19 % of SICK's slots and 15 % of MRPC's (joint rows, batch 32, four lengths). It is 25 and 19 % with windows
of 8 batches, 18 and 14 % with one window over all batches, 44 and 34 % if every random batch is padded to its own
longest pair, and 59 and 49 % if all rows are as long as the longest pair.
"""

TRIALS, TRIAL_SEED = 3, 0
"""Number and seed of the epochs that are packed to find out how many rows a batch needs."""


@dataclass(frozen=True)
class Layout:
    """The row lengths that a run compiles.

    Attributes:
        kind: `padded` (one length) or `bucketed` (a short ladder) with one pair a row; or `packed` with several pairs a
            row in training and one in evaluation, whose batches are sorted by length and leave nothing to pack.
        ladder: Row lengths in slots, ascending; for a packed layout, those of evaluation.
        row: Slots of a training row of a packed layout; 0 for other layouts.
        pairs: Most pairs in a training row, K.
    """

    kind: Literal["padded", "bucketed", "packed"]
    ladder: tuple[int, ...]
    row: int = 0
    pairs: int = 1

    def __post_init__(self) -> None:
        if not self.ladder or list(self.ladder) != sorted(set(self.ladder)) or self.ladder[0] < 1:
            raise ValueError(f"a ladder ascends from at least 1, got {self.ladder}")
        if self.kind == "padded" and len(self.ladder) != 1:
            raise ValueError(f"a padded layout has one row length, got {self.ladder}")
        if (self.kind == "packed") != (self.row > 0) or self.pairs < 1 or (self.pairs > 1 and self.kind != "packed"):
            raise ValueError(f"a packed layout, and no other, has a row length and several pairs a row; got {self}")

    def rungs(self, lengths: Int32[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
        """Returns the index in the ladder of the shortest row that holds each length.

        Raises:
            ValueError: A length is greater than the longest row; `extend` the layout first.
        """
        rungs = np.searchsorted(self.ladder, lengths).astype(np.int64)
        if len(lengths) and int(rungs.max()) == len(self.ladder):
            raise ValueError(f"a pair of {lengths.max()} slots does not fit the longest row, {self.ladder[-1]}")
        return rungs

    def extend(self, lengths: Int32[np.ndarray, " pairs"]) -> "Layout":
        """Returns this layout with a row that fits every length: added to a ladder, or in place of a padded length."""
        need = _round_up(int(lengths.max(initial=1)), MULTIPLE)
        if need <= self.ladder[-1]:
            return self
        return replace(self, ladder=(need,) if self.kind == "padded" else (*self.ladder, need))


@dataclass(frozen=True)
class Plan:
    """The pairs that each step reads.

    Attributes:
        index: int32 [steps, rows, K]; index of the pair in each pair slot, -1 for an empty one.
        length: int32 [steps]; slots of each row of a step.
    """

    index: Int32[np.ndarray, "steps rows pairs"]
    length: Int32[np.ndarray, " steps"]


def _round_up(value: int, multiple: int) -> int:
    """Rounds up to a multiple."""
    return -(-value // multiple) * multiple


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Returns the number of batches that read every example once; the last batch may be partial."""
    return -(-examples // batch_size)


def choose_layout(config: DataConfig, lengths: Int32[np.ndarray, " pairs"]) -> Layout:
    """Chooses the row lengths for a training split.

    `padded` uses the length of the longest pair, `packed` the row length of the config or the cheapest one (`_packed`).
    `bucketed` uses at most `config.buckets` lengths that minimise the number of slots, by dynamic programming over
    multiples of 8. In each window of batches, about half a batch at each boundary between two lengths is mixed and
    needs rows of the longer length (see `plan_epoch`). The cost counts this: the cumulative number of pairs is lowered
    by N / (2 x WINDOW) at every length but the last.

    Args:
        config: Only `layout`, `buckets`, `ladder` and `row_length` are read.
        lengths: int32 [N]; slots that each pair of train needs. Evaluation data must not change training.

    Raises:
        UserError: The row lengths of the config cannot hold the longest pair.
    """
    longest = _round_up(int(lengths.max(initial=1)), MULTIPLE)
    if config.layout == "padded":
        return Layout("padded", (longest,))
    if config.ladder:
        if config.ladder[-1] < int(lengths.max(initial=1)):
            raise UserError(
                "--data.ladder cannot hold every pair",
                got=f"rows of {config.ladder[-1]} slots at most, and a pair of {lengths.max()}",
                fix=f"use {longest} or more as the last, or a smaller --data.max-length",
            )
        return Layout("bucketed", config.ladder)
    ladder = _ladder(config, lengths, longest)
    return _packed(config, lengths, ladder) if config.layout == "packed" else Layout("bucketed", ladder)


def _ladder(config: DataConfig, lengths: Int32[np.ndarray, " pairs"], longest: int) -> tuple[int, ...]:
    """Returns at most `config.buckets` lengths; see `choose_layout`."""
    counts = np.bincount(-(-lengths // MULTIPLE), minlength=longest // MULTIPLE + 1)
    total = float(counts.sum())
    cumulative = np.maximum(np.cumsum(counts) - total / (2 * WINDOW), 0.0)
    cumulative[-1] = total
    size = len(cumulative)
    # cost[used, top]: slots of all pairs of at most `top` multiples, with `used` lengths of which `top` is the longest.
    cost = np.full((config.buckets + 1, size), np.inf)
    back = np.zeros((config.buckets + 1, size), np.int64)
    cost[0, 0] = 0.0
    for used in range(1, config.buckets + 1):
        for top in range(1, size):
            costs = cost[used - 1, :top] + (cumulative[top] - cumulative[:top]) * top
            back[used, top] = int(costs.argmin())
            cost[used, top] = costs.min()
    used, top = int(cost[:, -1].argmin()), size - 1
    ladder = []
    while top > 0:
        ladder.append(top * MULTIPLE)
        used, top = used - 1, int(back[used, top])
    return tuple(reversed(ladder))


def _packed(config: DataConfig, lengths: Int32[np.ndarray, " pairs"], ladder: tuple[int, ...]) -> Layout:
    """Returns a packed layout with the row length of the config, or else with the cheapest one.

    Lengths between one and three times the longest pair are tried. The cost of length L is (slots of a trial epoch) x
    (1 + L / 1000): the cost of attention grows with the row, by about this factor in encoders of a few hundred
    dimensions.
    """
    longest = ladder[-1]
    if config.row_length:
        if config.row_length < int(lengths.max(initial=1)):
            raise UserError(
                "--data.row-length cannot hold every pair",
                got=f"rows of {config.row_length} slots, and a pair of {lengths.max()}",
                fix=f"use --data.row-length {longest} or more, or a smaller --data.max-length",
            )
        candidates = [config.row_length]
    else:
        candidates = list(range(longest, 3 * longest + 1, MULTIPLE))
    costs = []
    for row in candidates:
        trial = Layout("packed", ladder, row, pairs=32)
        steps, rows, pairs = _pack_epoch(TRIAL_SEED, 0, lengths[: 64 * 32], trial, batch_size=32).shape
        costs.append((steps * rows * row * (1 + row / 1000), row, pairs))
    _, row, pairs = min(costs)
    return Layout("packed", ladder, row, pairs)


def _random_bits(seed: int, epoch: int) -> np.random.Philox:
    """Returns the random bits of an epoch."""
    return np.random.Philox(np.random.SeedSequence([seed % 2**64, epoch]))


def _permutation(bits: np.random.Philox, count: int) -> Int64[np.ndarray, " count"]:
    """Returns a permutation made from raw bits, because `Generator.permutation` may change between NumPy versions."""
    return np.argsort(np.atleast_1d(bits.random_raw(count)), kind="stable").astype(np.int64)


def _fill(
    order: Int64[np.ndarray, " pairs"],
    sizes: Int64[np.ndarray, " steps"],
    lengths: Int32[np.ndarray, " pairs"],
    *,
    layout: Layout,
    rows: int,
) -> Plan:
    """Cuts an order into batches of the given sizes, with rows as long as the longest pair of the batch needs."""
    index = np.full((len(sizes), rows), -1, np.int32)
    index[np.arange(rows) < sizes[:, None]] = order
    rung = np.where(index < 0, 0, layout.rungs(lengths)[index]) if len(sizes) else index
    length = np.asarray(layout.ladder, np.int32)[rung.max(axis=1, initial=0)]
    return Plan(index[:, :, None], length)


def plan_epoch(
    *,
    seed: int,
    epoch: int,
    lengths: Int32[np.ndarray, " pairs"],
    layout: Layout,
    batch_size: int,
    multiple: int = 1,
) -> Plan:
    """Plans an epoch of training: every pair exactly once, and at most one partial batch.

    A bucketed order is a random permutation that is cut into windows of about 32 batches. Within a window, pairs are
    grouped by row length and cut into batches, and the batches are shuffled. Pairs are grouped by the ladder's lengths,
    not by their own, so a batch is a random draw from the pairs of its row length. A packed order is cut into the same
    windows; their batches are dealt pairs of all lengths (`packing.deal_pairs`), and each batch is packed by itself.
    The partial batch may be anywhere.

    Example:
        >>> lengths = np.array([5, 9, 8, 16], np.int32)
        >>> layout = Layout("bucketed", (8, 16))
        >>> plan = plan_epoch(seed=0, epoch=0, lengths=lengths, layout=layout, batch_size=2)
        >>> plan.index.tolist()  # steps, rows, pair slots
        [[[3], [1]], [[0], [2]]]
        >>> plan.length.tolist()
        [16, 8]

    Args:
        seed: The run's seed.
        epoch: Number of the epoch, from 0.
        lengths: int32 [N]; slots that each pair needs.
        layout: The row lengths; the longest must hold every pair.
        batch_size: Number of pairs in a step.
        multiple: The number of rows (`batch_size`, or what the fullest packed batch needs) is rounded up to a multiple
            of this, the number of devices that share the rows.

    Raises:
        ValueError: A pair is longer than the layout's longest row.
    """
    if layout.kind == "packed":
        trials = [_pack_epoch(TRIAL_SEED, trial, lengths, layout, batch_size) for trial in range(TRIALS)]
        index = _pack_epoch(seed, epoch, lengths, layout, batch_size)
        # At least the rows of the trials, so every epoch has one shape unless it needs more rows.
        rows = _round_up(max(packed.shape[1] for packed in (index, *trials)), multiple)
        padded = np.full((len(index), rows, layout.pairs), -1, np.int32)
        padded[:, : index.shape[1], : index.shape[2]] = index
        return Plan(padded, np.full(len(index), layout.row, np.int32))
    # The order of these draws is part of the plan: a resumed run must draw the same.
    # 1. A random order, and the place of the partial batch.
    bits = _random_bits(seed, epoch)
    order = _permutation(bits, len(lengths))
    steps = steps_per_epoch(len(lengths), batch_size)
    sizes = np.full(steps, batch_size, np.int64)
    if steps and len(lengths) % batch_size:
        sizes[int(bits.random_raw()) % steps] = len(lengths) % batch_size
    # 2. In each window: pairs sorted by row length, then batches shuffled.
    rungs = layout.rungs(lengths)
    windows = np.array_split(np.arange(steps), max(1, round(steps / WINDOW)))
    ends = np.concatenate([[0], np.cumsum(sizes)])
    shuffled = []
    for window in windows:
        if not len(window) or layout.kind == "padded":
            shuffled.append(window)
            continue
        part = slice(int(ends[window[0]]), int(ends[window[-1] + 1]))
        order[part] = order[part][np.argsort(rungs[order[part]], kind="stable")]
        shuffled.append(window[_permutation(bits, len(window))])
    plan = _fill(order, sizes, lengths, layout=layout, rows=_round_up(batch_size, multiple))
    steps_in_order = np.concatenate(shuffled)
    return Plan(plan.index[steps_in_order], plan.length[steps_in_order])


def _pack_epoch(
    seed: int, epoch: int, lengths: Int32[np.ndarray, " pairs"], layout: Layout, batch_size: int
) -> Int32[np.ndarray, "steps rows slots"]:
    """Plans the packed batches of an epoch, with as many rows as its fullest batch needs."""
    if int(lengths.max(initial=0)) > layout.row:
        raise ValueError(f"a pair of {lengths.max()} slots does not fit a packed row of {layout.row}")
    bits = _random_bits(seed, epoch)
    order = _permutation(bits, len(lengths))
    full = len(lengths) // batch_size
    batches = np.full((steps_per_epoch(len(lengths), batch_size), batch_size), -1, np.int64)
    # The partial batch is taken first, from the random order: dealt from strata, it would get only similar lengths.
    rest = len(lengths) - full * batch_size
    batches[full:, :rest] = order[:rest]
    windows = np.array_split(np.arange(full), max(1, round(full / WINDOW)))
    for window in windows:
        if len(window):
            members = order[rest + window[0] * batch_size : rest + (window[-1] + 1) * batch_size]
            keys = bits.random_raw(batch_size * len(window)).reshape(batch_size, len(window))
            batches[window] = deal_pairs(members, (keys >> np.uint64(1)).astype(np.int64), lengths)
    if rest:
        step = int(bits.random_raw()) % len(batches)
        batches[[step, full]] = batches[[full, step]]
    return pack_pairs(batches, lengths, row=layout.row, most=layout.pairs)


def plan_in_order(lengths: Int32[np.ndarray, " pairs"], layout: Layout, batch_size: int, *, multiple: int = 1) -> Plan:
    """Plans an evaluation: every pair exactly once, longest first, so memory use peaks in the first batch.

    Args:
        lengths: int32 [N]; slots that each pair needs.
        layout: The row lengths; the longest must hold every pair (see `Layout.extend`).
        batch_size: Number of pairs in a batch; the last batch may be partial.
        multiple: As in `plan_epoch`.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable").astype(np.int64)
    steps = steps_per_epoch(len(lengths), batch_size)
    sizes = np.full(steps, batch_size, np.int64)
    if steps:
        sizes[-1] = len(lengths) - batch_size * (steps - 1)
    return _fill(order, sizes, lengths, layout=layout, rows=_round_up(batch_size, multiple))


def padding_share(plan: Plan, lengths: Int32[np.ndarray, " pairs"]) -> float:
    """Returns the share of a plan's slots, in [0, 1], that have no token."""
    slots = int((plan.length.astype(np.int64) * plan.index.shape[1]).sum())
    return 1.0 - float(lengths[plan.index[plan.index >= 0]].sum()) / max(slots, 1)
