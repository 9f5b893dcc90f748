"""Checkpoints of the training state: written asynchronously, the last k and the best are kept, each with a digest.

Orbax commits a step's folder atomically, but its array data has no checksum, so flipped bits would load silently.
Therefore each committed step gets a file `digests/STEP.json`: SHA-256 of every file, the step's metric, the identity of
the run, and a SHA-256 of all of these. A step is finished once it has its digest; `restore` reads and compares every
file before it uses them. Retention is done here for the same reason: an old checkpoint is deleted only after a newer
one has its digest, whatever is killed in between.

This is the only module that imports Orbax. The import takes a second, so it happens at the first save or restore and
not before a run's first step.

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
from pairjax.run.leaves import check_fits, flatten_state, leaf_spec
from pairjax.run.orbax_log import is_not_orbax, is_not_orbaxs_task
from pairjax.storage.bucket import AnyPath, remove_tree
from pairjax.storage.files import storage_error, write_text
from pairjax.storage.hashes import file_fault, hash_files

RESTART = "start the run again with --run.overwrite"


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
        state: The state, bit for bit as saved, with the template's shapes, dtypes and shardings.
        host: The plain data that was saved with it, after JSON (tuples have become lists).
        step: The step that was restored.
        notes: Why newer checkpoints were skipped, one line each.
    """

    state: Any
    host: dict[str, Any]
    step: int
    notes: tuple[str, ...]


class Checkpointer:
    """Saves and restores the training state of one run.

    Use it as a context manager; otherwise a save in flight is lost.

    Args:
        folder: The folder, on disk or in a bucket; created if it does not exist. Partial folders of killed saves are
            removed.
        keep: Number of newest checkpoints to keep, at least 1; the best is kept too.
        metric_mode: Whether the largest or the smallest metric is the best. Of equal ones the earliest is the best.
        identity: The run's identity (`RunFolder.identity`); checkpoints of another identity are not restored.
        before: Called on a thread of the first process before a checkpoint counts as finished.

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
        self._place = folder
        self._keep = keep
        self._sign = 1.0 if metric_mode == "max" else -1.0
        self._identity = identity
        self._damaged: set[int] = set()
        self._saving: int | None = None
        self._finisher: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failed = False
        self._hook = sys.unraisablehook
        logging.getLogger("absl").addFilter(is_not_orbax)
        logging.getLogger("asyncio").addFilter(is_not_orbaxs_task)
        try:
            if is_main():
                (self._folder / "digests").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(f"{folder}: checkpoints cannot be written", error) or error from error

    @functools.cached_property
    def _manager(self) -> Any:
        """Orbax's manager, imported and created at its first use."""
        import orbax.checkpoint as ocp

        # In a bucket Orbax would treat everything that it has not marked as complete as a killed save, the digests too.
        # There a killed save has its step's own name, and is removed as a step without a digest.
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=isinstance(self._folder, Path), prevent_write_metrics=True
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: Any, *, host: Mapping[str, Any], metric: int | float | None = None) -> bool:
        """Starts to save; the state may be donated or changed as soon as this returns.

        Waits for the previous save if it is still being written. Checkpoints of later steps belong to a future that the
        run has left (it was restored to an earlier step); they are deleted once this save is finished.

        Args:
            step: Updates done.
            state: Any pytree of arrays, typed PRNG keys included.
            host: Plain data to save with it; copied now.
            metric: The dev metric of this step, which selects the best; None or NaN if there is none.

        Returns:
            Whether a save was started; False if this step already has a finished checkpoint.

        Raises:
            UserError: This save or the previous one could not be written (the disk is full); says what is kept.
        """
        import orbax.checkpoint as ocp

        self.wait()
        if step in self._finished():
            return False
        flat = flatten_state(state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(flat),
            host=ocp.args.JsonSave(json.loads(json.dumps(dict(host)))),
            spec=ocp.args.JsonSave({path: leaf_spec(leaf) for path, leaf in flat.items()}),
        )
        value = None if metric is None or not math.isfinite(metric) else float(metric)
        self._saving = step
        try:
            self._remove(step)
            self._manager.save(step, args=items, force=True)
        except Exception as error:
            raise self._failure(error) from error
        # To read the files back for the digest takes as long as to write them, so a thread does it.
        self._finisher = threading.Thread(target=self._finish, args=(step, value), name=f"digest of step {step}")
        self._finisher.start()
        return True

    def wait(self) -> None:
        """Waits until the save in flight has its digest and superseded checkpoints are deleted.

        Raises:
            UserError: The save could not be written, or an old checkpoint cannot be deleted.
        """
        if self._finisher is None:
            return
        self._finisher.join()
        self._finisher = None
        failure, self._error = self._error, None
        if failure is not None:
            raise self._failure(failure) from failure
        assert self._saving is not None
        _barrier("finished")
        superseded = self._superseded(self._saving)
        # Each process lists the folder before the first of them changes it.
        _barrier("listed")
        self._saving = None
        for step in superseded:
            try:
                self._remove(step)
            except OSError as error:
                message = f"{self._place}: the checkpoint of step {step}, no longer needed, cannot be deleted"
                raise storage_error(message, error) or error from error

    def latest_step(self) -> int | None:
        """Returns the newest finished step, without reading it; None if there is none."""
        self.wait()
        finished = self._finished()
        if not finished and len(self._steps()) > 1:
            # A kill leaves at most one step without its digest. If there are more, digests were lost.
            raise UserError(f"{self._place}: its checkpoints have no digests, so none can be trusted", fix=RESTART)
        return max(finished, default=None)

    def best_step(self) -> int | None:
        """Returns the finished step with the best metric; None if no step has one."""
        self.wait()
        return self._best(self._finished())

    def by_score(self) -> list[int]:
        """Returns the finished steps that have a metric, the best first."""
        self.wait()
        scored = {step: digest.metric for step, digest in self._finished().items() if digest.metric is not None}
        return sorted(scored, key=lambda step: (-self._sign * scored[step], step))

    def restore(self, template: Any, *, step: int | None = None) -> Restored:
        """Restores the newest sound checkpoint, or that of `step`, with the template's shardings.

        Args:
            template: A state of the shapes, dtypes and shardings to restore; its values are not read.
            step: The step to restore; by default the newest, and damaged or unfinished ones are skipped with a note.

        Raises:
            UserError: No checkpoint is sound, or that of `step` is not; names the step and the file. Or the checkpoint
                belongs to another model; names the path, shapes and dtypes.
        """
        import orbax.checkpoint as ocp

        self.wait()
        chosen, notes = self._choose(step)
        place = f"{self._place}/{chosen}"
        try:
            small = ocp.args.Composite(host=ocp.args.JsonRestore(), spec=ocp.args.JsonRestore())
            restored = self._manager.restore(chosen, args=small)
            wanted = flatten_state(template)
            check_fits(place, saved=restored.spec, wanted={path: leaf_spec(leaf) for path, leaf in wanted.items()})
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
            flat = self._manager.restore(
                chosen, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            ).state
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{place}: its digest is right, but Orbax cannot read it", got=error, fix=RESTART
            ) from error
        leaves = [flat[path] for path in wanted]
        return Restored(jax.tree.unflatten(jax.tree.structure(template), leaves), restored.host, chosen, notes)

    def close(self) -> None:
        """Waits for the save in flight and ends Orbax's threads.

        Raises:
            UserError: The save could not be written.
        """
        try:
            self.wait()
        finally:
            try:
                if "_manager" in vars(self):
                    self._manager.close()
            except Exception as error:
                # Orbax raises again for a save that failed, perhaps for another of its files.
                if not self._failed:
                    raise storage_error(f"{self._place}: checkpoints cannot be written", error) or error from error
            if is_main() and isinstance(self._folder, Path):
                # Orbax creates the folder of a failed save on a thread, perhaps after the error.
                for partial in self._folder.glob("*.orbax-checkpoint-tmp*"):
                    shutil.rmtree(partial, ignore_errors=True)

    def __enter__(self) -> "Checkpointer":
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except UserError:
            # The first error is the one that the user must see.
            if error is None:
                raise
        finally:
            sys.unraisablehook = self._hook

    def _unraisable(self, report: "sys.UnraisableHookArgs") -> None:
        """Hides the errors that a failed save's other writes raise on threads after Orbax has closed its event loop."""
        if str(report.exc_value) != "Event loop is closed":
            self._hook(report)

    def _finish(self, step: int, metric: float | None) -> None:
        """Waits for Orbax's commit, then writes the digest; runs on its own thread."""
        try:
            self._manager.wait_until_finished()
            if is_main():
                self._before()
                files = hash_files(self._folder / str(step))
                write_text(self._digest_file(step), digest_text(Digest(step, metric, self._identity, files)))
        except BaseException as error:
            self._error = error

    def _failure(self, error: BaseException) -> BaseException:
        """Returns the error to raise for a save that failed."""
        step, self._saving = self._saving, None
        self._failed = True
        try:
            self._manager.wait_until_finished()
        except Exception:
            # Orbax raises the error of a save once on each thread that waits for it.
            logging.getLogger(__name__).debug("the failed save raised again", exc_info=True)
        steps = sorted(self._finished())
        others = (
            f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))} kept" if steps else "there is no other"
        )
        return (
            storage_error(f"{self._place}: the checkpoint of step {step} cannot be written ({others})", error) or error
        )

    def _steps(self) -> list[int]:
        """Returns all steps that have a folder, finished or not."""
        if not self._folder.is_dir():
            # A bucket has no empty folders.
            return []
        return sorted(int(child.name) for child in self._folder.iterdir() if child.name.isdecimal())

    def _digest_file(self, step: int) -> AnyPath:
        return self._folder / "digests" / f"{step}.json"

    def _finished(self) -> dict[int, Digest]:
        """Returns the digest of each step that has a sound one and is not known to be damaged."""
        digests = {step: read_digest(self._digest_file(step)) for step in self._steps()}
        return {
            step: digest for step, digest in digests.items() if isinstance(digest, Digest) and step not in self._damaged
        }

    def _best(self, finished: Mapping[int, Digest]) -> int | None:
        """Returns the step with the best metric, the earliest of equals."""
        scored = [(self._sign * digest.metric, -step) for step, digest in finished.items() if digest.metric is not None]
        return -max(scored)[1] if scored else None

    def _superseded(self, saved: int) -> list[int]:
        """Returns the steps to delete: all but the last k and the best of those up to the one just saved."""
        finished = {step: digest for step, digest in self._finished().items() if step <= saved}
        if saved not in finished:
            return []
        keep = {*sorted(finished)[-self._keep :], self._best(finished)}
        return [step for step in self._steps() if step not in keep]

    def _remove(self, step: int) -> None:
        """Deletes a step, its digest first: a kill half-way leaves an unfinished step and not a damaged one."""
        if is_main():
            self._digest_file(step).unlink(missing_ok=True)
        self._damaged.discard(step)
        if step in self._manager.all_steps():
            self._manager.delete(step)
        elif is_main() and (self._folder / str(step)).is_dir():
            remove_tree(self._folder / str(step))
        elif is_main():
            # Damage can leave a file in place of the step's folder.
            (self._folder / str(step)).unlink(missing_ok=True)

    def _choose(self, step: int | None) -> tuple[int, tuple[str, ...]]:
        """Returns the step to restore, after every file of it was read and compared, and notes on skipped ones."""
        chosen, reasons = None, []
        candidates = [step] if step is not None else self._steps()[::-1]
        if is_main():
            for candidate in candidates:
                reason = self._fault(candidate)
                if reason is None:
                    chosen = candidate
                    break
                reasons.append(reason)
        if process_count() > 1:
            # One process reads the files; all restore the same step.
            agreed = multihost_utils.broadcast_one_to_all(np.int64(-1 if chosen is None else chosen))
            chosen = None if agreed < 0 else int(agreed)
        self._damaged.update(candidates if chosen is None else candidates[: candidates.index(chosen)])
        if chosen is None:
            reason = "; ".join(reasons) or f"{self._place} holds no checkpoint"
            raise UserError(f"no checkpoint can be restored: {reason}", fix=RESTART if step is None else None)
        return chosen, tuple(f"{reason}; went back to step {chosen}" for reason in reasons)

    def _fault(self, step: int) -> str | None:
        """Returns why the checkpoint of `step` cannot be trusted; None if it can."""
        place, root = f"{self._place}/{step}", self._folder / str(step)
        if not root.is_dir():
            return f"{place}: there is no such checkpoint"
        digest = read_digest(self._digest_file(step))
        if digest is None:
            return f"{place}: its save was not finished"
        if isinstance(digest, str):
            return f"{self._place}/digests/{step}.json: {digest}"
        if digest.step != step:
            return f"{self._place}/digests/{step}.json: is that of step {digest.step}"
        if digest.identity != self._identity:
            return f"{place}: is a checkpoint of another run"
        with ThreadPoolExecutor() as pool:
            faults = pool.map(lambda item: file_fault(root, *item), sorted(digest.files.items()))
            return next((f"{place}/{fault}" for fault in faults if fault is not None), None)


def _barrier(name: str) -> None:
    """Waits until all processes of the run are here."""
    if process_count() > 1:
        multihost_utils.sync_global_devices(f"pairjax: checkpoint {name}")
