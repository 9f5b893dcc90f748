"""Training state on disk: asynchronous, the last k and the best, each with a digest of our own. The only Orbax import.

Orbax commits a step's folder whole, but its array data carries no checksum, so flipped bits would load silently.
Beside the steps stands `digests/STEP.json`, written once the step is committed: SHA-256 of every file, the step's
metric and the run it belongs to, and a SHA-256 of all that. A step counts as finished when its digest is there;
`restore` reads every file again before it believes it. Retention is ours for the same reason: an old checkpoint goes
only after a newer one has its digest, whatever is killed in between. Orbax takes a second to import, so that it is
asked for at the first save or restore and not before a run's first step.

    checkpoints/20/...  checkpoints/30/...  checkpoints/digests/20.json  checkpoints/digests/30.json
"""

import functools
import json
import logging
import math
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from pairjax.base.errors import UserError
from pairjax.run.digest import Digest, digest_text, read_digest
from pairjax.run.distributed import is_main, process_count
from pairjax.storage.bucket import AnyPath, remove_tree
from pairjax.storage.files import storage_error, write_text
from pairjax.storage.hashes import file_fault, hash_files


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
        state: Shaped, typed and placed as the template, bit for bit as saved.
        host: What was given to `save`, through JSON (tuples have become lists).
        step: The step that was restored.
        notes: Lines on newer checkpoints that were passed over, and why.
    """

    state: Any
    host: dict[str, Any]
    step: int
    notes: tuple[str, ...]


class Checkpointer:
    """Saves and restores the training state of one run; use it as a context manager, or a save in flight is lost.

    Args:
        folder: Made where it is not there. Folders that a killed save left half-written are removed. It may lie in a
            bucket.
        keep: How many of the last checkpoints stay, at least 1; the best stays besides.
        metric_mode: Whether the best has the largest or the smallest metric. The earliest of equals is the best.
        identity: Of the run (`RunFolder.identity`); a checkpoint that carries another is not restored.
        before: Called, on a thread of the first process, before a checkpoint counts as finished.

    Raises:
        UserError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: AnyPath,
        *,
        keep: int = 2,
        metric_mode: Literal["max", "min"] = "max",
        identity: str = "",
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder: AnyPath = folder.absolute() if isinstance(folder, Path) else folder
        self._before = before
        self._shown = folder
        self._keep = keep
        self._sign = 1.0 if metric_mode == "max" else -1.0
        self._identity = identity
        self._damaged: set[int] = set()
        self._saving: int | None = None
        self._finisher: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failed = False
        self._hook = sys.unraisablehook
        logging.getLogger("absl").addFilter(_is_not_orbax)
        logging.getLogger("asyncio").addFilter(_is_not_orbaxs_task)
        try:
            if is_main():
                (self._folder / "digests").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(f"{folder}: checkpoints cannot be written", error) or error from error

    @functools.cached_property
    def _manager(self) -> Any:
        import orbax.checkpoint as ocp

        # In a bucket Orbax takes whatever it has not marked as whole for a save that was killed, the digests too. There
        # such a save lies in its step's own place, and goes as one without a digest.
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=isinstance(self._folder, Path), prevent_write_metrics=True
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: Any, *, host: Mapping[str, Any], metric: int | float | None = None) -> bool:
        """Begins to save; the state may be donated or changed as soon as this returns.

        Waits for the save before, if that is still being written. A later step than `step` can only be of a future
        that the run has left (it was restored to an earlier step); those go once this save is finished.

        Args:
            step: Steps done.
            state: Any pytree of arrays, typed PRNG keys included.
            host: Plain data that goes with it; taken as it is now.
            metric: Of this step on dev, for the best; None or NaN where there is none.

        Returns:
            False where a finished checkpoint of this step is there already, and nothing was done.

        Raises:
            UserError: This save, or the one before, could not be written (the disk is full): says what is kept.
        """
        import orbax.checkpoint as ocp

        self.wait()
        if step in self._finished():
            return False
        flat = _flatten(state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(flat),
            host=ocp.args.JsonSave(json.loads(json.dumps(dict(host)))),
            spec=ocp.args.JsonSave({path: _spec(leaf) for path, leaf in flat.items()}),
        )
        value = None if metric is None or not math.isfinite(metric) else float(metric)
        self._saving = step
        try:
            self._remove(step)
            self._manager.save(step, args=items, force=True)
        except Exception as error:
            raise self._failure(error) from error
        # Reading the files back for their digest takes as long as writing them: not on the training thread.
        self._finisher = threading.Thread(target=self._finish, args=(step, value), name=f"digest of step {step}")
        self._finisher.start()
        return True

    def wait(self) -> None:
        """Blocks until the save in flight is finished, its digest written, and what is no longer kept is gone.

        Raises:
            UserError: It could not be written, or the storage refuses to delete.
        """
        if self._finisher is None:
            return
        self._finisher.join()
        self._finisher = None
        error, self._error = self._error, None
        if error is not None:
            raise self._failure(error) from error
        assert self._saving is not None
        _meet("finished")
        gone = self._superseded(self._saving)
        # Each process lists the folder before the first of them changes it.
        _meet("listed")
        self._saving = None
        for step in gone:
            try:
                self._remove(step)
            except OSError as refused:
                what = f"{self._shown}: the checkpoint of step {step}, no longer needed, cannot be deleted"
                raise storage_error(what, refused) or refused from refused

    def latest_step(self) -> int | None:
        """The newest finished step, unread; None where there is none to go on from."""
        self.wait()
        finished = self._finished()
        if not finished and len(self._steps()) > 1:
            # A kill leaves at most one step without its digest; more of them are digests that were lost.
            raise UserError(f"{self._shown}: its checkpoints have no digests, so none can be trusted", fix=_AGAIN)
        return max(finished, default=None)

    def best_step(self) -> int | None:
        """The finished step with the best metric; None where no step has one."""
        self.wait()
        return self._best(self._finished())

    def restore(self, template: Any, *, step: int | None = None) -> Restored:
        """The newest checkpoint that is whole, or that of `step`, on the template's shardings.

        Args:
            template: A state of the shapes, dtypes and shardings wanted; its values are not read.
            step: Default: the newest; one that is damaged or unfinished is passed over with a note.

        Raises:
            UserError: No checkpoint is whole, or that of `step` is not: names the step and the file. Or it fits
                another model: names the path, shapes and dtypes.
        """
        import orbax.checkpoint as ocp

        self.wait()
        chosen, notes = self._choose(step)
        place = f"{self._shown}/{chosen}"
        try:
            small = ocp.args.Composite(host=ocp.args.JsonRestore(), spec=ocp.args.JsonRestore())
            read = self._manager.restore(chosen, args=small)
            wanted = _flatten(template)
            _check_fits(place, saved=read.spec, wanted={path: _spec(leaf) for path, leaf in wanted.items()})
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
            flat = self._manager.restore(
                chosen, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            ).state
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{place}: its digest is right, but Orbax cannot read it", got=error, fix=_AGAIN) from error
        leaves = [flat[path] for path in wanted]
        return Restored(jax.tree.unflatten(jax.tree.structure(template), leaves), read.host, chosen, notes)

    def close(self) -> None:
        """Waits for the save in flight and lets go of Orbax's threads.

        Raises:
            UserError: That save could not be written.
        """
        try:
            self.wait()
        finally:
            try:
                if "_manager" in vars(self):
                    self._manager.close()
            except Exception as error:
                # Orbax tells again of a save that failed, perhaps of another of its files.
                if not self._failed:
                    raise storage_error(f"{self._shown}: checkpoints cannot be written", error) or error from error
            if is_main() and isinstance(self._folder, Path):
                # Of a save that failed: Orbax makes the folder on a thread, perhaps after the error.
                for left in self._folder.glob("*.orbax-checkpoint-tmp*"):
                    shutil.rmtree(left, ignore_errors=True)

    def __enter__(self) -> "Checkpointer":
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except UserError:
            # What went wrong first is what the user has to hear.
            if error is None:
                raise
        finally:
            sys.unraisablehook = self._hook

    def _unraisable(self, told: "sys.UnraisableHookArgs") -> None:
        """Hides what a failed save's other writes say, from threads, of the event loop that Orbax has closed."""
        if str(told.exc_value) != "Event loop is closed":
            self._hook(told)

    def _finish(self, step: int, metric: float | None) -> None:
        """On its own thread: waits for Orbax's commit, then writes the digest."""
        try:
            self._manager.wait_until_finished()
            if is_main():
                self._before()
                files = hash_files(self._folder / str(step))
                write_text(self._digest_file(step), digest_text(Digest(step, metric, self._identity, files)))
        except BaseException as error:
            self._error = error

    def _failure(self, error: BaseException) -> BaseException:
        """What to raise for a save that failed."""
        step, self._saving = self._saving, None
        self._failed = True
        try:
            self._manager.wait_until_finished()
        except Exception:
            # Orbax raises the error of a save once on each thread that waits for it.
            logging.getLogger(__name__).debug("the failed save, told again", exc_info=True)
        kept = sorted(self._finished())
        names = f"step{'s' if len(kept) > 1 else ''} {', '.join(map(str, kept))} kept" if kept else "no other is there"
        return (
            storage_error(f"{self._shown}: the checkpoint of step {step} cannot be written ({names})", error) or error
        )

    def _steps(self) -> list[int]:
        if not self._folder.is_dir():
            # A bucket has no empty folders.
            return []
        return sorted(int(child.name) for child in self._folder.iterdir() if child.name.isdecimal())

    def _digest_file(self, step: int) -> AnyPath:
        return self._folder / "digests" / f"{step}.json"

    def _finished(self) -> dict[int, Digest]:
        """The steps that have a sound digest and were not found to be damaged."""
        found = {}
        for step in self._steps():
            digest = read_digest(self._digest_file(step))
            if isinstance(digest, Digest) and step not in self._damaged:
                found[step] = digest
        return found

    def _best(self, finished: Mapping[int, Digest]) -> int | None:
        scored = [(self._sign * digest.metric, -step) for step, digest in finished.items() if digest.metric is not None]
        return -max(scored)[1] if scored else None

    def _superseded(self, saved: int) -> list[int]:
        """All steps but the last k and the best of those up to the one just finished."""
        finished = {step: digest for step, digest in self._finished().items() if step <= saved}
        if saved not in finished:
            return []
        kept = {*sorted(finished)[-self._keep :], self._best(finished)}
        return [step for step in self._steps() if step not in kept]

    def _remove(self, step: int) -> None:
        """Deletes a step, its digest first, so that a kill half-way leaves an unfinished step and no damaged one."""
        if is_main():
            self._digest_file(step).unlink(missing_ok=True)
        self._damaged.discard(step)
        if step in self._manager.all_steps():
            self._manager.delete(step)
        elif is_main() and (self._folder / str(step)).is_dir():
            remove_tree(self._folder / str(step))
        elif is_main():
            # Damage can leave a file in a step's place.
            (self._folder / str(step)).unlink(missing_ok=True)

    def _choose(self, step: int | None) -> tuple[int, tuple[str, ...]]:
        """The step to restore, every file of it read and compared, and notes on those passed over."""
        chosen, reasons = None, []
        tried = [step] if step is not None else self._steps()[::-1]
        if is_main():
            for candidate in tried:
                reason = self._fault(candidate)
                if reason is None:
                    chosen = candidate
                    break
                reasons.append(reason)
        if process_count() > 1:
            # One process reads the files; all restore the same step.
            agreed = multihost_utils.broadcast_one_to_all(np.int64(-1 if chosen is None else chosen))
            chosen = None if agreed < 0 else int(agreed)
        self._damaged.update(tried if chosen is None else tried[: tried.index(chosen)])
        if chosen is None:
            told = "; ".join(reasons) or f"{self._shown} holds no checkpoint"
            raise UserError(f"no checkpoint can be restored: {told}", fix=_AGAIN if step is None else None)
        return chosen, tuple(f"{reason}; went back to step {chosen}" for reason in reasons)

    def _fault(self, step: int) -> str | None:
        """Why the checkpoint of `step` cannot be trusted; None where it can."""
        place, root = f"{self._shown}/{step}", self._folder / str(step)
        if not root.is_dir():
            return f"{place}: there is no such checkpoint"
        digest = read_digest(self._digest_file(step))
        if digest is None:
            return f"{place}: its save was not finished"
        if isinstance(digest, str):
            return f"{self._shown}/digests/{step}.json: {digest}"
        if digest.step != step:
            return f"{self._shown}/digests/{step}.json: is that of step {digest.step}"
        if digest.identity != self._identity:
            return f"{place}: is a checkpoint of another run"
        with ThreadPoolExecutor() as pool:
            faults = pool.map(lambda item: file_fault(root, *item), sorted(digest.files.items()))
            return next((f"{place}/{fault}" for fault in faults if fault is not None), None)


_AGAIN = "start the run again with --run.overwrite"


def _meet(place: str) -> None:
    """Waits until all processes of the run have come here."""
    if process_count() > 1:
        multihost_utils.sync_global_devices(f"pairjax: checkpoint {place}")


def _flatten(state: Any) -> dict[str, Any]:
    """Leaves by path, such as `opt_state.0.mu.encoder.layer_0...`: one flat dict whatever containers held them."""
    pairs = jax.tree_util.tree_flatten_with_path(state)[0]
    flat = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in pairs}
    if len(flat) != len(pairs):
        raise ValueError("two leaves of the state have the same path")
    return flat


def _spec(leaf: Any) -> str:
    """Dtype and shape, as in `float32[8,16]`."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _check_fits(place: str, *, saved: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raises UserError where paths, dtypes (Orbax would cast) or shapes differ."""
    differ = [path for path in sorted(saved.keys() | wanted.keys()) if saved.get(path) != wanted.get(path)]
    if differ:
        first = differ[0]
        raise UserError(
            f"{place} is of another model: {first}" + (f" and {len(differ) - 1} more" if len(differ) > 1 else ""),
            got=saved.get(first, "nothing in the checkpoint"),
            expected=wanted.get(first, "nothing of that path"),
            fix="resume with the model and the optimiser that the run was started with",
        )


def _is_not_orbax(record: logging.LogRecord) -> bool:
    """Orbax logs the traceback of every error that it also raises; a user is to see one line."""
    return "orbax" not in record.pathname


def _is_not_orbaxs_task(record: logging.LogRecord) -> bool:
    """Likewise of each of its writes that fails beside the one that it raises: hundreds, on a full disk."""
    return not ("never retrieved" in record.getMessage() and "orbax" in record.getMessage())
