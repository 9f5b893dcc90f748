"""The protocol between the harness and a worker: a process that answers one line of JSON with another.

Two workers take turns: one waits while the other computes. This module imports only the standard library and NumPy,
because the torch side may run in another environment.
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
"""The checkout. Workers start here, so `python -m` finds their modules."""
MARK = " "
"""Starts each line of the protocol; lines without it are output of a library and are ignored."""


class Worker(Protocol):
    """One side of a case."""

    def open(self) -> dict[str, Any]:
        """Loads, compiles and runs once, so the rounds are warm; returns facts about it, such as seconds_to_load."""

    def check(self) -> dict[str, Any]:
        """Returns the results in which both sides must agree."""

    def round(self, turn: int) -> dict[str, Any]:
        """Runs and measures one round."""


def reset_peak_memory() -> None:
    """Restarts the count of peak resident memory, if the system allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Returns this process's peak resident memory in MiB, since the last `reset_peak_memory` or its start."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def time_fastest(run: Callable[[], Any], seconds: float) -> float:
    """Repeats `run` for the given number of seconds; returns the duration of the fastest run in seconds."""
    best, began = float("inf"), time.perf_counter()
    while (start := time.perf_counter()) - began < seconds:
        run()
        best = min(best, time.perf_counter() - start)
    return best


def measure_copy_rate(size: int = 1 << 26, turns: int = 5) -> float:
    """Returns the rate in GB/s, reads plus writes, at which NumPy copies memory: the best of several turns."""
    source, target = np.ones(size, np.float32), np.zeros(size, np.float32)
    best = 0.0
    for _ in range(turns):
        began = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * source.nbytes / (time.perf_counter() - began) / 1e9)
    return best


def serve(worker: Callable[[dict[str, Any]], Worker], measure_matrix_rate: Callable[[], float]) -> None:
    """Runs a worker: answers the harness until it closes the pipe.

    Args:
        worker: Builds the worker from the settings, which are the second argument of the command line.
        measure_matrix_rate: Returns the rate of this side's matrix products in GFLOP/s.
    """
    case = worker(json.loads(sys.argv[2]))

    def reply(value: dict[str, Any]) -> None:
        print(MARK + json.dumps(value), flush=True)

    reply({"peak_mb": peak_memory(), **case.open()})
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "check":
            reply(case.check())
        else:
            rate = measure_matrix_rate()
            # The memory of loading and checking is not part of the round, so it is freed before the peak is reset.
            gc.collect()
            reset_peak_memory()
            answer = {"matrix_rate": rate, **case.round(request["turn"]), "peak_mb": peak_memory()}
            reply(answer | ({"memory_rate": measure_copy_rate()} if "bytes" in answer else {}))


class WorkerError(RuntimeError):
    """A worker ended early; the message holds the end of its standard error."""


class Client:
    """The harness's end of a worker.

    Args:
        command: The worker's command line.
        environ: The worker's environment variables; None inherits those of this process.
    """

    def __init__(self, command: list[str], environ: dict[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the client
        self._command = command
        began = time.perf_counter()
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
        self.seconds_to_open = time.perf_counter() - began

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        self._process.wait()
        self._errors.seek(0)
        raise WorkerError(f"{' '.join(self._command[:4])} ended:\n{self._errors.read()[-3000:]}")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
