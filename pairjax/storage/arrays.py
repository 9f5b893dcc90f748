"""Store arrays on disk under an identity, so that an interrupted run reads its results instead of recomputing them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pairjax.storage.files import storage_error, whole_file


def read_arrays(path: Path, identity: str) -> dict[str, np.ndarray] | None:
    """Returns the arrays of a file, or None unless the file is complete and has this identity."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError):
        return None
    except Exception as error:  # zipfile and zlib raise their own errors if a file is cut short
        if type(error).__module__ not in ("zipfile", "zlib"):
            raise
        return None
    return arrays if str(arrays.pop("identity", "")) == identity else None


def write_arrays(path: Path, identity: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays and their identity to a file, whole or not at all; makes its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(f"{path} cannot be written", error) or error from error
    with whole_file(path, "wb") as file:
        np.savez(file, identity=np.asarray(identity), **arrays)  # type: ignore[arg-type]


def cached_arrays(
    folder: Path, identity: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> tuple[Mapping[str, np.ndarray], bool]:
    """Reads the arrays stored under an identity, or makes and stores them.

    Args:
        folder: The folder of all stored results of this kind.
        identity: SHA-256, in hex, of everything that determines the result.
        make: Computes the arrays.

    Returns:
        The arrays, and whether they were read from disk.
    """
    path = folder / f"{identity[:20]}.npz"
    stored = read_arrays(path, identity)
    if stored is not None:
        return stored, True
    arrays = make()
    write_arrays(path, identity, arrays)
    return arrays, False
