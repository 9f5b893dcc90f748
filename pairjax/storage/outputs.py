"""Check what a command's --output names before the work begins, so that hours of work do not end in an error."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.storage.files import expand_path, is_stream, storage_error


def check_output(
    path: str | os.PathLike[str],
    *,
    option: str = "--output",
    kind: str = "a file",
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Checks that a file can be written, and leaves one that exists unchanged.

    Args:
        path: What the user gave; `~` is the home folder.
        option: The option, for messages.
        kind: What the file should be, for messages ("an HTML file").
        inputs: Files that the command reads; the output must be none of them.

    Returns:
        The path, for `whole_file`, `write_text` or `write_json`.

    Raises:
        UserError: The path is a folder or one of the inputs, its folder does not exist, or it may not be written.
    """
    target, fix = expand_path(path), f"choose another {option}"
    with _refusals(target, fix):
        _stat(target)
    if target.is_dir() or os.fspath(path).endswith(os.sep):
        raise UserError(f"{target} is a folder", expected=kind, fix=f"use {option} {target / 'NAME'}")
    for name in inputs:
        source = expand_path(name)
        if target.is_file() and source.is_file() and target.samefile(source):
            raise UserError(f"{target} is the input, and {option} would replace it", fix=fix)
    with _refusals(target, fix):
        writable = not target.exists() or os.access(target, os.W_OK)
        if not is_stream(target):
            # A link may lead to a file in another folder, which is written there.
            folder = Path(os.path.realpath(target)).parent
            if not folder.is_dir():
                raise UserError(f"{target}: its folder does not exist", got=folder, fix="create the folder first")
            _try_folder(folder)
    if not writable:
        raise UserError(f"{target} cannot be written: permission denied", fix=fix)
    return target


def check_output_folder(path: str | os.PathLike[str], *, option: str = "--output") -> Path:
    """Checks that a folder can be made, or written to if it exists; makes nothing.

    Args:
        path: What the user gave; `~` is the home folder.
        option: The option, for messages.

    Returns:
        The path.

    Raises:
        UserError: The path or a parent of it is a file, or may not be written.
    """
    target, fix = expand_path(path), f"choose another {option}"
    existing = Path(os.path.realpath(target))
    with _refusals(target, fix):
        _stat(target)
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise UserError(f"{existing} is no folder", expected=f"a folder for {option}", fix=fix)
        _try_folder(existing)
    return target


def _try_folder(folder: Path) -> None:
    """Creates and removes a file: permissions alone do not say whether a file system takes it."""
    descriptor, name = tempfile.mkstemp(prefix=".pairjax-", dir=folder)
    os.close(descriptor)
    os.unlink(name)


def _stat(target: Path) -> None:
    """Raises OSError for a name that is too long and for links that form a loop."""
    with suppress(FileNotFoundError, NotADirectoryError):
        target.stat()


@contextmanager
def _refusals(target: Path, fix: str) -> Iterator[None]:
    """Turns an OSError about the target into one line."""
    try:
        yield
    except OSError as error:
        what = f"{target} cannot be written"
        raise storage_error(what, error, fix=fix) or UserError(f"{what} ({error.strerror})", fix=fix) from None
