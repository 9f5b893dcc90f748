"""Arrays kept on disk under an identity: what a stopped run has done already is read and not done again."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pairjax.storage.files import storage_error


def read_kept(path: Path, identity: str) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or None where there is none that is whole and of this identity."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError):
        return None
    except Exception as error:  # zipfile and zlib raise their own for a file cut short
        if type(error).__module__ not in ("zipfile", "zlib"):
            raise
        return None
    return found if str(found.pop("identity", "")) == identity else None


def write_kept(path: Path, identity: str, found: Mapping[str, np.ndarray]) -> None:
    """Arrays and their identity in a file, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            np.savez(file, identity=np.asarray(identity), **found)  # type: ignore[arg-type]
        os.replace(beside, path)
    except OSError as error:
        raise storage_error(f"{path} cannot be written", error) or error from error
    finally:
        beside.unlink(missing_ok=True)


def made_or_kept(
    folder: Path, identity: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> tuple[Mapping[str, np.ndarray], bool]:
    """What `make` gives, made now or read from the folder's file of this identity; and whether it was read.

    Args:
        folder: Of all that is kept of this kind.
        identity: SHA-256, in hex, of all that decides the result.
        make: Makes it.
    """
    path = folder / f"{identity[:20]}.npz"
    found = read_kept(path, identity)
    if found is not None:
        return found, True
    made = make()
    write_kept(path, identity, made)
    return made, False
