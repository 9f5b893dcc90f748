"""Controls a headless Chromium over its debugging pipe, without a driver, a port or a package.

Commands and events are JSON texts, each followed by a zero byte, on the browser's descriptors 3 (in) and 4 (out)
(https://chromedevtools.github.io/devtools-protocol/).
"""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 120.0
"""Seconds to wait for an answer; the machine may be busy."""


def find_browser() -> str:
    """Returns the path of a browser; skips the test if there is none."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return program


class Browser:
    """A page of a headless browser; use it as a context manager.

    Args:
        folder: Folder for the browser's profile.

    Attributes:
        errors: Errors of the page: exceptions, refused loads, violated policies.
    """

    def __init__(self, folder: Path) -> None:
        program = find_browser()
        child_in, self._out = os.pipe()
        self._in, child_out = os.pipe()
        # The browser needs these two numbers; a shell moves the pipes there.
        command = f'exec "$0" "$@" 3<&{child_in} 4>&{child_out}'
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        flags += ["--disable-dev-shm-usage", "--disable-extensions", f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *flags],
            pass_fds=(child_in, child_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(child_in)
        os.close(child_out)
        self._number, self._buffer = 0, b""
        self._loaded = False
        self._own: tuple[str, ...] = ("file:", "data:")
        self.errors: list[str] = []
        self._session: str | None = None
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._in, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("the browser does not answer" if not ready else "the browser has ended")
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent" if not params["request"]["url"].startswith(self._own):
                self.errors.append(f"requested {params['request']['url']}")

    def open(self, path: Path, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Loads a file at a width in CSS pixels and with a colour scheme."""
        self.visit(path.resolve().as_uri(), width=width, dark=dark, height=height)

    def visit(self, address: str, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Loads a page; requests to its own server are no errors."""
        if address.startswith("http"):
            self._own = (address, "data:", "blob:")
        self.errors.clear()
        self._loaded = False
        mobile = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self.send("Page.navigate", url=address)
        while not self._loaded:
            self._note(self._read())

    def ask(self, expression: str) -> Any:
        """Evaluates an expression in the page; the debugger runs it, so the page's policy does not forbid it."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
