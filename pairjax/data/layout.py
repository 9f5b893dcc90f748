"""Row lengths, and the planned order of an epoch: which pairs go into which row of which step.

A plan is a pure function of (seed, epoch, lengths, layout, batch size), the same on every process, so that the whole
state of the data is one integer, the step. Its random bits come from Philox's raw stream, which NumPy keeps stable
over versions.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64

from pairjax.base.config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.packing import deal, pack

MULTIPLE = 8
WINDOW = 32
"""Batches within which pairs are grouped by row length: see `plan_epoch`.

Of SICK's and MRPC's slots (joint, batch 32, four lengths) 19 and 15 % are padding; 25 and 19 % with windows of 8, 18
and 14 % with one window over all; 44 and 34 % where random batches are padded each to its own longest, 59 and 49 %
where all rows are as long as the longest pair.
"""


TRIALS, TRIAL_SEED = 3, 0
"""Epochs that are packed to see how many rows a batch needs."""


@dataclass(frozen=True)
class Layout:
    """The row lengths that a run compiles.

    Attributes:
        kind: `padded` (one length) or `bucketed` (a short ladder), one pair a row; or `packed`, several in training and
            one in evaluation, where sorting by length leaves nothing to pack.
        ladder: Row lengths in slots, ascending; of a packed layout those of evaluation.
        row: Of a packed layout, slots of a training row; 0 otherwise.
        pairs: Most pairs that a training row holds, K.
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
        """Index of the shortest row that holds each length.

        Raises:
            ValueError: A length is beyond the last rung; `extend` the layout first.
        """
        found = np.searchsorted(self.ladder, lengths).astype(np.int64)
        if len(lengths) and int(found.max()) == len(self.ladder):
            raise ValueError(f"a pair of {lengths.max()} slots does not fit the longest row, {self.ladder[-1]}")
        return found

    def extend(self, lengths: Int32[np.ndarray, " pairs"]) -> "Layout":
        """This layout, with a longer row where some length needs it (added to a ladder, or in its place)."""
        need = _round_up(int(lengths.max(initial=1)), MULTIPLE)
        if need <= self.ladder[-1]:
            return self
        return replace(self, ladder=(need,) if self.kind == "padded" else (*self.ladder, need))


@dataclass(frozen=True)
class Plan:
    """Which pairs each step reads.

    Attributes:
        index: int32 [steps, rows, K]; -1 for an empty slot.
        length: int32 [steps]; the rows' slots.
    """

    index: Int32[np.ndarray, "steps rows pairs"]
    length: Int32[np.ndarray, " steps"]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Batches that read every example once, the last one perhaps in part."""
    return -(-examples // batch_size)


def choose_layout(config: DataConfig, lengths: Int32[np.ndarray, " pairs"]) -> Layout:
    """Row lengths for the data at hand.

    `padded` takes the longest pair; `packed` the row length asked for, or the cheapest (`_packed`). `bucketed` takes at
    most `config.buckets` lengths that minimise the slots paid for, by dynamic programming over multiples of 8. Of a
    window's batches about half a batch at each boundary mixes two lengths and pays the longer (`plan_epoch`), which the
    cost counts: cumulative pairs are lowered by N / (2 x window batches) at every rung but the last.

    Args:
        config: Its `layout`, `buckets`, `ladder` and `row_length` are read.
        lengths: Slots that each pair needs; the training split's, so that evaluation data change nothing in training.

    Raises:
        UserError: Rows of the lengths asked for cannot hold the longest pair.
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
    """At most `config.buckets` lengths; see `choose_layout`."""
    within = np.bincount(-(-lengths // MULTIPLE), minlength=longest // MULTIPLE + 1)
    total = float(within.sum())
    settled = np.maximum(np.cumsum(within) - total / (2 * WINDOW), 0.0)
    settled[-1] = total
    places = len(settled)
    cost = np.full((config.buckets + 1, places), np.inf)
    back = np.zeros((config.buckets + 1, places), np.int64)
    cost[0, 0] = 0.0
    for used in range(1, config.buckets + 1):
        for top in range(1, places):
            tries = cost[used - 1, :top] + (settled[top] - settled[:top]) * top
            back[used, top] = int(tries.argmin())
            cost[used, top] = tries.min()
    used, top = int(cost[:, -1].argmin()), places - 1
    ladder = []
    while top > 0:
        ladder.append(top * MULTIPLE)
        used, top = used - 1, int(back[used, top])
    return tuple(reversed(ladder))


def _packed(config: DataConfig, lengths: Int32[np.ndarray, " pairs"], ladder: tuple[int, ...]) -> Layout:
    """Rows of the length asked for, or of that between one and three longest pairs which costs least.

    The cost of L is (slots of a trial epoch) x (1 + L / 1000): attention grows with the row, by about as much on
    encoders of a few hundred dimensions.
    """
    longest = ladder[-1]
    if config.row_length:
        if config.row_length < int(lengths.max(initial=1)):
            raise UserError(
                "--data.row-length cannot hold every pair",
                got=f"rows of {config.row_length} slots, and a pair of {lengths.max()}",
                fix=f"use --data.row-length {longest} or more, or a smaller --data.max-length",
            )
        tries = [config.row_length]
    else:
        tries = list(range(longest, 3 * longest + 1, MULTIPLE))
    found = []
    for row in tries:
        trial = Layout("packed", ladder, row, pairs=32)
        steps, rows, pairs = _pack_epoch(TRIAL_SEED, 0, lengths[: 64 * 32], trial, batch_size=32).shape
        found.append((steps * rows * row * (1 + row / 1000), row, pairs))
    _, row, pairs = min(found)
    return Layout("packed", ladder, row, pairs)


def _draw(seed: int, epoch: int) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence([seed % 2**64, epoch]))


def _shuffle(draw: np.random.Philox, count: int) -> Int64[np.ndarray, " count"]:
    """A permutation from raw bits: `Generator.permutation` may change between NumPy versions, these do not."""
    return np.argsort(np.atleast_1d(draw.random_raw(count)), kind="stable").astype(np.int64)


def _fill(
    order: Int64[np.ndarray, " pairs"],
    sizes: Int64[np.ndarray, " steps"],
    lengths: Int32[np.ndarray, " pairs"],
    *,
    layout: Layout,
    rows: int,
) -> Plan:
    """Cut an order into batches of the given sizes, each as long as its longest pair needs."""
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
    """An epoch of training: every pair exactly once, at most one batch in part.

    A bucketed order is a random permutation, cut into windows of about 32 batches; within a window pairs are grouped by
    row length (by rung and not by length, so that batches of one rung are random draws from it), cut into batches,
    and the batches are shuffled. A packed order is cut into the same windows, whose batches are dealt pairs of all
    lengths (`packing.deal`) and packed each by itself. The partial batch stands anywhere.

    Args:
        seed: Of the run.
        epoch: From 0.
        lengths: Slots that each pair needs.
        layout: Holds the longest of them.
        batch_size: Pairs a step.
        multiple: Rows are `batch_size` (packed: what the fullest batch needs) rounded up to a multiple of this (devices
            that share them).

    Raises:
        ValueError: A pair is beyond the layout's longest row.
    """
    if layout.kind == "packed":
        trials = [_pack_epoch(TRIAL_SEED, trial, lengths, layout, batch_size) for trial in range(TRIALS)]
        index = _pack_epoch(seed, epoch, lengths, layout, batch_size)
        # The trials' rows, so that every epoch has one shape; more in an epoch that needs more.
        rows = _round_up(max(x.shape[1] for x in (index, *trials)), multiple)
        wide = np.full((len(index), rows, layout.pairs), -1, np.int32)
        wide[:, : index.shape[1], : index.shape[2]] = index
        return Plan(wide, np.full(len(index), layout.row, np.int32))
    draw = _draw(seed, epoch)
    order = _shuffle(draw, len(lengths))
    steps = steps_per_epoch(len(lengths), batch_size)
    sizes = np.full(steps, batch_size, np.int64)
    if steps and len(lengths) % batch_size:
        sizes[int(draw.random_raw()) % steps] = len(lengths) % batch_size
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
        shuffled.append(window[_shuffle(draw, len(window))])
    plan = _fill(order, sizes, lengths, layout=layout, rows=_round_up(batch_size, multiple))
    steps_in_order = np.concatenate(shuffled)
    return Plan(plan.index[steps_in_order], plan.length[steps_in_order])


def _pack_epoch(
    seed: int, epoch: int, lengths: Int32[np.ndarray, " pairs"], layout: Layout, batch_size: int
) -> Int32[np.ndarray, "steps rows slots"]:
    """An epoch's packed batches, with as many rows as it needs."""
    if int(lengths.max(initial=0)) > layout.row:
        raise ValueError(f"a pair of {lengths.max()} slots does not fit a packed row of {layout.row}")
    draw = _draw(seed, epoch)
    order = _shuffle(draw, len(lengths))
    whole = len(lengths) // batch_size
    batches = np.full((steps_per_epoch(len(lengths), batch_size), batch_size), -1, np.int64)
    # The partial batch first, from the random order: dealt from strata it would get lengths of one kind.
    part = len(lengths) - whole * batch_size
    batches[whole:, :part] = order[:part]
    windows = np.array_split(np.arange(whole), max(1, round(whole / WINDOW)))
    for window in windows:
        if len(window):
            inside = order[part + window[0] * batch_size : part + (window[-1] + 1) * batch_size]
            keys = draw.random_raw(batch_size * len(window)).reshape(batch_size, len(window))
            batches[window] = deal(inside, (keys >> np.uint64(1)).astype(np.int64), lengths)
    if part:
        place = int(draw.random_raw()) % len(batches)
        batches[[place, whole]] = batches[[whole, place]]
    return pack(batches, lengths, row=layout.row, most=layout.pairs)


def plan_in_order(lengths: Int32[np.ndarray, " pairs"], layout: Layout, batch_size: int, *, multiple: int = 1) -> Plan:
    """Evaluation: every pair exactly once, longest first (so that memory peaks at once), nothing random.

    Args:
        lengths: Slots that each pair needs.
        layout: Holds the longest of them; see `Layout.extend`.
        batch_size: Pairs a batch; the last batch may be partial.
        multiple: As in `plan_epoch`.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable").astype(np.int64)
    steps = steps_per_epoch(len(lengths), batch_size)
    sizes = np.full(steps, batch_size, np.int64)
    if steps:
        sizes[-1] = len(lengths) - batch_size * (steps - 1)
    return _fill(order, sizes, lengths, layout=layout, rows=_round_up(batch_size, multiple))


def padding_share(plan: Plan, lengths: Int32[np.ndarray, " pairs"]) -> float:
    """Share of a plan's slots, in [0, 1], that hold no token."""
    slots = int((plan.length.astype(np.int64) * plan.index.shape[1]).sum())
    return 1.0 - float(lengths[plan.index[plan.index >= 0]].sum()) / max(slots, 1)
