"""The processes of one run, and the handlers of SIGTERM and Ctrl-C. Only this module imports `jax.distributed`."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from pairjax.base.errors import UserError
from pairjax.run import liveness

COORDINATOR, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
TIMEOUT = "PAIRJAX_CONNECT_TIMEOUT"
"""Environment variable: seconds that processes wait for each other at the start; 120 by default."""


def initialize(environment: Mapping[str, str] | None = None, *, timeout: int | None = None) -> bool:
    """Joins the run's other processes if the environment names them; otherwise does nothing.

    The variables are JAX's: JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Call this before
    anything uses a device. If the other processes do not connect in time, this process ends with one line and exit code
    75: JAX's client blocks where no exception can reach it, and would abort.

    Args:
        environment: The environment variables; by default those of this process.
        timeout: Seconds to wait for the others; by default PAIRJAX_CONNECT_TIMEOUT, or 120.

    Returns:
        Whether this process is one of several.

    Raises:
        UserError: The variables contradict each other, or nothing listens at the coordinator's address in time.
    """
    environment = os.environ if environment is None else environment
    if COORDINATOR not in environment:
        return False
    try:
        count, index = int(environment.get(COUNT, "")), int(environment.get(INDEX, ""))
    except ValueError:
        got = f"{COUNT}={environment.get(COUNT)} {INDEX}={environment.get(INDEX)}"
        raise UserError(
            f"{COORDINATOR} is set but {COUNT} or {INDEX} is no number", got=got, expected="a whole number in each"
        ) from None
    if not 0 <= index < count:
        raise UserError(f"{INDEX} is out of range", got=index, expected=f"0 to {count - 1}, by {COUNT}")
    timeout = _timeout(environment) if timeout is None else timeout
    address = environment[COORDINATOR]
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"{COORDINATOR} is not an address", got=address, expected="host:port")
    unreachable = UserError(
        f"process {index} of {count} did not reach the others at {address} within {timeout} s",
        fix=f"check that all {count} processes run and that {COORDINATOR} is the same on each",
    )
    began = time.monotonic()
    if index and not _reachable(host, int(port), timeout):
        raise unreachable
    remaining = max(1.0, timeout - (time.monotonic() - began))
    timer = threading.Timer(remaining, _give_up, (f"pairjax: error: {unreachable}\n",))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(address, count, index, initialization_timeout=int(remaining) + 30)
    except (RuntimeError, ValueError) as error:
        raise unreachable from error
    finally:
        timer.cancel()
    if count > 1:
        try:
            liveness.start(index, host=host.strip("[]"), share=_share)
        except (jax.errors.JaxRuntimeError, OSError):
            # This is the first collective operation: one of the processes has ended already.
            _give_up(f"pairjax: error: another of the {count} processes ended while they connected at {address}\n")
    return True


def _give_up(line: str) -> None:
    """Prints a line and ends this process at once."""
    os.write(2, line.encode())
    os._exit(liveness.LOST)


def _timeout(environment: Mapping[str, str]) -> int:
    """Reads the seconds that processes wait for each other."""
    text = environment.get(TIMEOUT, "120")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{TIMEOUT} is not a number of seconds", got=text, expected="whole seconds, at least 1")
    return int(text)


def _reachable(host: str, port: int, timeout: float) -> bool:
    """Checks that the address accepts connections in time; JAX's own client ends the process if it cannot connect."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            socket.create_connection((host.strip("[]"), port), timeout=min(5.0, timeout)).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False


def _share(number: int) -> int:
    """Returns the first process's number on every process."""
    return int(multihost_utils.broadcast_one_to_all(np.int64(number)))


def process_index() -> int:
    """Returns the index of this process, from 0."""
    return jax.process_index()


def process_count() -> int:
    """Returns the number of processes of the run."""
    return jax.process_count()


def is_main() -> bool:
    """Returns whether this is the first process, which writes files and prints."""
    return jax.process_index() == 0


def _from_first(text: str) -> str:
    """Returns the first process's text on every process."""
    data = np.frombuffer(text.encode(), np.uint8)
    size = _share(len(data))
    local = data if is_main() else np.zeros(size, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(local))).decode()


@contextmanager
def all_or_none() -> Iterator[None]:
    """Makes a block fail on all processes if it fails on one.

    If one process raises `UserError` in the block, all raise at its end; the others name the process that failed.
    Every process must reach the end of the block, so it may hold no collective operation that an error skips.
    """
    error: UserError | None = None
    try:
        yield
    except UserError as raised:
        error = raised
    if process_count() == 1:
        if error is not None:
            raise error
        return
    buffer = np.zeros(2048, np.uint8)
    message = np.frombuffer(("" if error is None else str(error)).encode()[: len(buffer)], np.uint8)
    buffer[: len(message)] = message
    buffers = np.asarray(multihost_utils.process_allgather(buffer)).reshape(process_count(), -1)
    texts = [bytes(text).rstrip(b"\0").decode(errors="ignore") for text in buffers]
    if any(texts):
        liveness.all_know()
    if error is not None:
        raise error
    for index, text in enumerate(texts):
        if text:
            raise UserError(f"process {index}: {text}")


def check_agreement(values: Mapping[str, Any], *, what: str) -> None:
    """Checks that all processes have the same values; all of them raise if one differs.

    Args:
        values: Plain data by name.
        what: A description of the values for the message, such as "the config".

    Raises:
        UserError: They differ; names the process, and each field with both values.
    """
    if process_count() == 1:
        return
    local = {name: json.loads(json.dumps(value, default=str)) for name, value in values.items()}
    first = json.loads(_from_first(json.dumps(local, sort_keys=True)))
    with all_or_none():
        differ = [name for name in sorted(local.keys() | first.keys()) if local.get(name) != first.get(name)]
        if differ:
            fields = ", ".join(
                f"{name} is {local.get(name)!r} here and {first.get(name)!r} there" for name in differ[:5]
            )
            remainder = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
            raise UserError(
                f"process {process_index()} and process 0 differ in {what}: {fields}{remainder}",
                fix="start every process with the same command, files and versions",
            )


class StopSignal:
    """Turns SIGTERM and Ctrl-C into a flag that the training loop polls, so the loop can save before it ends.

    A second Ctrl-C raises KeyboardInterrupt at once. The previous handlers are restored at the end of the `with` block.
    With several processes SIGTERM belongs to JAX's pre-emption service, which a Python handler would disable. There
    Ctrl-C is passed on to that service, and all processes stop at the same step.

    Python allows signal handlers in the main thread only; in other threads no signal is caught.

    Attributes:
        name: "SIGTERM" or "SIGINT" once this process received it, else None.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._stopped = False
        self._several = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> "StopSignal":
        self._several = jax.process_count() > 1
        if threading.current_thread() is threading.main_thread():
            caught = (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM)
            for number in caught:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not installed from Python; it cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def requested(self, step: int) -> bool:
        """Returns whether to save and stop now. Call it once per step, on every process.

        Args:
            step: Updates done, the same on all processes.
        """
        if self._several:
            self._stopped = self._stopped or bool(multihost_utils.reached_preemption_sync_point(step))
        return self._stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal: raises the flag, or KeyboardInterrupt at the second Ctrl-C."""
        if number == signal.SIGINT and self.name is not None:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
        if self._several:
            signal.raise_signal(signal.SIGTERM)
        else:
            self._stopped = True
