"""Tokenise the texts of many requests together, outside the event loop."""

import asyncio
import ctypes
from collections.abc import Callable
from concurrent.futures import Executor
from functools import cache
from typing import Any, cast

import numpy as np

from pairjax.base.errors import UserError
from pairjax.data.encode import EncodedPairs
from pairjax.data.rows import select_rows

MOST = 1024
"""Largest number of texts or pairs that are tokenised in one call, unless one request has more."""
CALLS = 2
"""Calls at the same time, so that a small request does not wait for a large one."""


@cache
def _trim() -> Callable[[int], int] | None:
    """Returns glibc's malloc_trim; None on other systems."""
    try:
        return cast(Callable[[int], int], ctypes.CDLL(None).malloc_trim)
    except (OSError, AttributeError, TypeError):
        return None


def release_memory() -> None:
    """Returns freed memory to the system, which glibc would keep after a request with megabytes of text."""
    trim = _trim()
    if trim is not None:
        trim(0)


class Tokeniser:
    """Tokenises requests: those that arrive while a call runs share the next call.

    Args:
        encode: Encodes a list of pairs or texts.
        threads: An executor with at least `CALLS` threads.
    """

    def __init__(self, encode: Callable[[list[Any]], EncodedPairs], threads: Executor) -> None:
        self._encode, self._threads = encode, threads
        self._waiting: list[tuple[list[Any], asyncio.Future[EncodedPairs]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def encode(self, items: list[Any]) -> EncodedPairs:
        """Returns the rows of a request; `cut` says which of them lost tokens.

        Raises:
            UserError: One of its texts is invalid.
        """
        future: asyncio.Future[EncodedPairs] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if len(self._tasks) < CALLS:
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _run(self) -> None:
        """Tokenises until no request waits."""
        while self._waiting:
            size, count = 0, 0
            while count < len(self._waiting) and (not count or size + len(self._waiting[count][0]) <= MOST):
                size += len(self._waiting[count][0])
                count += 1
            part, self._waiting = self._waiting[:count], self._waiting[count:]
            part = [(items, future) for items, future in part if not future.done()]
            groups = [items for items, _ in part]
            answers = await asyncio.get_running_loop().run_in_executor(self._threads, self._encode_groups, groups)
            for (_, future), answer in zip(part, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, EncodedPairs):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)

    def _encode_groups(self, groups: list[list[Any]]) -> list[EncodedPairs | Exception]:
        """Returns the rows of each group, or the error of its texts; runs in a thread."""
        if len(groups) > 1:
            try:
                joint = self._encode([item for items in groups for item in items])
            except UserError:
                pass  # The groups are encoded one by one, so that only the one at fault fails.
            else:
                ends = np.cumsum([0, *map(len, groups)]).tolist()
                return [select_rows(joint, np.arange(*ends[index : index + 2])) for index in range(len(groups))]
        answers: list[EncodedPairs | Exception] = []
        for items in groups:
            try:
                answers.append(self._encode(items))
            except Exception as error:
                answers.append(error)
        return answers
