"""Cut a stream of rows into chunks: full ones of a file, and of a pipe those rows that have arrived."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from pairjax.data.table import BadRow, Row

CHUNK_CHARACTERS = 2**23
"""Characters after which a chunk of a stream ends, so that long texts do not take more memory than short ones."""


def _characters(row: Row) -> int:
    """Returns the number of characters of a row's texts."""
    return 0 if isinstance(row, BadRow) else len(row[0]) + len(row[1])


class FullChunks:
    """Chunks of `size` rows, or fewer if their texts are long.

    Args:
        rows: The rows.
        size: Largest number of rows in a chunk.
    """

    def __init__(self, rows: Iterator[Row], size: int) -> None:
        self._rows, self._size = rows, size

    def take(self) -> list[Row]:
        """Returns the next chunk; it is empty after the last row."""
        block: list[Row] = []
        characters = 0
        for row in self._rows:
            block.append(row)
            characters += _characters(row)
            if len(block) == self._size or characters >= CHUNK_CHARACTERS:
                break
        return block

    def close(self) -> None:
        """Does nothing; `ArrivedChunks` has something to end."""


class ArrivedChunks:
    """Chunks of the rows that have arrived, which a thread reads.

    A chunk ends a short time after its first row, so a slow writer gets its answers and a fast one large batches.

    Args:
        rows: The rows.
        size: Largest number of rows in a chunk.
        wait: Seconds that a chunk waits for further rows after its first one.
    """

    def __init__(self, rows: Iterable[Row], size: int, *, wait: float) -> None:
        self._size, self._wait = size, wait
        # Rows, and at the end None or the error of the reader.
        self._queue: queue.Queue[Row | BaseException | None] = queue.Queue(maxsize=size)
        self._closed = False
        self._end: list[BaseException | None] = []
        # The thread may wait for its pipe for ever, so the interpreter must not wait for the thread.
        threading.Thread(target=self._read, args=(rows,), daemon=True).start()

    def _read(self, rows: Iterable[Row]) -> None:
        """Puts rows into the queue until they end or the reader is closed."""
        end = None
        try:
            for row in rows:
                if not self._put(row):
                    return
        except BaseException as error:  # `take` raises it again.
            end = error
        self._put(end)

    def _put(self, item: Row | BaseException | None) -> bool:
        """Puts an item as soon as there is room; returns False if the reader was closed."""
        while not self._closed:
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def take(self) -> list[Row]:
        """Returns the next chunk; it is empty after the last row. Raises the reader's error in its place."""
        block: list[Row] = []
        characters, deadline = 0, None
        while not self._end and len(block) < self._size and characters < CHUNK_CHARACTERS:
            try:
                item = self._queue.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if item is None or isinstance(item, BaseException):
                self._end.append(item)
                break
            deadline = deadline or time.monotonic() + self._wait
            block.append(item)
            characters += _characters(item)
        if not block and self._end[0] is not None:
            raise self._end[0]
        return block

    def close(self) -> None:
        """Ends the thread, and a `take` that waits."""
        self._closed = True
        with suppress(queue.Full):  # Nobody waits for a full queue.
            self._queue.put_nowait(None)
