"""Keep a run's folder in a bucket: checkpoints are written there, other files are written locally and then copied.

An object store has no appends, renames or locks, which a run's own files need. Orbax does not need them: it marks a
checkpoint as complete with a separate object, and an object appears only when it is complete. So the checkpoints of a
run at `gs://...` are written to the bucket. All other files are in a temporary folder and are copied before a
checkpoint counts as finished, and at the end. Whichever checkpoint a run resumes from, the files are at least as new.
"""

import importlib.util
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pairjax.base.errors import UserError

if TYPE_CHECKING:
    from etils import epath

AnyPath: TypeAlias = "Path | epath.Path"
"""A path on a disk or in a bucket."""

SCHEME = "gs://"
LAST = "result.json"
"""The file that marks a run as finished; it is copied last."""


def is_address(place: str) -> bool:
    """Returns whether a place is an address such as gs://..., not a path of a file system."""
    return "://" in place


def open_bucket(address: str) -> "epath.Path":
    """Returns the path of a folder in a bucket after checking that the bucket can be reached.

    Args:
        address: `gs://BUCKET/FOLDER`.

    Raises:
        UserError: The address has another form, gcsfs is not installed, or the bucket does not exist or cannot be
            reached.
    """
    bucket, _, folder = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket or not folder.strip("/"):
        raise UserError(
            "--run.dir is neither a path nor an address in a bucket",
            got=address,
            expected="a path, or gs://BUCKET/FOLDER",
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{address} needs the package gcsfs", fix="pip install 'pairjax[gcs]'")
    import fsspec

    # Other processes write to the bucket too, and a cached listing would hide their files.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    try:
        system = fsspec.filesystem("gcs")
        # Permission to write objects does not include permission to list the bucket itself.
        system.ls(bucket + "/" + folder.strip("/"), detail=False)
    except FileNotFoundError:
        if not _exists(system, bucket):
            raise UserError(f"{address}: the bucket does not exist", fix="create it, or check its name") from None
    except Exception as error:
        raise _unreachable(address, error) from error
    from etils import epath

    return epath.Path(address.rstrip("/"))


def _exists(system: Any, bucket: str) -> bool:
    """Returns whether a bucket exists; raises UserError if that cannot be determined."""
    try:
        system.ls(bucket, detail=False)
    except FileNotFoundError:
        return False
    except Exception as error:
        raise _unreachable(SCHEME + bucket, error) from error
    return True


def _unreachable(address: str, error: Exception) -> UserError:
    """Returns the error for a bucket that cannot be reached."""
    return UserError(
        f"{address} cannot be reached",
        got=" ".join(str(error).split()) or type(error).__name__,
        fix="log in (gcloud auth application-default login) and check the bucket's permissions",
    )


def files_below(root: AnyPath) -> Iterator[tuple[str, AnyPath]]:
    """Yields every file below a folder with its path relative to the folder, sorted."""
    if isinstance(root, Path):
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    else:
        import fsspec

        # One request lists all files; epath would send one for each folder.
        start = len(os.fspath(root).removeprefix(SCHEME)) + 1
        names = [path[start:] for path in fsspec.filesystem("gcs").find(os.fspath(root))]
    return ((name, root / name) for name in sorted(names))


def size_of(path: AnyPath) -> int:
    """Returns the size of a file in bytes."""
    return path.stat().st_size if isinstance(path, Path) else cast(int, path.stat().length)


def remove_tree(path: AnyPath) -> None:
    """Removes a folder and everything in it."""
    if isinstance(path, Path):
        shutil.rmtree(path)
    else:
        path.rmtree()


class Mirror:
    """A temporary folder whose files are copied to a bucket.

    Args:
        remote: The folder in the bucket.

    Attributes:
        remote: The folder in the bucket.
        local: The temporary folder.
    """

    def __init__(self, remote: "epath.Path") -> None:
        self.remote = remote
        self.local = Path(tempfile.mkdtemp(prefix="pairjax-run-"))
        self._copied: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def fetch(self) -> None:
        """Copies the files of the bucket, except checkpoints, to the local folder."""
        for name, path in files_below(self.remote):
            if not name.startswith("checkpoints/"):
                target = self.local / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                self._copied[name] = _stamp(target)

    def push(self) -> None:
        """Copies the files that changed since they were last copied, the run's result last."""
        with self._lock:
            for name, path in sorted(files_below(self.local), key=lambda item: (item[0] == LAST, item[0])):
                stamp = _stamp(cast(Path, path))
                if self._copied.get(name) != stamp and not path.name.startswith("."):
                    (self.remote / name).write_bytes(path.read_bytes())
                    self._copied[name] = stamp

    def close(self) -> None:
        """Copies the remaining changes and removes the local folder."""
        try:
            self.push()
        finally:
            self.discard()

    def discard(self) -> None:
        """Removes the local folder."""
        shutil.rmtree(self.local, ignore_errors=True)


def _stamp(path: Path) -> tuple[int, int]:
    """Returns size and time of modification, which change when the file does."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
