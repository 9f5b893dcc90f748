"""Processes of one run, and the one owner of SIGTERM and Ctrl-C. Nothing else imports `jax.distributed`."""

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
"""Seconds that processes wait for each other at the start; default 120."""


def initialize(environment: Mapping[str, str] | None = None, *, timeout: int | None = None) -> bool:
    """Joins the run's other processes where the environment asks for it; otherwise does nothing.

    It is asked for by JAX's own names: JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    Must come before anything that uses a device. Where the others do not come in time this process ends with a line
    and code 75: JAX's client waits where no exception reaches, and would abort.

    Args:
        environment: Default: this process's.
        timeout: Seconds to wait for the others; default: PAIRJAX_CONNECT_TIMEOUT, or 120.

    Returns:
        Whether the process is now one of several.

    Raises:
        UserError: The three do not make sense together, or nothing listens at the coordinator's address in time.
    """
    given = os.environ if environment is None else environment
    if COORDINATOR not in given:
        return False
    try:
        count, index = int(given.get(COUNT, "")), int(given.get(INDEX, ""))
    except ValueError:
        got = f"{COUNT}={given.get(COUNT)} {INDEX}={given.get(INDEX)}"
        raise UserError(f"{COORDINATOR} is set", got=got, expected="a whole number in each") from None
    if not 0 <= index < count:
        raise UserError(f"{INDEX} is out of range", got=index, expected=f"0 to {count - 1}, by {COUNT}")
    timeout = _timeout(given) if timeout is None else timeout
    address = given[COORDINATOR]
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"{COORDINATOR} is no address", got=address, expected="host:port")
    failed = UserError(
        f"process {index} of {count} did not reach the others at {address} within {timeout} s",
        fix=f"check that all {count} processes run and that {COORDINATOR} is the same on each",
    )
    began = time.monotonic()
    if index and not _reachable(host, int(port), timeout):
        raise failed
    left = max(1.0, timeout - (time.monotonic() - began))
    clock = threading.Timer(left, _give_up, (f"pairjax: error: {failed}\n",))
    clock.daemon = True
    clock.start()
    try:
        jax.distributed.initialize(address, count, index, initialization_timeout=int(left) + 30)
    except (RuntimeError, ValueError) as error:
        raise failed from error
    finally:
        clock.cancel()
    if count > 1:
        try:
            liveness.start(index, host=host.strip("[]"), share=_share)
        except (jax.errors.JaxRuntimeError, OSError):
            # The first thing that all do together: one of them is gone again.
            _give_up(f"pairjax: error: another of the {count} processes ended while they met at {address}\n")
    return True


def _give_up(line: str) -> None:
    os.write(2, line.encode())
    os._exit(liveness.LOST)


def _timeout(given: Mapping[str, str]) -> int:
    text = given.get(TIMEOUT, "120")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{TIMEOUT} is no time", got=text, expected="whole seconds, at least 1")
    return int(text)


def _reachable(host: str, port: int, timeout: float) -> bool:
    """Whether somebody listens there in time: JAX's own client ends the process where it cannot connect."""
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
    return int(multihost_utils.broadcast_one_to_all(np.int64(number)))


def process_index() -> int:
    """This process's place among the run's."""
    return jax.process_index()


def process_count() -> int:
    """How many processes share the run."""
    return jax.process_count()


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def _from_first(text: str) -> str:
    """The first process's text, on every process."""
    data = np.frombuffer(text.encode(), np.uint8)
    size = _share(len(data))
    mine = data if is_main() else np.zeros(size, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(mine))).decode()


@contextmanager
def all_or_none() -> Iterator[None]:
    """A block that every process gets through, or none: where one raises `UserError` all do, and say whose it is."""
    error: UserError | None = None
    try:
        yield
    except UserError as raised:
        error = raised
    if process_count() == 1:
        if error is not None:
            raise error
        return
    note = np.zeros(2048, np.uint8)
    told = np.frombuffer(("" if error is None else str(error)).encode()[: len(note)], np.uint8)
    note[: len(told)] = told
    notes = np.asarray(multihost_utils.process_allgather(note)).reshape(process_count(), -1)
    texts = [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in notes]
    if any(texts):
        liveness.all_know()
    if error is not None:
        raise error
    for index, text in enumerate(texts):
        if text:
            raise UserError(f"process {index}: {text}")


def check_agreement(values: Mapping[str, Any], *, what: str) -> None:
    """Whether all processes were given the same values; all of them raise where one was not.

    Args:
        values: Plain data by name.
        what: What they are, for the message ("the config").

    Raises:
        UserError: They differ: names the process, and each field with both values.
    """
    if process_count() == 1:
        return
    mine = {name: json.loads(json.dumps(value, default=str)) for name, value in values.items()}
    first = json.loads(_from_first(json.dumps(mine, sort_keys=True)))
    with all_or_none():
        differ = [name for name in sorted(mine.keys() | first.keys()) if mine.get(name) != first.get(name)]
        if differ:
            shown = ", ".join(f"{name} is {mine.get(name)!r} here and {first.get(name)!r} there" for name in differ[:5])
            more = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
            raise UserError(
                f"process {process_index()} and process 0 differ in {what}: {shown}{more}",
                fix="start every process with the same command, files and versions",
            )


class StopSignal:
    """Turns SIGTERM and Ctrl-C into a flag that the training loop polls, so that it can save before it ends.

    A second Ctrl-C raises KeyboardInterrupt at once. The handlers that stood before are back after the `with`. In one
    of several processes SIGTERM belongs to JAX's pre-emption service, which a handler of Python's would put out of
    work; Ctrl-C is passed on to it, and all processes see the stop at the same step.

    Outside the main thread, where Python allows no handlers, nothing is caught.

    Attributes:
        name: "SIGTERM" or "SIGINT" once this process was told, else None.
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
            # None: a handler that was not Python's, which cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def requested(self, step: int) -> bool:
        """Whether to save and end now; call it once each step, on every process.

        Args:
            step: Steps done, the same on all processes.
        """
        if self._several:
            self._stopped = self._stopped or bool(multihost_utils.reached_preemption_sync_point(step))
        return self._stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.name is not None:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
        if self._several:
            signal.raise_signal(signal.SIGTERM)
        else:
            self._stopped = True
