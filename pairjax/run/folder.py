"""A run's folder: the checks before it is written, its lock, and the record of its config and provenance.

A folder that is not empty is changed only with `--run.overwrite` or `--run.resume`, and nothing is created before every
check has passed. `check_run` makes the same checks early and writes nothing, so a run that cannot start does not first
spend minutes on loading data.
"""

import errno
import fcntl
import os
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pairjax.base.config import RunConfig
from pairjax.base.errors import UserError
from pairjax.run.distributed import is_main
from pairjax.run.identity import as_json, check_content, check_same, identity_of
from pairjax.storage.bucket import AnyPath, Mirror, is_address, open_bucket, remove_tree
from pairjax.storage.files import read_json, storage_error, write_json
from pairjax.storage.provenance import installed_version

_WRITTEN = ("metrics.jsonl", "checkpoints", "model", "result.json", "report.html", "tensorboard", "config.json")
_LOCK = ".lock"


class RunFolder:
    """An opened run folder, locked by this process until `close`; a context manager.

    Attributes:
        path: The folder on disk. For a run in a bucket it is the local folder that this process writes to.
        place: The folder as the user names it: the path, or the address in the bucket.
        resumed: Whether the run continues from the checkpoints in the folder.
        identity: SHA-256 of the run's content and of the part of its config that may not change. Checkpoints carry
            it, so a checkpoint that was copied from another run is noticed. A resumed run keeps the identity that it
            began with.
        notes: Lines that the user should read.
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
        """The config and provenance of the run."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """The log of losses and scores."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> AnyPath:
        """The folder of checkpoints."""
        return self.place / "checkpoints"

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.path / "model"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def result_file(self) -> Path:
        """The scores; written last."""
        return self.path / "result.json"

    def predictions_file(self, split: str) -> Path:
        """Returns the file of a split's predictions."""
        return self.path / f"predictions.{split}.jsonl"

    @property
    def finished(self) -> bool:
        """Whether the run is finished: result.json exists."""
        return self.result_file.exists()

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return self.place.resolve().name

    def in_commands(self) -> tuple[str, list[tuple[str, str]]]:
        """Returns the folder's name in shell commands, and the command that first copies it from a bucket.

        Returns:
            The quoted name, and a list of (purpose, command), empty if the folder is on disk.
        """
        if isinstance(self.place, Path):
            return shlex.quote(str(self.place)), []
        command = f"gcloud storage cp --recursive {shlex.quote(str(self.place))} ."
        return shlex.quote(self.name), [("copy the run here", command)]

    def publish(self) -> None:
        """Copies new files to the bucket; does nothing if the folder is on disk."""
        if self._mirror is not None:
            self._mirror.push()

    def close(self) -> None:
        """Releases the lock, or copies the remaining files to the bucket.

        The lock's file stays: if it were removed, two processes could lock files of the same name.
        """
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
    """Returns the run's folder: `--run.dir`, or runs/NAME.

    Args:
        config: The run's options.
        default_name: NAME.

    Raises:
        UserError: The folder is in a bucket that cannot be reached.
    """
    if config.dir is not None and is_address(config.dir):
        return open_bucket(config.dir)
    return Path(config.dir) if config.dir is not None else Path("runs") / default_name


def check_run(
    config: RunConfig, resolved: Mapping[str, Any], *, default_name: str, defaults: Mapping[str, Any] | None = None
) -> AnyPath:
    """Checks everything that `open_run` checks, except for the lock; writes nothing.

    Args:
        config: The folder, and whether to overwrite or resume it.
        resolved: The whole config as plain data, with defaults filled in.
        default_name: The run's name if `--run.dir` gives no folder.
        defaults: The default config as plain data. A run that began before an option existed has its default.

    Returns:
        The folder, which may not exist yet.

    Raises:
        UserError: The folder exists and neither --run.overwrite nor --run.resume was given; it is not a run's folder;
            there is nothing to resume; or the config to resume with differs (names the fields).
    """
    path = run_path(config, default_name)
    _check_folder(path, config, resolved, defaults=defaults or {})
    return path


def _check_folder(
    path: AnyPath,
    config: RunConfig,
    resolved: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    content: Mapping[str, str] | None = None,
) -> None:
    """Checks a folder as `check_run` says; compares the content with that of the run if it is known."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: the run folder is a file", fix="choose another --run.dir")
    if config.resume and not path.exists():
        raise UserError(f"{path}: there is no run to resume", fix="check --run.dir, or leave out --run.resume")
    if not _occupied(path):
        _check_writable(path)
        return
    if not (config.overwrite or config.resume):
        raise UserError(
            f"{path}: the run folder exists and is not empty",
            fix="continue it with --run.resume, delete it with --run.overwrite, or choose another --run.dir",
        )
    saved = _read_config(path)
    if config.resume:
        check_same(path, saved, as_json(resolved), as_json(defaults))
        if content is not None:
            check_content(path, saved, content)
    _check_writable(path)


def open_run(
    config: RunConfig,
    resolved: Mapping[str, Any],
    *,
    default_name: str,
    origin: Mapping[str, Any],
    content: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Checks, locks and creates the run's folder, and writes its config.json.

    Call it after all other input was checked. Processes other than the first get the paths and write nothing.

    Args:
        config: The folder, and whether to overwrite or resume it.
        resolved: The whole config as plain data, with defaults filled in.
        default_name: The run's name if `--run.dir` gives no folder.
        origin: The run's provenance (`provenance`), for config.json.
        content: SHA-256 of each part of the input: the splits, the encoder, the tokeniser.
        defaults: As for `check_run`.

    Raises:
        UserError: As for `check_run`; or the run began on other content; or another process uses the folder; or it
            cannot be written.
    """
    path = run_path(config, default_name)
    content, defaults = dict(content or {}), defaults or {}
    identity = identity_of(as_json(resolved), content)
    if not is_main():
        return RunFolder(path, identity=identity, resumed=config.resume)
    _check_folder(path, config, resolved, defaults=defaults, content=content)
    lock, mirror, notes = _claim(path)
    try:
        # Another process may have started a run here since the first check.
        _check_folder(path, config, resolved, defaults=defaults, content=content)
        resumed = config.resume and _occupied(path)
        resumes: list[Any] = []
        first = dict(origin)
        if resumed:
            saved = _read_config(path)
            first, resumes = saved["provenance"], [*saved["resumes"], dict(origin)]
            # Version 0.1 recorded no identity: it was that of the config alone.
            identity = saved.get("identity") or identity_of(saved["config"], {})
            if mirror is not None:
                mirror.fetch()
        elif _occupied(path):
            _clear(path)
        if config.resume and not any((path / "checkpoints" / "digests").glob("*.json")):
            notes.append(f"{path} has no finished checkpoint: the run starts from the beginning")
        record = {
            "pairjax": installed_version("pairjax") or "not installed",
            "config": resolved,
            "identity": identity,
            "content": content,
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
    """Returns the folder's lock, or the mirror of a folder in a bucket; and notes."""
    if not isinstance(path, Path):
        return None, Mirror(path), [f"{path}: a bucket has no locks, so nothing prevents a second run"]
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock, notes = take_lock(path)
    except OSError as error:
        raise storage_error(f"{path}: the run folder cannot be created", error) or error from error
    return lock, None, notes


def _occupied(path: AnyPath) -> bool:
    """Returns whether the folder holds anything but a lock."""
    return path.is_dir() and any(child.name != _LOCK for child in path.iterdir())


def _check_writable(path: AnyPath) -> None:
    """Raises UserError if the folder, or its nearest existing parent, cannot be written; does not check buckets."""
    if not isinstance(path, Path):
        return
    nearest = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    if not nearest.is_dir():
        raise UserError(
            f"{path}: the run folder cannot be created", got=f"{nearest}, a file", fix="choose another --run.dir"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{path}: the run folder cannot be written", got=f"no permission in {nearest}")


def _read_config(path: AnyPath) -> dict[str, Any]:
    """Reads the config.json of a run.

    Raises:
        UserError: There is none, or pairjax did not write it; then the folder must not be touched.
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
            f"{path} is not a pairjax run", got="a config.json of another program", fix="choose another --run.dir"
        )
    return saved


def take_lock(path: Path, *, what: str = "run folder", option: str = "--run.dir") -> tuple[IO[str], list[str]]:
    """Takes a folder's lock; the kernel releases it when the process ends, however it ends.

    Args:
        path: The folder.
        what: A description of the folder, for messages.
        option: The option that names the folder, for messages.

    Returns:
        The open file that holds the lock, and a note if the file system has no locks.

    Raises:
        UserError: Another process holds the lock.
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
        notes.append(f"{path}: this file system has no locks, so nothing prevents a second run")
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file, notes


def _clear(path: AnyPath) -> None:
    """Deletes the files of a run and no others; config.json last, since it marks the folder as a run's."""
    for child in sorted(path.glob("predictions.*.jsonl")):
        child.unlink()
    for name in _WRITTEN:
        child = path / name
        if child.is_dir() and not (isinstance(child, Path) and child.is_symlink()):
            remove_tree(child)
        else:
            child.unlink(missing_ok=True)
