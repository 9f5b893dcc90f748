"""Write small files and folders whole or not at all, read and write JSON, and report storage errors in one line."""

import errno
import glob
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

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
STALE_SECONDS = 86400
"""Age of a partial folder after which its writer is taken for dead and the folder is removed."""


def storage_error(what: str, error: BaseException, *, fix: str | None = None) -> UserError | None:
    """Returns a one-line error if a disk refused a write, or None if `error` is something else.

    Looks along the causes of `error`, and for the error number that TensorStore leaves in its messages.

    Args:
        what: What could not be written ("runs/x/metrics.jsonl cannot be written").
        error: The exception that was caught.
        fix: What the user can do; by default, free space or fix the permissions and resume the run.
    """
    cause: BaseException | None = error
    while cause is not None:
        code = cause.errno if isinstance(cause, OSError) else None
        match = re.search(r"os_error_code='(\d+)'", str(cause))
        if match:
            code = int(match.group(1))
        if code in _STORAGE:
            advice = _ADVICE.get(code, "make the folder writable")
            return UserError(f"{what}: {_STORAGE[code]}", fix=fix or f"{advice}, then go on with --run.resume")
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def whole_file(path: Path, mode: Literal["w", "wb"] = "w", *, fix: str | None = None) -> Iterator[IO[Any]]:
    """Opens a file that takes its name only when the block ends without an error; until then it has another name.

    Args:
        path: The file; one that exists is replaced at the end, and is unchanged if the block fails. Its folder exists.
        mode: "w" for text in UTF-8, "wb" for bytes.
        fix: What the user can do if the disk refuses the write; see `storage_error`.

    Yields:
        The open file.

    Raises:
        UserError: The disk refused the write.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(partial, mode, encoding="utf-8" if mode == "w" else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise storage_error(f"{path} cannot be written", error, fix=fix) or error from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Makes a folder that takes its name only when the block ends without an error; until then it has another name.

    Partial folders that killed processes left behind are removed after a day.

    Args:
        path: The folder; its parents are made.
        replace: Whether a folder of that name is replaced. If not, and another process has made the folder in the
            meantime, that one is kept and errors of this block's writes are ignored.

    Yields:
        The empty folder to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}-*"):
        if stale.is_dir() and time.time() - stale.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(stale, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if replace and path.exists():
            shutil.rmtree(path)
        os.rename(partial, path)
    except OSError:
        if replace or not path.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Returns JSON text of plain values and of NumPy's scalars and arrays.

    NaN and infinities, which JSON does not have, become null.

    Args:
        value: Nested mappings, sequences, arrays, paths, strings, numbers, booleans and None.
        indent: Spaces for each level; None writes one line.
    """

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
    """Writes a text file whole or not at all, on a disk or in a bucket.

    Raises:
        UserError: The disk refused the write; an existing file is unchanged.
    """
    if isinstance(path, Path):
        with whole_file(path) as file:
            file.write(text)
    else:
        path.write_text(text)  # An object in a bucket appears only when it is whole.


def write_json(path: AnyPath, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all; `to_json` lists the types that it may hold."""
    write_text(path, to_json(value, indent=2) + "\n")


def read_json(
    path: AnyPath, *, kind: str = "a JSON object", required: Sequence[str] = (), fix: str | None = None
) -> dict[str, Any]:
    """Reads a file that holds a JSON object.

    Args:
        path: The file.
        kind: What the file should be, for the message ("an encoder's config.json").
        required: Keys that the object must have.
        fix: What the user can do about a file that cannot be read.

    Raises:
        UserError: The file does not exist, cannot be read, is not a JSON object, or lacks a required key.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", expected=kind, fix=fix) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON", got=error, fix=fix) from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not {kind}", got=type(value).__name__, expected="a JSON object", fix=fix)
    missing = [name for name in required if name not in value]
    if missing:
        raise UserError(f"{path}: not {kind}", got=f"nothing named {', '.join(missing)}", fix=fix)
    return value
