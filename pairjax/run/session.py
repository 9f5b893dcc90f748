"""A run from its config to its folder: what fine-tuning and pretraining share around the loop."""

import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from rich.console import Console

from pairjax.base.config import Config, RunConfig, TrainConfig
from pairjax.base.errors import UserError
from pairjax.base.params import flatten
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.base.types import Params
from pairjax.run.checkpoint import Checkpointer
from pairjax.run.distributed import StopSignal, all_or_none, check_agreement, is_main, process_count, process_index
from pairjax.run.folder import RunFolder, check_run, open_run
from pairjax.run.loop import Fit, Job, Progress, fit, progress_from
from pairjax.run.tracking import Tracker, check_tracking
from pairjax.run.watchdog import Watchdog
from pairjax.step.compilation import check_devices, use_compilation_cache
from pairjax.step.state import TrainState
from pairjax.storage.bucket import AnyPath
from pairjax.storage.provenance import provenance


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a run.

    Attributes:
        dir: The run's folder, on disk or in a bucket; the model is in `dir/model`.
        result: The content of result.json; None if a signal stopped the run.
        exit_code: 0, or 143 after a signal.
    """

    dir: AnyPath
    result: dict[str, Any] | None
    exit_code: int


@runtime_checkable
class Task(Protocol):
    """A kind of training: fine-tuning on pairs, or pretraining on text."""

    @property
    def config(self) -> Config | PretrainConfig:
        """The whole config."""
        ...

    def plain(self) -> dict[str, Any]:
        """Returns the config as plain data, for JSON."""
        ...

    def defaults(self) -> dict[str, Any]:
        """Returns the default config of this kind as plain data."""
        ...

    def check(self) -> None:
        """Checks what can be checked before any data is read.

        Raises:
            UserError: An option is wrong.
        """
        ...

    def job(self) -> Job:
        """Reads the data and builds the model, the update and everything else that the loop needs.

        Raises:
            UserError: The input is wrong.
        """
        ...


def run_task(task: Task, *, name: str, console: Console | None = None) -> TrainResult:
    """Runs a task: checks it, reads its data, trains, and writes the run's folder.

    Args:
        task: The kind of training and its config.
        name: The run's name if `config.run.dir` gives no folder.
        console: The terminal for tables and progress; by default standard error.

    Raises:
        UserError: Bad input, before anything is written; or a loss that is not finite.
    """
    check_devices()
    console = console or Console(stderr=True, quiet=not is_main())
    config, plain = task.config, task.plain()
    # 1. Cheap checks first: a run that cannot start must not spend minutes on reading data.
    with all_or_none():
        if is_main():
            check_run(config.run, plain, default_name=name, defaults=task.defaults())
        check_tracking(config.run)
        task.check()
    use_compilation_cache(config.run.compilation_cache)
    # 2. Read and check all input; nothing is written yet.
    with all_or_none():
        job = task.job()
    check_alike(plain, data=job.sources, params=job.initial)
    # 3. Open the folder: the first file is written here.
    device = job.mesh.devices.flat[0]
    origin = provenance(device_kind=device.device_kind, device_count=job.mesh.devices.size)
    with all_or_none():
        opened = open_run(
            config.run,
            plain,
            default_name=name,
            origin=origin,
            content=job.content() if is_main() else None,
            defaults=task.defaults(),
        )
    with opened as run:
        # 4. Train.
        with Tracker(
            run,
            config.run,
            total_steps=job.total_steps,
            steps_per_epoch=job.steps_per_epoch,
            metric=f"dev/{job.metric}",
            unit=job.counts,
            settings=plain,
            console=console,
        ) as tracker:
            for note in (*run.notes, *job.notes):
                tracker.say(note)
            end, params = run_loop(job, run, tracker, config=config.run, train=config.train)
        if end.ended == "signal":
            console.print(f"stopped at step {int(end.state.step)}; continue with --run.resume (run folder {run.place})")
            return TrainResult(run.place, None, 143)
        # 5. Score, write and show.
        return TrainResult(run.place, job.finish(end, params, run=run, origin=origin, console=console), 0)


def run_loop(
    job: Job, run: RunFolder, tracker: Tracker, *, config: RunConfig, train: TrainConfig
) -> tuple[Fit, Params]:
    """Trains, from the last checkpoint if the run is resumed.

    Args:
        job: The job.
        run: The run's folder.
        tracker: Logs the run.
        config: How many checkpoints to keep.
        train: Whether the best or the last parameters become the model.

    Returns:
        The end of the loop, and the parameters that become the model (none if a signal stopped the run).
    """
    with (
        StopSignal() as stop,
        Watchdog(_make_log(tracker)) as watch,
        Checkpointer(
            run.checkpoints,
            keep=config.keep_checkpoints,
            metric_mode=job.mode,
            identity=run.identity,
            before=run.publish,
        ) as checkpoints,
    ):
        state, progress = job.state, Progress()
        if not run.resumed or checkpoints.latest_step() is None:
            tracker.cut_back(0)
        else:
            restored = checkpoints.restore(state)
            state, progress = restored.state, progress_from(restored.host)
            for note in restored.notes:
                tracker.say(note)
            tracker.say(f"resumed at step {restored.step} of {job.total_steps}")
            tracker.cut_back(restored.step)
        end = fit(job, state, progress, checkpoints=checkpoints, tracker=tracker, stop=stop, watch=watch)
        with watch.phase("save", step=int(end.state.step)):
            checkpoints.wait()
        tracker.say(watch.summary())
        if end.ended == "signal":
            return end, {}
        best = end.progress.best_step
        if train.keep == "best" and best and best != int(end.state.step):
            return end, job.params(restore_best(end, checkpoints, tracker))
        return end, job.params(end.state)


def restore_best(end: Fit, checkpoints: Checkpointer, tracker: Tracker) -> TrainState:
    """Returns the best state; if its checkpoint is damaged, the best of those that are sound.

    Args:
        end: The end of the loop; its best step becomes that of the state that is returned.
        checkpoints: The run's checkpoints.
        tracker: Logs each checkpoint that was skipped.
    """
    last, reasons = int(end.state.step), []
    state = end.state
    for step in dict.fromkeys((end.progress.best_step, *checkpoints.by_score(), last)):
        end.progress.best_step = step
        if step == last:
            state = end.state
            break
        try:
            state = checkpoints.restore(end.state, step=step).state
            break
        except UserError as error:
            reasons.append(str(error))
    for reason in reasons:
        tracker.say(f"{reason}; the model is that of step {end.progress.best_step} instead")
    return state


def _make_log(tracker: Tracker) -> Callable[[str], None]:
    """Returns the function that prints the watchdog's lines; each process reports its own phases."""
    if is_main():
        return tracker.say
    index = process_index()
    return lambda line: print(f"process {index}: {line}", file=sys.stderr, flush=True)


LOCAL = frozenset({"run.progress", "run.compilation_cache", "data.cache"})
"""Options that may differ between the processes of a run."""


def check_alike(plain: Mapping[str, Any], *, data: Mapping[str, Any], params: Params) -> None:
    """Checks that all processes of a run have the same options, data and initial parameters (by checksum).

    Args:
        plain: The config as plain data.
        data: The data's sources and digests, by name.
        params: The initial parameters.

    Raises:
        UserError: They differ; raised on every process, and names the differences.
    """
    if process_count() == 1:
        return
    options = {
        f"{section}.{name}" if isinstance(fields, Mapping) else section: value
        for section, fields in plain.items()
        for name, value in (fields.items() if isinstance(fields, Mapping) else ((section, fields),))
    }
    values = {name: value for name, value in options.items() if name not in LOCAL}
    values |= {f"data set {name}": value for name, value in data.items()}
    values |= {
        f"parameter {path}": zlib.crc32(np.ascontiguousarray(leaf).data) for path, leaf in flatten(params).items()
    }
    check_agreement(values, what="what they train")
