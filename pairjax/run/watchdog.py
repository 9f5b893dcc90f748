"""Tells in the log when a run stands still, and on what: a batch, a step, an evaluation, a save.

The loop says what it is about to do; a thread looks on. What takes longer than it may is told with a line, told again
each time that it has taken twice as long, and so is its end. Nothing is stopped: a slow disk or a long compilation may
be right, and a run that hangs is for its user, or for a launcher, to end.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, TypeVar

Phase = Literal["data", "step", "compile", "evaluation", "save"]
Item = TypeVar("Item")

BOUNDS: Mapping[Phase, float] = {"data": 30.0, "step": 300.0, "compile": 900.0, "evaluation": 1800.0, "save": 120.0}
"""Seconds from which each is told."""
LINES: Mapping[Phase, str] = {
    "data": "no batch for {seconds:.0f} s: the data pipeline starves the device",
    "step": "not finished after {seconds:.0f} s: a device hangs, or waits for another process",
    "compile": "still compiling after {seconds:.0f} s",
    "evaluation": "its evaluation has taken {seconds:.0f} s so far",
    "save": "its save has waited {seconds:.0f} s for the storage",
}
NAMES: Mapping[Phase, str] = {
    "step": "in steps",
    "compile": "compiling",
    "data": "waiting for data",
    "evaluation": "evaluating",
    "save": "saving",
}


class Watchdog:
    """Looks on at one training loop; use it as a context manager.

    Args:
        say: Where lines go; called from the watching thread and from the loop's.
        bounds: Seconds from which each phase is told.
        tick: Seconds between two looks.
    """

    def __init__(
        self, say: Callable[[str], None], *, bounds: Mapping[Phase, float] = BOUNDS, tick: float = 1.0
    ) -> None:
        self._say, self._bounds, self._tick = say, bounds, tick
        self._seconds: dict[Phase, float] = dict.fromkeys(BOUNDS, 0.0)
        self._lock = threading.Lock()
        self._now: tuple[Phase, int, float] | None = None
        self._next_line = 0.0
        self._told = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    @contextmanager
    def phase(self, phase: Phase, *, step: int) -> Iterator[None]:
        """What the loop does within the `with`.

        Args:
            phase: Which.
            step: The step that is being done, or comes next, counted from 1.
        """
        began = time.monotonic()
        with self._lock:
            self._now, self._next_line, self._told = (phase, step, began), self._bounds[phase], False
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self._seconds[phase] += seconds
            with self._lock:
                told, self._now = self._told, None
        if told:
            self._say(f"step {step}: went on after {seconds:.0f} s")

    def over(self, batches: Iterable[tuple[int, Item]]) -> Iterator[tuple[int, Item]]:
        """The batches, each waited for under the phase `data`."""
        source, step = iter(batches), 0
        while True:
            with self.phase("data", step=step + 1):
                drawn = next(source, None)
            if drawn is None:
                return
            step = drawn[0] + 1
            yield drawn

    def summary(self) -> str:
        """Where the loop's time went."""
        whole = max(sum(self._seconds.values()), 1e-9)
        parts = [f"{100 * self._seconds[phase] / whole:.1f} % {name}" for phase, name in NAMES.items()]
        return f"the loop took {whole:.0f} s: {', '.join(parts)}"

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._tick):
            line = self._line(time.monotonic())
            if line is not None:
                self._say(line)

    def _line(self, now: float) -> str | None:
        """What is to be told, if anything."""
        with self._lock:
            if self._now is None:
                return None
            phase, step, began = self._now
            if now - began < self._next_line:
                return None
            self._next_line, self._told = 2 * (now - began), True
        return f"step {step}: {LINES[phase].format(seconds=now - began)}"
