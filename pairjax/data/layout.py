"""Row lengths, and the planned order of an epoch: which pairs go into which row of which step.

A plan is a pure function of (seed, epoch, lengths, layout, batch size), the same on every process, so that the whole
state of the data is one integer, the step. Its random bits come from Philox's raw stream, which NumPy keeps stable
over versions.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64

from pairjax.base.config import DataConfig

MULTIPLE = 8
WINDOW = 32
"""Batches within which pairs are grouped by row length: see `plan_epoch`.

Of SICK's and MRPC's slots (joint, batch 32, four lengths) 19 and 15 % are padding; 25 and 19 % with windows of 8, 18
and 14 % with one window over all; 44 and 34 % where random batches are padded each to its own longest, 59 and 49 %
where all rows are as long as the longest pair.
"""


@dataclass(frozen=True)
class Layout:
    """The row lengths that a run compiles.

    Attributes:
        kind: `padded` (one length) or `bucketed` (a short ladder), one pair a row.
        ladder: Row lengths in slots, ascending.
    """

    kind: Literal["padded", "bucketed"]
    ladder: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.ladder or list(self.ladder) != sorted(set(self.ladder)) or self.ladder[0] < 1:
            raise ValueError(f"a ladder ascends from at least 1, got {self.ladder}")
        if self.kind == "padded" and len(self.ladder) != 1:
            raise ValueError(f"a padded layout has one row length, got {self.ladder}")

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
        return Layout(self.kind, (need,) if self.kind == "padded" else (*self.ladder, need))


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

    `padded` takes the longest pair. `bucketed` takes at most `config.buckets` lengths that minimise the slots paid
    for, by dynamic programming over multiples of 8. Of a window's batches about half a batch at each boundary mixes
    two lengths and pays the longer (`plan_epoch`), which the cost counts: cumulative pairs are lowered by N / (2 x
    window batches) at every rung but the last.

    Args:
        config: Its `layout` and `buckets` are read.
        lengths: Slots that each pair needs; the training split's, so that evaluation data change nothing in training.
    """
    longest = _round_up(int(lengths.max(initial=1)), MULTIPLE)
    if config.layout == "padded":
        return Layout("padded", (longest,))
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
    return Layout("bucketed", tuple(reversed(ladder)))


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
    and the batches are shuffled. The partial batch stands anywhere.

    Args:
        seed: Of the run.
        epoch: From 0.
        lengths: Slots that each pair needs.
        layout: Holds the longest of them.
        batch_size: Pairs a step.
        multiple: Rows are `batch_size` rounded up to a multiple of this (devices that share them).
    """
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
