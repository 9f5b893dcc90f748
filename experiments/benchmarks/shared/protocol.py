"""Two workers that take turns: each is a process, answers a line with a line, and waits while the other runs.

The worker's side imports nothing but the standard library and NumPy, since the peers may live in another environment.
"""

import contextlib
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
"""The checkout: workers begin there, and so `python -m` finds their modules."""
MARK = " "
"""Begins a line of the protocol; whatever else a library prints is not one."""


class Worker(Protocol):
    """One side of a case."""

    def open(self) -> dict[str, Any]:
        """Load, compile and run once, so that rounds are warm; what is worth telling of it."""

    def check(self) -> dict[str, Any]:
        """What both sides must agree in."""

    def round(self, turn: int) -> dict[str, Any]:
        """One measured turn."""


def forget_peak() -> None:
    """Begin to count the most resident memory anew, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """This process's most resident memory, in MiB, so far or since `forget_peak`."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def fastest(run: Callable[[], Any], seconds: float) -> float:
    """Seconds of the fastest of the runs that begin within so many."""
    best, began = float("inf"), time.perf_counter()
    while (start := time.perf_counter()) - began < seconds:
        run()
        best = min(best, time.perf_counter() - start)
    return best


def memory_rate(size: int = 1 << 26, turns: int = 5) -> float:
    """GB/s of reading and writing memory, as NumPy copies."""
    one, other = np.ones(size, np.float32), np.zeros(size, np.float32)
    best = 0.0
    for _ in range(turns):
        began = time.perf_counter()
        np.copyto(other, one)
        best = max(best, 2 * one.nbytes / (time.perf_counter() - began) / 1e9)
    return best


def serve(case: Callable[[dict[str, Any]], Worker], matrix_rate: Callable[[], float]) -> None:
    """Answer the harness until it closes the pipe; the second argument of the command line is the case's settings."""
    worker = case(json.loads(sys.argv[2]))

    def say(value: dict[str, Any]) -> None:
        print(MARK + json.dumps(value), flush=True)

    say({"peak_mb": peak_memory(), **worker.open()})
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "check":
            say(worker.check())
        else:
            rate = matrix_rate()
            # What was read and checked before is not the round's: its model may be gone, its peak is not.
            gc.collect()
            forget_peak()
            found = {"matrix_rate": rate, **worker.round(request["turn"]), "peak_mb": peak_memory()}
            say(found | ({"memory_rate": memory_rate()} if "bytes" in found else {}))


class WorkerError(RuntimeError):
    """A worker ended; the message is the end of what it wrote."""


class Client:
    """The harness's end of a worker, which begins with its own environment or the one given."""

    def __init__(self, command: list[str], environ: dict[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the client
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environ,
            cwd=ROOT,
        )
        self.opened = self._read()
        self.seconds_to_open = time.perf_counter() - self.began

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        self._process.wait()
        self._errors.seek(0)
        raise WorkerError(f"{' '.join(self._process.args[:4])} ended:\n{self._errors.read()[-3000:]}")  # type: ignore[index]

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
