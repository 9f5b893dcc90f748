"""Write small files and folders whole or not at all, read and write JSON, and report storage errors in one line.

Links are followed, the umask applies, and a device or a named pipe is written to and never replaced.
"""

import errno
import glob
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "the links form a loop",
    errno.ENXIO: "nothing reads from it",
}
_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove the links",
    errno.ENXIO: "write to a file",
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


def expand_path(path: str | os.PathLike[str]) -> Path:
    """Returns a path that a user gave, with `~` and `~name` replaced by the home folder."""
    return Path(os.path.expanduser(path))


def is_stream(path: Path) -> bool:
    """Returns whether a path is written to and never replaced: a device, a named pipe, or a descriptor (/dev/fd/N)."""
    for _ in range(40):
        # The links of /proc/PID/fd lead to open files, whose names may be gone or belong to others.
        parent = os.path.realpath(path.parent)
        if parent == "/dev/fd" or re.fullmatch(r"/proc/\d+(/task/\d+)?/fd", parent):
            return os.path.exists(path)
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _partial_name(path: Path) -> Path:
    """Returns a new hidden name beside a path. It starts alike, but a long name is cut: systems allow 255 bytes."""
    return path.with_name(f".{path.name[:50]}-{secrets.token_hex(4)}.tmp")


def _open_partial(path: Path, target: Path) -> int:
    """Creates the partial file of a target. Its mode is that of the target, or for a new file that of the umask."""
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except OSError:
        mode = None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode & 0o600)
    if mode is not None:
        with suppress(OSError):  # Some file systems have no modes.
            os.chmod(path, mode)
    return descriptor


@contextmanager
def whole_file(path: Path, mode: Literal["w", "wb"] = "w", *, fix: str | None = None) -> Iterator[IO[Any]]:
    """Opens a file that takes its name only when the block ends without an error; until then it has another name.

    If the path is a link, the file that it leads to is replaced, and the link stays. A file that exists keeps its mode.
    A device or a pipe is opened and written to; what was written before an error stays written.

    Args:
        path: The file; one that exists is replaced at the end, and is unchanged if the block fails. Its folder exists.
        mode: "w" for text in UTF-8, "wb" for bytes.
        fix: What the user can do if the disk refuses the write; see `storage_error`.

    Yields:
        The open file.

    Raises:
        UserError: The disk refused the write.
    """
    encoding = "utf-8" if mode == "w" else None
    partial: Path | None = None
    try:
        if is_stream(path):
            with open(os.open(path, os.O_WRONLY | os.O_APPEND), mode, encoding=encoding) as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        partial = _partial_name(target)
        with open(_open_partial(partial, target), mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise storage_error(f"{path} cannot be written", error, fix=fix) or error from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Makes a folder that takes its name only when the block ends without an error; until then it has another name.

    If the path is a link to a folder, that folder is replaced, and the link stays. Partial folders that killed
    processes left behind are removed after a day.

    Args:
        path: The folder; its parents are made.
        replace: Whether a folder of that name is replaced. If not, and another process has made the folder in the
            meantime, that one is kept and errors of this block's writes are ignored.

    Yields:
        The empty folder to write to.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name[:50])}-*"):
        if stale.is_dir() and time.time() - stale.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(stale, ignore_errors=True)
    partial = _partial_name(path)
    partial.mkdir()
    try:
        yield partial
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


def write_text(path: AnyPath, text: str, *, fix: str | None = None) -> None:
    """Writes a text file whole or not at all, on a disk or in a bucket.

    Args:
        path: The file; its folder exists.
        text: The text.
        fix: What the user can do if the disk refuses the write; see `storage_error`.

    Raises:
        UserError: The disk refused the write; an existing file is unchanged.
    """
    if isinstance(path, Path):
        with whole_file(path, fix=fix) as file:
            file.write(text)
    else:
        path.write_text(text)  # An object in a bucket appears only when it is whole.


def write_json(path: AnyPath, value: Any, *, fix: str | None = None) -> None:
    """Writes `value` as indented JSON, whole or not at all; `to_json` lists the types that it may hold."""
    write_text(path, to_json(value, indent=2) + "\n", fix=fix)


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
