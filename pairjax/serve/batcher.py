"""Collect rows of many requests into batches for the one thread that owns the device."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int64

from pairjax.data.encode import EncodedPairs
from pairjax.data.rows import join_rows, select_rows
from pairjax.serve.errors import RequestError

RETRY_AFTER = 1
"""Seconds after which a client that was refused may try again."""
CALL_TOKENS = 48
"""Cost of one call of a compiled program, in tokens: MiniLM on a CPU computes about this many meanwhile."""


@dataclass(eq=False)
class Work:
    """The rows of one request.

    Attributes:
        encoded: The rows, N of them.
        future: Receives the outputs, float32 [N, ...].
        queued: Time at which the request was queued.
        next: Index of the first row that has not been taken.
        done: Number of rows that have been computed.
        outputs: The outputs so far; None before the first.
        started: Time at which its first batch began; 0 before.
        compute: Seconds that its batches took.
        lengths: Slots of each row.
        tokens: Slots of the rows that have not been taken.
    """

    encoded: EncodedPairs
    future: "asyncio.Future[np.ndarray]"
    queued: float
    next: int = 0
    done: int = 0
    outputs: np.ndarray | None = None
    started: float = 0.0
    compute: float = 0.0
    lengths: list[int] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.lengths = self.encoded.lengths.tolist()
        self.tokens = sum(self.lengths)

    def add(self, rows: range, outputs: np.ndarray, seconds: float) -> None:
        """Stores the outputs of some rows; after the last ones, the future has its result."""
        self.compute += seconds
        if self.future.done():
            return
        if self.outputs is None:
            self.outputs = np.zeros((len(self.encoded), *outputs.shape[1:]), np.float32)
        self.outputs[rows.start : rows.stop] = outputs
        self.done += len(rows)
        if self.done == len(self.encoded):
            self.future.set_result(self.outputs)


def cut_batches(lengths: Int64[np.ndarray, " rows"], sizes: Sequence[int]) -> list[Int64[np.ndarray, " batch"]]:
    """Returns the indices of each batch, so that as few slots as possible are computed.

    Rows are sorted by length, and dynamic programming chooses where to cut. A batch costs as many rows as the next of
    `sizes`, each as long as its longest row, and `CALL_TOKENS`.

    Args:
        lengths: int64 [N]; slots of each row, rounded up to a length that is compiled.
        sizes: Numbers of rows that are compiled, ascending.

    Returns:
        The batches; an index is repeated to fill a batch up to its size.
    """
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order].tolist()
    most = sizes[-1]
    rows = [next(size for size in sizes if size >= count) for count in range(most + 1)]
    cost, first = [0.0], [0]
    for end in range(1, len(ascending) + 1):
        longest = ascending[end - 1]
        options = range(max(0, end - most), end)
        best = min(options, key=lambda begin: cost[begin] + rows[end - begin] * longest)
        cost.append(cost[best] + rows[end - best] * longest + CALL_TOKENS)
        first.append(best)
    batches, end = [], len(ascending)
    while end:
        part = order[first[end] : end]
        batches.append(np.concatenate([part, np.repeat(part[:1], rows[len(part)] - len(part))]))
        end = first[end]
    return batches


class Batcher:
    """A queue of rows, and the task that computes them in batches. All methods run in the event loop.

    A batch starts as soon as its oldest request has waited `wait` seconds, or earlier if the queue holds enough tokens
    or nothing else is on its way; while the device computes, further requests collect. Tokens are shared evenly between
    requests, so a small request does not wait for a large one.

    Args:
        compute: Computes the outputs of rows, float32 [N, ...]; runs in the thread of `device`.
        device: An executor with one thread.
        max_tokens: Largest number of tokens in a batch.
        max_rows: Largest number of rows that may wait.
        wait: Seconds that a request waits for others.
        observe: Receives the number of rows and of tokens of each batch.
    """

    def __init__(
        self,
        compute: Callable[[EncodedPairs], Float[np.ndarray, "rows ..."]],
        device: Executor,
        *,
        max_tokens: int,
        max_rows: int,
        wait: float,
        observe: Callable[[int, int], None] = lambda rows, tokens: None,
    ) -> None:
        self._compute, self._device, self._observe = compute, device, observe
        self._max_tokens, self._max_rows, self._wait = max_tokens, max_rows, wait
        self._queue: list[Work] = []
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of rows that wait."""
        return sum(len(work.lengths) - work.next for work in self._queue if not work.future.done())

    def queue(self, encoded: EncodedPairs) -> Work:
        """Queues the rows of a request; cancel the result's future to withdraw them.

        Raises:
            RequestError: Too many rows wait.
        """
        waiting = self.waiting
        if waiting + len(encoded) > self._max_rows and waiting:
            raise RequestError("Overloaded", f"{waiting} pairs wait already; try again later", retry_after=RETRY_AFTER)
        work = Work(encoded, asyncio.get_running_loop().create_future(), time.monotonic())
        if not len(encoded):
            raise ValueError("a request without rows")
        self._queue.append(work)
        self._arrival.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return work

    async def close(self) -> None:
        """Ends the task; requests that still wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for work in self._queue:
            work.future.cancel()

    async def _run(self) -> None:
        """Computes batches for ever."""
        while True:
            await self._collect()
            taken = self._take()
            if not taken:
                continue
            start = time.monotonic()
            for work, _ in taken:
                work.started = work.started or start
            try:
                rows = join_rows([select_rows(work.encoded, np.arange(part.start, part.stop)) for work, part in taken])
                outputs = await asyncio.get_running_loop().run_in_executor(self._device, self._compute, rows)
            except Exception as error:
                # Every request of the batch fails, and the next batch is computed.
                for work, _ in taken:
                    if not work.future.done():
                        work.future.set_exception(error)
                continue
            seconds, begin = time.monotonic() - start, 0
            self._observe(len(rows), int(rows.offsets[-1]))
            for work, part in taken:
                work.add(part, outputs[begin : begin + len(part)], seconds)
                begin += len(part)

    async def _collect(self) -> None:
        """Waits until the queue should be computed."""
        while True:
            self._queue = [work for work in self._queue if not work.future.done() and work.next < len(work.lengths)]
            if self._queue:
                left = self._queue[0].queued + self._wait - time.monotonic()
                if left <= 0 or sum(work.tokens for work in self._queue) >= self._max_tokens:
                    return
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), left if self._queue else None)
            except TimeoutError:
                return

    def _take(self) -> list[tuple[Work, range]]:
        """Takes rows from the queue, with tokens shared evenly between the requests."""
        waiting = [work for work in self._queue if not work.future.done()]
        budget = self._max_tokens
        taken: list[tuple[Work, range]] = []
        for place, work in enumerate(sorted(waiting, key=lambda work: len(work.lengths) - work.next)):
            share, begin, used = budget // (len(waiting) - place), work.next, 0
            while work.next < len(work.lengths):
                length = work.lengths[work.next]
                if used + length > share and (taken or work.next > begin):
                    break
                used += length
                work.next += 1
            if work.next > begin:
                taken.append((work, range(begin, work.next)))
            work.tokens -= used
            budget -= used
        return taken
