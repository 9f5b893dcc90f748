"""A run's folder: who may write it, and what it says about its origin.

A folder that holds anything is touched only when `--run.overwrite` or `--run.resume` says so, and nothing is created
before every check has passed. `check_run` makes the same checks early and writes nothing, so that a long load of data
is not spent on a run that cannot start.
"""

import errno
import fcntl
import json
import os
import platform
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pairjax.base.config import RunConfig
from pairjax.base.errors import UserError
from pairjax.run.distributed import is_main
from pairjax.storage.bucket import AnyPath, Mirror, is_address, open_bucket, remove_tree
from pairjax.storage.files import read_json, storage_error, to_json, write_json
from pairjax.storage.hashes import hash_json
from pairjax.storage.provenance import installed_version
from pairjax.storage.provenance import provenance as provenance

MAY_CHANGE = ("run", "evaluation", "mesh", "data.download", "data.cache", "model.download")
"""Fields that a resumed run may give otherwise: none of them has a part in the training itself. All else may not;
`train.epochs`, for one, sets the learning-rate schedule."""

_WRITTEN = ("metrics.jsonl", "checkpoints", "model", "result.json", "report.html", "tensorboard", "config.json")
_LOCK = ".lock"


class RunFolder:
    """An opened run folder, locked for this process until `close` (it is a context manager).

    Attributes:
        path: The folder; of a run in a bucket the local one, where this process writes.
        place: What the run is called by: the same, or its address.
        resumed: Whether the run goes on from what is there.
        identity: SHA-256 of the part of the config that may not change; checkpoints carry it, so that one copied
            from another run is noticed.
        notes: Lines worth showing.
    """

    def __init__(
        self,
        place: AnyPath,
        *,
        identity: str,
        resumed: bool,
        notes: tuple[str, ...] = (),
        lock: IO[str] | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.place = place
        self.path = Path(place) if mirror is None else mirror.local
        self.identity = identity
        self.resumed = resumed
        self.notes = notes
        self._lock = lock
        self._mirror = mirror

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> AnyPath:
        return self.place / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    def predictions_file(self, split: str) -> Path:
        return self.path / f"predictions.{split}.jsonl"

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end: its result is there."""
        return self.result_file.exists()

    @property
    def name(self) -> str:
        return self.place.resolve().name

    def in_commands(self) -> tuple[str, list[tuple[str, str]]]:
        """What the run's folder is called in commands to try next, and one that first copies it from a bucket here."""
        if isinstance(self.place, Path):
            return shlex.quote(str(self.place)), []
        copied = f"gcloud storage cp --recursive {shlex.quote(str(self.place))} ."
        return shlex.quote(self.name), [("copy the run here", copied)]

    def publish(self) -> None:
        """Copies what was written to the bucket; on a disk it is there already."""
        if self._mirror is not None:
            self._mirror.push()

    def close(self) -> None:
        """Frees the lock, or copies what is left to the bucket. The lock's file stays: removing it would let two
        processes hold one name."""
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_path(config: RunConfig, default_name: str) -> AnyPath:
    """The run's folder: `--run.dir`, or runs/NAME.

    Raises:
        UserError: It is in a bucket that cannot be reached.
    """
    if config.dir is not None and is_address(config.dir):
        return open_bucket(config.dir)
    return Path(config.dir) if config.dir is not None else Path("runs") / default_name


def check_run(config: RunConfig, resolved: Mapping[str, Any], *, default_name: str) -> AnyPath:
    """All the checks of `open_run` but the lock; writes nothing.

    Args:
        config: Which folder, and whether to overwrite or resume it.
        resolved: The whole config as plain data, defaults filled in.
        default_name: The run's name where `--run.dir` gives no folder.

    Returns:
        The folder, which may not exist yet.

    Raises:
        UserError: It exists and neither --run.overwrite nor --run.resume was given; it is not a run's; there is
            nothing to resume; or the config to resume with differs, and in which fields.
    """
    path = run_path(config, default_name)
    _check_folder(path, config, resolved)
    return path


def _check_folder(path: AnyPath, config: RunConfig, resolved: Mapping[str, Any]) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: the run folder is a file", fix="choose another --run.dir")
    if config.resume and not path.exists():
        raise UserError(f"{path}: there is no run to resume", fix="check --run.dir, or leave --run.resume out")
    if not _occupied(path):
        _check_writable(path)
        return
    if not (config.overwrite or config.resume):
        raise UserError(
            f"{path}: the run folder exists and is not empty",
            fix="go on with it by --run.resume, delete it by --run.overwrite, or choose another --run.dir",
        )
    saved = _read_config(path)
    if config.resume:
        _check_same(path, saved, _round_trip(resolved))
    _check_writable(path)


def open_run(
    config: RunConfig,
    resolved: Mapping[str, Any],
    *,
    default_name: str,
    origin: Mapping[str, Any],
) -> RunFolder:
    """Checks, locks and creates the run's folder, and writes its config.json.

    Call it after all other input has been checked. Processes other than the first get the paths and write nothing.

    Args:
        config: Which folder, and whether to overwrite or resume it.
        resolved: The whole config as plain data, defaults filled in.
        default_name: The run's name where `--run.dir` gives no folder.
        origin: What `provenance` returned; goes into config.json.

    Raises:
        UserError: As `check_run`; or another process is using the folder; or it cannot be written.
    """
    path = run_path(config, default_name)
    fixed = {name: value for name, value in _leaves(_round_trip(resolved)) if not _may_change(name)}
    identity = hash_json(fixed)
    if not is_main():
        return RunFolder(path, identity=identity, resumed=config.resume)
    _check_folder(path, config, resolved)
    lock, mirror, notes = _claim(path)
    try:
        # Another process may have begun a run here since the first look.
        _check_folder(path, config, resolved)
        resumed = config.resume and _occupied(path)
        resumes: list[Any] = []
        first = dict(origin)
        if resumed:
            saved = _read_config(path)
            first, resumes = saved["provenance"], [*saved["resumes"], dict(origin)]
            if mirror is not None:
                mirror.fetch()
        elif _occupied(path):
            _clear(path)
        if config.resume and not any((path / "checkpoints" / "digests").glob("*.json")):
            notes.append(f"{path} has no finished checkpoint: the run starts from the beginning")
        record = {
            "pairjax": installed_version("pairjax") or "not installed",
            "config": resolved,
            "provenance": first,
            "resumes": resumes,
        }
        run = RunFolder(path, identity=identity, resumed=resumed, notes=tuple(notes), lock=lock, mirror=mirror)
        write_json(run.config_file, record)
        run.publish()
    except BaseException:
        if lock is not None:
            lock.close()
        if mirror is not None:
            mirror.discard()
        raise
    return run


def _claim(path: AnyPath) -> tuple[IO[str] | None, Mirror | None, list[str]]:
    """The folder's lock, or the local folder of one in a bucket; and notes."""
    if not isinstance(path, Path):
        return None, Mirror(path), [f"{path}: a bucket has no locks, so nothing keeps a second run out"]
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock, notes = take_lock(path)
    except OSError as error:
        raise storage_error(f"{path}: the run folder cannot be made", error) or error from error
    return lock, None, notes


def _occupied(path: AnyPath) -> bool:
    return path.is_dir() and any(child.name != _LOCK for child in path.iterdir())


def _check_writable(path: AnyPath) -> None:
    """Raises UserError where the folder, or the one that would hold it, cannot be written; buckets are not asked."""
    if not isinstance(path, Path):
        return
    nearest = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    if not nearest.is_dir():
        raise UserError(
            f"{path}: the run folder cannot be made", got=f"{nearest}, a file", fix="choose another --run.dir"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{path}: the run folder cannot be written", got=f"no permission in {nearest}")


def _read_config(path: AnyPath) -> dict[str, Any]:
    """The config.json of a pairjax run.

    Raises:
        UserError: There is none, or it is not ours: then nothing in the folder is ours to touch.
    """
    file = path / "config.json"
    if not file.exists():
        raise UserError(f"{path} is not a pairjax run", got="no config.json", fix="choose another --run.dir")
    try:
        saved = read_json(file)
    except UserError as error:
        raise UserError(f"{path} is not a pairjax run", got=error, fix="choose another --run.dir") from error
    parts = {"pairjax": str, "config": dict, "provenance": dict, "resumes": list}
    if any(not isinstance(saved.get(name), kind) for name, kind in parts.items()):
        raise UserError(
            f"{path} is not a pairjax run", got="a config.json of something else", fix="choose another --run.dir"
        )
    return saved


def _round_trip(resolved: Mapping[str, Any]) -> Any:
    return json.loads(to_json(resolved))


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything but the dicts themselves."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _may_change(name: str) -> bool:
    return any(name == field or name.startswith(f"{field}.") for field in MAY_CHANGE)


def _check_same(path: AnyPath, saved: Mapping[str, Any], resolved: Any) -> None:
    """Raises UserError naming each field that a resumed run may not change, and does."""
    old, new = dict(_leaves(saved["config"])), dict(_leaves(resolved))
    absent = object()
    changed = [
        f"{name} was {_shown(old, name)} and is now {_shown(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if not _may_change(name) and old.get(name, absent) != new.get(name, absent)
    ]
    if changed:
        raise UserError(
            f"{path}: the run cannot be resumed with another config: " + ", ".join(changed),
            fix="resume with the options that it was started with, or choose another --run.dir",
        )


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name], ensure_ascii=False) if name in fields else "not there"


def take_lock(path: Path, *, what: str = "run folder", option: str = "--run.dir") -> tuple[IO[str], list[str]]:
    """Holds a folder's lock, which the kernel frees when the process ends, however it ends.

    Args:
        path: The folder.
        what: What it is, for messages.
        option: Which names it.

    Returns:
        The open file that holds it, and a note where the file system has no locks.

    Raises:
        UserError: Another process has it.
    """
    file = open(path / _LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - held as long as the run
    notes = []
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise UserError(
            f"{path}: the {what} is in use by {holder}", fix=f"wait for it, or choose another {option}"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            file.close()
            raise
        notes.append(f"{path}: this file system has no locks, so nothing keeps a second run out")
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file, notes


def _clear(path: AnyPath) -> None:
    """Deletes what a run writes and leaves anything else; config.json goes last, as it marks the folder as ours."""
    for child in sorted(path.glob("predictions.*.jsonl")):
        child.unlink()
    for name in _WRITTEN:
        child = path / name
        if child.is_dir() and not (isinstance(child, Path) and child.is_symlink()):
            remove_tree(child)
        else:
            child.unlink(missing_ok=True)
