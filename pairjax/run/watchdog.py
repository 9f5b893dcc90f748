"""Logs when a run makes no progress, and in which phase: waiting for a batch, a step, an evaluation, a save.

The loop announces each phase, and a thread measures it. A phase that exceeds its limit is logged, logged again each
time the elapsed time doubles, and logged once more when it ends. Nothing is stopped: a slow disk or a long compilation
may be normal, and the user or a launcher decides whether to end a run that hangs.
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
"""Seconds after which each phase is logged."""
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
    """Watches one training loop; use it as a context manager.

    Args:
        log: Prints a line; called from the watching thread and from the loop's thread.
        bounds: Seconds after which each phase is logged.
        tick: Seconds between two checks.
    """

    def __init__(
        self, log: Callable[[str], None], *, bounds: Mapping[Phase, float] = BOUNDS, tick: float = 1.0
    ) -> None:
        self._log, self._bounds, self._tick = log, bounds, tick
        self._seconds: dict[Phase, float] = dict.fromkeys(BOUNDS, 0.0)
        self._lock = threading.Lock()
        self._now: tuple[Phase, int, float] | None = None
        self._next_line = 0.0
        self._logged = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    @contextmanager
    def phase(self, phase: Phase, *, step: int) -> Iterator[None]:
        """Marks the phase of the loop within the `with` block, and measures it.

        Args:
            phase: The phase.
            step: The current step, or the next one, counted from 1.
        """
        began = time.monotonic()
        with self._lock:
            self._now, self._next_line, self._logged = (phase, step, began), self._bounds[phase], False
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self._seconds[phase] += seconds
            with self._lock:
                logged, self._now = self._logged, None
        if logged:
            self._log(f"step {step}: went on after {seconds:.0f} s")

    def over(self, batches: Iterable[tuple[int, Item]]) -> Iterator[tuple[int, Item]]:
        """Yields the batches; the wait for each is the phase `data`."""
        source, step = iter(batches), 0
        while True:
            with self.phase("data", step=step + 1):
                item = next(source, None)
            if item is None:
                return
            step = item[0] + 1
            yield item

    def summary(self) -> str:
        """Returns a line with the share of the loop's time in each phase."""
        total = max(sum(self._seconds.values()), 1e-9)
        parts = [f"{100 * self._seconds[phase] / total:.1f} % {name}" for phase, name in NAMES.items()]
        return f"the loop took {total:.0f} s: {', '.join(parts)}"

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        """Logs phases that take too long; runs on the watching thread."""
        while not self._ended.wait(self._tick):
            line = self._line(time.monotonic())
            if line is not None:
                self._log(line)

    def _line(self, now: float) -> str | None:
        """Returns the line to log now, if any."""
        with self._lock:
            if self._now is None:
                return None
            phase, step, began = self._now
            if now - began < self._next_line:
                return None
            self._next_line, self._logged = 2 * (now - began), True
        return f"step {step}: {LINES[phase].format(seconds=now - began)}"
