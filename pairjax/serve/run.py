"""Run the application with uvicorn: open the port, load the models, serve, and end cleanly after a signal."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from pairjax.base.config import MeshConfig
from pairjax.base.errors import UserError
from pairjax.base.serve_config import ServeConfig
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.load import load
from pairjax.inference.model_folder import find_artifact
from pairjax.serve.app import Server, build_app, build_server
from pairjax.serve.logs import JsonHandler, log
from pairjax.step.compilation import use_compilation_cache

BACKLOG = 2048
TURNS, SECONDS_OF_A_TURN = 5, 0.05
"""Turns of the event loop between the signal and the end of connections, and their length in seconds."""


def name_models(given: Sequence[str]) -> dict[str, Path]:
    """Returns the folder of each model by its name.

    Args:
        given: Folders, or NAME=FOLDER. The name of a folder without one is that of the run or of the model folder.

    Raises:
        UserError: A folder holds no model, or two models have one name.
    """
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists() or "/" in name:
            name, path = "", text
        folder = find_artifact(path)
        resolved = folder.resolve()
        name = name or (resolved.parent.name if resolved.name == "model" else resolved.name)
        if name in folders:
            raise UserError("two models have one name", got=name, fix=f"name them: first={folders[name]} second={path}")
        folders[name] = folder
    return folders


def open_port(config: ServeConfig) -> socket.socket:
    """Opens the port, so that an error is found before the models are loaded.

    Raises:
        UserError: The port is in use, may not be opened, or the host is not an address of this machine.
    """
    where = f"--host {config.host} --port {config.port}"
    try:
        [family, kind, protocol, _, address], *_ = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"{where}: no such address", got=error.strerror, fix="use --host 127.0.0.1") from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        known = {
            errno.EADDRINUSE: ("the port is in use", "stop the other program, or choose another --port"),
            errno.EACCES: ("this user may not open the port", "choose a --port of 1024 or more"),
            errno.EADDRNOTAVAIL: ("not an address of this machine", "use --host 127.0.0.1 or 0.0.0.0"),
        }
        what, fix = known.get(error.errno or 0, (str(error.strerror), "choose another --host or --port"))
        raise UserError(f"{where}: {what}", fix=fix) from None
    return opened


def check_key(config: ServeConfig) -> None:
    """Warns, or refuses with --require-key, if other machines may call a server without a key."""
    if config.is_local or config.api_key is not None:
        return
    what = f"--host {config.host} without --api-key: every machine that reaches this address may use the models"
    if config.require_key:
        raise UserError(what, fix="set PAIRJAX_API_KEY, or use --host 127.0.0.1")
    print(f"pairjax: warning: {what}", file=sys.stderr)


class _Uvicorn(uvicorn.Server):
    """A server that ends with exit code 0 after SIGTERM or SIGINT, when all accepted requests are answered.

    Args:
        config: uvicorn's configuration.
        state: The application's state, which is told that the server is about to end.
    """

    def __init__(self, config: uvicorn.Config, state: Server) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain."""
        self._state.draining = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Reads the requests that had arrived before the signal, and then closes the connections without a request."""
        for _ in range(TURNS):
            await asyncio.sleep(SECONDS_OF_A_TURN)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while the server runs; uvicorn's own version raises them again at the end."""
        handled = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(given: Sequence[str], config: ServeConfig, *, mesh: MeshConfig) -> int:
    """Serves models until a signal, and returns the exit code.

    Args:
        given: Folders of models, or NAME=FOLDER.
        config: The configuration.
        mesh: Sizes of the device mesh.

    Raises:
        UserError: No model, a port that cannot be opened, or a model that cannot be loaded or compiled.
    """
    # 1. All checks that need no model.
    check_key(config)
    folders = name_models(given)
    opened = open_port(config)
    # 2. The models.
    try:
        use_compilation_cache(None)
        models: dict[str, PairClassifier] = {name: load(folder, mesh=mesh) for name, folder in folders.items()}
    except BaseException:
        opened.close()
        raise
    # 3. The server; its lifespan compiles the models while /health answers 503.
    state = build_server(models, config)
    settings = uvicorn.Config(
        build_app(state),
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(config.drain_timeout) + 1,
        lifespan="on",
    )
    server = _Uvicorn(settings, state)
    state.when_failed = lambda: setattr(server, "should_exit", True)
    _send_logs_to(JsonHandler())
    host, port = opened.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log("start", address=address, models=list(models), pid=os.getpid())
    server.run(sockets=[opened])
    if state.failed is not None:
        raise UserError("the models cannot be compiled", got=f"{type(state.failed).__name__} {state.failed}")
    log("end", requests=server.server_state.total_requests)
    return 0


def _send_logs_to(handler: logging.Handler) -> None:
    """Sends the warnings of uvicorn to the server's log."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], False
    root = logging.getLogger("uvicorn")
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).propagate = True
