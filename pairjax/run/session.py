"""A run from its programs to its folder: what fine-tuning and pretraining share above the loop."""

import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from pairjax.base.config import RunConfig, TrainConfig
from pairjax.base.params import flatten
from pairjax.base.types import Params
from pairjax.run.checkpoint import Checkpointer
from pairjax.run.distributed import StopSignal, all_or_none, check_agreement, is_main, process_count, process_index
from pairjax.run.folder import RunFolder, open_run
from pairjax.run.loop import Fit, Job, Progress, fit, progress_from
from pairjax.run.tracking import Tracker
from pairjax.run.watchdog import Watchdog
from pairjax.step.programs import Programs
from pairjax.storage.bucket import AnyPath
from pairjax.storage.provenance import provenance


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        dir: The run's folder, perhaps in a bucket; the model lies in `dir/model`.
        result: What result.json holds; None where a signal stopped the run.
        exit_code: 0, or 143 after a signal.
    """

    dir: AnyPath
    result: dict[str, Any] | None
    exit_code: int


def _teller(tracker: Tracker) -> Callable[[str], None]:
    """Where the watchdog's lines go: of several processes each tells of its own standstill."""
    if is_main():
        return tracker.say
    index = process_index()
    return lambda line: print(f"process {index}: {line}", file=sys.stderr, flush=True)


def run_loop(
    programs: Programs, job: Job, run: RunFolder, tracker: Tracker, *, config: RunConfig, train: TrainConfig
) -> tuple[Fit, Params]:
    """Train, and give the parameters that become the model: the best on dev, or the last."""
    with (
        StopSignal() as stop,
        Watchdog(_teller(tracker)) as watch,
        Checkpointer(
            run.checkpoints,
            keep=config.keep_checkpoints,
            metric_mode=job.mode,
            identity=run.identity,
            before=run.publish,
        ) as checkpoints,
    ):
        state, progress = programs.state, Progress()
        if not run.resumed or checkpoints.latest_step() is None:
            tracker.cut_back(0)
        else:
            restored = checkpoints.restore(state)
            state, progress = restored.state, progress_from(restored.host)
            for note in restored.notes:
                tracker.say(note)
            tracker.say(f"resumed at step {restored.step} of {job.total_steps}")
            tracker.cut_back(restored.step)
        done = fit(job, state, progress, checkpoints=checkpoints, tracker=tracker, stop=stop, watch=watch)
        with watch.phase("save", step=int(done.state.step)):
            checkpoints.wait()
        tracker.say(watch.summary())
        if done.ended == "signal":
            return done, {}
        best = done.progress.best_step
        if train.keep == "best" and best and best != int(done.state.step):
            return done, programs.params(checkpoints.restore(done.state, step=best).state)
        return done, programs.params(done.state)


Finish = Callable[[Fit, Params, RunFolder, Mapping[str, Any]], dict[str, Any]]
"""`finish(done, params, run, origin) -> what result.json holds`, after the last step."""


def run_session(
    programs: Programs,
    job: Job,
    *,
    config: RunConfig,
    train: TrainConfig,
    plain: Mapping[str, Any],
    name: str,
    unit: str,
    notes: tuple[str, ...],
    console: Console,
    finish: Finish,
) -> TrainResult:
    """Open the run's folder, train in it, and finish.

    Args:
        programs: The update and its state.
        job: What is trained.
        config: Of the run's folder.
        train: Which parameters become the model.
        plain: The whole config as plain data.
        name: The run's name where the config gives no folder.
        unit: What the throughput counts.
        notes: Lines on the input, shown first.
        console: Where all is shown.
        finish: Scores and writes what the run leaves.
    """
    device = programs.mesh.devices.flat[0]
    origin = provenance(device_kind=device.device_kind, device_count=programs.mesh.devices.size)
    with all_or_none():
        opened = open_run(config, plain, default_name=name, origin=origin)
    with opened as run:
        with Tracker(
            run,
            config,
            total_steps=job.total_steps,
            steps_per_epoch=job.steps_per_epoch,
            metric=f"dev/{job.metric}",
            unit=unit,
            settings=plain,
            console=console,
        ) as tracker:
            for note in (*run.notes, *notes):
                tracker.say(note)
            done, params = run_loop(programs, job, run, tracker, config=config, train=train)
        if done.ended == "signal":
            console.print(f"stopped at step {int(done.state.step)}; go on with --run.resume (run folder {run.place})")
            return TrainResult(run.place, None, 143)
        return TrainResult(run.place, finish(done, params, run, origin), 0)


LOCAL = frozenset({"run.progress", "run.compilation_cache", "data.cache"})
"""Options that each process of a run may have its own way."""


def check_alike(plain: Mapping[str, Any], *, data: Mapping[str, Any], params: Params) -> None:
    """Whether all processes of a run train the same, by options, data and a checksum of each parameter.

    Args:
        plain: The config as plain data.
        data: What the data are, by name.
        params: The initial parameters.

    Raises:
        UserError: They do not, on every process; says in what.
    """
    if process_count() == 1:
        return
    options = {
        f"{section}.{name}" if isinstance(fields, Mapping) else section: value
        for section, fields in plain.items()
        for name, value in (fields.items() if isinstance(fields, Mapping) else ((section, fields),))
    }
    agree = {name: value for name, value in options.items() if name not in LOCAL}
    agree |= {f"data set {name}": value for name, value in data.items()}
    agree |= {
        f"parameter {path}": zlib.crc32(np.ascontiguousarray(leaf).data) for path, leaf in flatten(params).items()
    }
    check_agreement(agree, what="what they train")
