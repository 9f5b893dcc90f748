"""How a run's small files are written: whole or not at all, as strict JSON, and one line where the disk refuses."""

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.errors import UserError
from pairjax.storage.bucket import AnyPath

_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the system allows (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}
_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit",
}


def storage_error(what: str, error: BaseException, *, fix: str | None = None) -> UserError | None:
    """The one line for a disk that refuses a write, or None where `error` is something else.

    Looks along the causes of `error`, and for the code that TensorStore leaves in its messages.

    Args:
        what: What could not be written ("runs/x/metrics.jsonl cannot be written").
        fix: What to do; default: free space or fix permissions, then resume.
    """
    seen: BaseException | None = error
    while seen is not None:
        code = seen.errno if isinstance(seen, OSError) else None
        found = re.search(r"os_error_code='(\d+)'", str(seen))
        if found:
            code = int(found.group(1))
        if code in _STORAGE:
            advice = _ADVICE.get(code, "make the folder writable")
            return UserError(f"{what}: {_STORAGE[code]}", fix=fix or f"{advice}, then go on with --run.resume")
        seen = seen.__cause__ or seen.__context__
    return None


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text of plain values, NumPy's scalars and arrays; NaN and infinities, which JSON lacks, become null."""

    def plain(node: Any) -> Any:
        match node:
            case Mapping():
                return {str(key): plain(item) for key, item in node.items()}
            case list() | tuple():
                return [plain(item) for item in node]
            case np.ndarray() | np.generic():
                return plain(node.tolist())
            case float():
                return node if math.isfinite(node) else None
            case Path():
                return str(node)
            case _:
                return node

    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_text(path: AnyPath, text: str) -> None:
    """Writes a file whole or not at all: beside it first, then moved into its place; in a bucket that is so anyway.

    Raises:
        UserError: The disk refuses the write; the old file, where there was one, is unchanged.
    """
    if not isinstance(path, Path):
        path.write_text(text)
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise storage_error(f"{path} cannot be written", error) or error from error


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all; see `to_json` for what it takes."""
    write_text(path, to_json(value, indent=2) + "\n")
