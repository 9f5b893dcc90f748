"""The server's log: one JSON object a line on standard error."""

import json
import logging
import re
import sys
import time
import uuid
from typing import Any

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(given: str | None) -> str:
    """Returns the client's id of a request if it is harmless, else a new one."""
    return given if given is not None and REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def log(event: str, **fields: Any) -> None:
    """Writes a line.

    Args:
        event: What happened.
        **fields: Plain values.
    """
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    # ASCII, so that no text of a client can start a new line or move a terminal's cursor.
    sys.stderr.write(json.dumps({"time": stamp, "event": event} | fields, default=str) + "\n")
    sys.stderr.flush()


class JsonHandler(logging.Handler):
    """Writes the records of other packages, such as uvicorn's, as lines of the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record."""
        fields = {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        log(record.name, **fields)
