"""Who of a run's processes still lives: one dead host ends all the others, soon and with a line that says which.

A collective waits for ever, or fails in the middle of a program, when a process is gone. So each process holds a
connection to the first one. The kernel closes it when the process ends, however it ends; where a whole host falls
silent TCP's keep-alive closes it (`SILENCE` seconds). Who ends in order says goodbye first; the first process tells the
rest of any other end, and all leave with exit code `LOST`, for a launcher to start them again with --run.resume.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LOST = 75
"""Exit code after another process was lost (EX_TEMPFAIL: the same command may succeed)."""
SILENCE = 45
"""Seconds until a host that no longer answers counts as lost."""


def _keep_alive(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", SILENCE // 3), ("TCP_KEEPINTVL", SILENCE // 9), ("TCP_KEEPCNT", 6)):
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _send(link: socket.socket, message: dict[str, Any]) -> None:
    link.sendall(json.dumps(message).encode() + b"\n")


def _messages(link: socket.socket) -> Iterator[dict[str, Any]]:
    """Until the other end closes or breaks."""
    try:
        with link.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError):
        return


def _leave(text: str) -> None:
    """Ends this process at once: its main thread may be inside a collective that never returns."""
    os.write(2, f"pairjax: error: {text}; start all processes again with --run.resume\n".encode())
    os._exit(LOST)


class Liveness:
    """This process's part of it; made once, by `start`, and closed when the command ends.

    Args:
        index: This process's number.
        end: What to do when another was lost, given the line to print; a test gives its own.
    """

    def __init__(self, index: int, *, end: Callable[[str], None] = _leave) -> None:
        self._index, self._end = index, end
        self._links: dict[int, socket.socket] = {}
        self._names: dict[int, str] = {}
        self._gone: set[int] = set()
        self._server: socket.socket | None = None
        self._lock = threading.Lock()
        self._closing = False

    def listen(self) -> int:
        """On the first process: opens the port that the others connect to."""
        self._server = socket.create_server(("", 0))
        threading.Thread(target=self._accept, daemon=True, name="liveness").start()
        return int(self._server.getsockname()[1])

    def connect(self, host: str, port: int, *, timeout: float = 60) -> None:
        """On the others: holds a line to the first process.

        Raises:
            OSError: It cannot be reached.
        """
        link = socket.create_connection((host, port), timeout=timeout)
        link.settimeout(None)
        _keep_alive(link)
        _send(link, {"hello": self._index, "host": socket.gethostname()})
        self._links[0] = link
        self._names[0] = host
        threading.Thread(target=self._follow, args=(0, link), daemon=True, name="liveness").start()

    def close(self, reason: str | None = None) -> None:
        """Says goodbye. With a reason (this process ends by an error of its own) the others end too, and show it."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            links = list(self._links.values())
        said = {"bye": True} if reason is None else {"lost": f"process {self._index} ended: {reason}"}
        for link in links:
            try:
                _send(link, said)
                link.shutdown(socket.SHUT_WR)
            except OSError:
                continue
        if reason is not None:
            time.sleep(0.2)

    def _accept(self) -> None:
        assert self._server is not None
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            _keep_alive(link)
            threading.Thread(target=self._greet, args=(link,), daemon=True, name="liveness").start()

    def _greet(self, link: socket.socket) -> None:
        stream = _messages(link)
        hello = next(stream, {})
        if not isinstance(hello.get("hello"), int):
            link.close()
            return
        index = hello["hello"]
        with self._lock:
            self._links[index], self._names[index] = link, str(hello.get("host"))
        self._follow(index, link, stream)

    def _follow(self, index: int, link: socket.socket, stream: Iterator[dict[str, Any]] | None = None) -> None:
        """Reads until the other end is gone, and ends this process where it went without goodbye."""
        for message in stream or _messages(link):
            if "bye" in message:
                self._gone.add(index)
            elif "lost" in message:
                self._lost(str(message["lost"]))
                return
        if index not in self._gone:
            self._lost(f"process {index} (host {self._names[index]}) is gone")

    def _lost(self, text: str) -> None:
        with self._lock:
            if self._closing:
                return
            self._closing = True
            links = list(self._links.values())
        for link in links:
            try:
                _send(link, {"lost": text})
            except OSError:
                continue
        self._end(text)


_running: Liveness | None = None


def start(index: int, *, host: str, share: Callable[[int], int]) -> None:
    """Begins to watch; all processes call it together.

    Args:
        index: This process's number.
        host: Of the first process, as the others reach it.
        share: Gives every process the first one's number: the port.
    """
    global _running
    _running = Liveness(index)
    port = share(_running.listen() if index == 0 else 0)
    if index:
        _running.connect(host, port)


def all_know() -> None:
    """Every process is about to end by the same error: nobody is lost, and each says it itself."""
    if _running is not None:
        _running.close()


@contextmanager
def watched() -> Iterator[None]:
    """Around a command: an error here is told to the other processes, and one that another's end caused is its."""
    try:
        yield
    except BaseException as error:
        if _running is not None:
            if type(error).__name__ == "JaxRuntimeError":
                # A collective that another process left: its loss is noticed within this time, and ends us.
                time.sleep(SILENCE)
            _running.close(" ".join(str(error).split())[:1000] or type(error).__name__)
        raise
    if _running is not None:
        _running.close()
        sys.stderr.flush()
