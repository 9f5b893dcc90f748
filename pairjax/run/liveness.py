"""Detects lost processes: if one process of a run dies, all others end soon, with a line that names it.

Without a lost process a collective operation would wait for ever, or fail in the middle of a program. Therefore each
process keeps a TCP connection to the first one. The kernel closes it when the process ends, however it ends; if a whole
host stops answering, TCP keep-alive closes it after `SILENCE` seconds. A process that ends normally says goodbye first.
After any other end the first process informs the rest, and all exit with code `LOST`, so a launcher can start them
again with --run.resume.
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
"""Seconds after which a host that does not answer counts as lost."""


def _keep_alive(link: socket.socket) -> None:
    """Turns on TCP keep-alive, so a silent host is noticed within `SILENCE` seconds."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", SILENCE // 3), ("TCP_KEEPINTVL", SILENCE // 9), ("TCP_KEEPCNT", 6)):
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _send(link: socket.socket, message: dict[str, Any]) -> None:
    """Sends a message as one line of JSON."""
    link.sendall(json.dumps(message).encode() + b"\n")


def _messages(link: socket.socket) -> Iterator[dict[str, Any]]:
    """Yields messages until the other end closes or breaks."""
    try:
        with link.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError):
        return


def _leave(text: str) -> None:
    """Ends this process at once; its main thread may be inside a collective operation that never returns."""
    os.write(2, f"pairjax: error: {text}; start all processes again with --run.resume\n".encode())
    os._exit(LOST)


class Liveness:
    """This process's connections to the others; created by `start` and closed when the command ends.

    Args:
        index: The index of this process.
        end: Called with the line to print when another process was lost; tests replace it.
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
        """Opens the port that the others connect to, and returns it; for the first process."""
        self._server = socket.create_server(("", 0))
        threading.Thread(target=self._accept, daemon=True, name="liveness").start()
        return int(self._server.getsockname()[1])

    def connect(self, host: str, port: int, *, timeout: float = 60) -> None:
        """Connects to the first process; for the other processes.

        Args:
            host: The first process's host.
            port: Its port.
            timeout: Seconds to wait for the connection.

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
        """Says goodbye to the others.

        Args:
            reason: The error that ends this process, if any; the others then end too, and show it.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
            links = list(self._links.values())
        message = {"bye": True} if reason is None else {"lost": f"process {self._index} ended: {reason}"}
        for link in links:
            try:
                _send(link, message)
                link.shutdown(socket.SHUT_WR)
            except OSError:
                continue
        if reason is not None:
            time.sleep(0.2)

    def _accept(self) -> None:
        """Accepts connections until the server closes; runs on its own thread."""
        assert self._server is not None
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            _keep_alive(link)
            threading.Thread(target=self._greet, args=(link,), daemon=True, name="liveness").start()

    def _greet(self, link: socket.socket) -> None:
        """Reads the first message of a connection, which names its process, and then follows it."""
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
        """Reads until the other end is gone; ends this process if there was no goodbye."""
        for message in stream or _messages(link):
            if "bye" in message:
                self._gone.add(index)
            elif "lost" in message:
                self._lost(str(message["lost"]))
                return
        if index not in self._gone:
            self._lost(f"process {index} (host {self._names[index]}) is gone")

    def _lost(self, text: str) -> None:
        """Informs the others that a process was lost, and ends this one."""
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
    """Connects the processes of a run; all processes must call it.

    Args:
        index: The index of this process.
        host: The first process's host, as the others reach it.
        share: Returns the first process's number (its port) on every process.
    """
    global _running
    _running = Liveness(index)
    port = share(_running.listen() if index == 0 else 0)
    if index:
        _running.connect(host, port)


def all_know() -> None:
    """Closes the connections: every process is about to end by the same error, and each reports it itself."""
    if _running is not None:
        _running.close()


@contextmanager
def watched() -> Iterator[None]:
    """Wraps a command: an error in it is sent to the other processes.

    An error that the loss of another process caused is reported as that loss.
    """
    try:
        yield
    except BaseException as error:
        if _running is not None:
            if type(error).__name__ == "JaxRuntimeError":
                # A collective operation failed because another process is gone. Its loss is noticed within this time
                # and ends this process.
                time.sleep(SILENCE)
            _running.close(" ".join(str(error).split())[:1000] or type(error).__name__)
        raise
    if _running is not None:
        _running.close()
        sys.stderr.flush()
