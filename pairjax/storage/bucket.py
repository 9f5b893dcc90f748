"""A run's folder in a bucket: small files are written on a local disk and copied there, checkpoints go there directly.

An object store has neither appends nor renames nor locks, which a run's own files need. Orbax needs none of them: it
marks a checkpoint as whole by an object of its own, and an object appears only when it is whole. So the checkpoints of
a run at `gs://...` lie there from the start; all else lies in a temporary folder, and is copied before a checkpoint
counts as finished, and at the end: whatever checkpoint a run goes on from, its files are at least as new.
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
"""A place on a disk or in a bucket."""

SCHEME = "gs://"
LAST = "result.json"
"""What says that a run is finished: copied after all else."""


def is_address(place: str) -> bool:
    """Whether it is no path of a file system."""
    return "://" in place


def open_bucket(address: str) -> "epath.Path":
    """A place below a bucket, once the bucket has answered.

    Args:
        address: `gs://BUCKET/FOLDER`.

    Raises:
        UserError: Another kind of address; gcsfs is not installed; or no such bucket can be reached.
    """
    bucket, _, folder = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket or not folder.strip("/"):
        raise UserError(
            "--run.dir is neither a folder nor one in a bucket", got=address, expected="a path, or gs://BUCKET/FOLDER"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{address} needs the package gcsfs", fix="pip install 'pairjax[gcs]'")
    import fsspec

    # Other processes write there too: a listing that is remembered would hide it.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    try:
        system = fsspec.filesystem("gcs")
        # Whoever may write objects need not be allowed to look at the bucket itself.
        system.ls(bucket + "/" + folder.strip("/"), detail=False)
    except FileNotFoundError:
        if not _there(system, bucket):
            raise UserError(f"{address}: there is no such bucket", fix="make it, or check its name") from None
    except Exception as error:
        raise _unreached(address, error) from error
    from etils import epath

    return epath.Path(address.rstrip("/"))


def _there(system: Any, bucket: str) -> bool:
    try:
        system.ls(bucket, detail=False)
    except FileNotFoundError:
        return False
    except Exception as error:
        raise _unreached(SCHEME + bucket, error) from error
    return True


def _unreached(address: str, error: Exception) -> UserError:
    return UserError(
        f"{address} cannot be reached",
        got=" ".join(str(error).split()) or type(error).__name__,
        fix="log in (gcloud auth application-default login) and check the bucket's permissions",
    )


def files_below(root: AnyPath) -> Iterator[tuple[str, AnyPath]]:
    """Every file with its path from there, in order."""
    if isinstance(root, Path):
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    else:
        import fsspec

        # One list for all of them, where epath would ask for each folder.
        start = len(os.fspath(root).removeprefix(SCHEME)) + 1
        names = [path[start:] for path in fsspec.filesystem("gcs").find(os.fspath(root))]
    return ((name, root / name) for name in sorted(names))


def size_of(path: AnyPath) -> int:
    """Bytes of a file."""
    return path.stat().st_size if isinstance(path, Path) else cast(int, path.stat().length)


def remove_tree(path: AnyPath) -> None:
    """A folder and all in it."""
    if isinstance(path, Path):
        shutil.rmtree(path)
    else:
        path.rmtree()


class Mirror:
    """A temporary folder whose files are copied to a bucket.

    Args:
        remote: Where they are copied to.

    Attributes:
        local: The folder.
    """

    def __init__(self, remote: "epath.Path") -> None:
        self.remote = remote
        self.local = Path(tempfile.mkdtemp(prefix="pairjax-run-"))
        self._copied: dict[str, tuple[int, int]] = {}
        self._alone = threading.Lock()

    def fetch(self) -> None:
        """Copies what is there, checkpoints aside, into the local folder."""
        for name, path in files_below(self.remote):
            if not name.startswith("checkpoints/"):
                target = self.local / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                self._copied[name] = _stamp(target)

    def push(self) -> None:
        """Copies what has changed since it was copied last, the run's result after all else."""
        with self._alone:
            for name, path in sorted(files_below(self.local), key=lambda item: (item[0] == LAST, item[0])):
                stamp = _stamp(cast(Path, path))
                if self._copied.get(name) != stamp and not path.name.startswith("."):
                    (self.remote / name).write_bytes(path.read_bytes())
                    self._copied[name] = stamp

    def close(self) -> None:
        """Copies what is left and removes the folder."""
        try:
            self.push()
        finally:
            self.discard()

    def discard(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.local, ignore_errors=True)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
