"""Processes of one run, and the one owner of SIGTERM and Ctrl-C. Nothing else imports `jax.distributed`."""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

from pairjax.base.errors import UserError

COORDINATOR, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def initialize(environment: Mapping[str, str] | None = None, *, timeout: int = 120) -> bool:
    """Joins the run's other processes where the environment asks for it; otherwise does nothing.

    It is asked for by JAX's own names: JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    Must come before anything that uses a device.

    Args:
        environment: Default: this process's.
        timeout: Seconds to wait for the others.

    Returns:
        Whether the process is now one of several.

    Raises:
        UserError: The three do not make sense together, or the coordinator was not reached in time.
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
    try:
        jax.distributed.initialize(given[COORDINATOR], count, index, initialization_timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {index} of {count} did not reach the others at {given[COORDINATOR]} within {timeout} s",
            mend=f"check that all {count} processes run and that {COORDINATOR} is the same on each",
        ) from error
    return True


def process_index() -> int:
    """This process's place among the run's."""
    return jax.process_index()


def process_count() -> int:
    """How many processes share the run."""
    return jax.process_count()


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


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
