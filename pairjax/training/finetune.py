"""Fine-tuning from a config to a run's folder: `pairjax.train`, and the command of that name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pairjax.base.config import Config
from pairjax.base.types import Params
from pairjax.training.checkpoint import Checkpointer
from pairjax.training.distributed import StopSignal, all_or_none, check_agreement, is_main
from pairjax.training.finish import finish
from pairjax.training.loop import Fit, Progress, fit, progress_from
from pairjax.training.provenance import provenance
from pairjax.training.rundir import RunFolder, check_run, open_run
from pairjax.training.setup import plain_config, prepare, use_compilation_cache, what_must_agree
from pairjax.training.tracking import Tracker, check_tracking
from pairjax.training.trainer import Trainer, build_trainer


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        dir: The run's folder; the model lies in `dir/model`.
        result: What result.json holds; None where a signal stopped the run.
        exit_code: 0, or 143 after a signal.
    """

    dir: Path
    result: dict[str, Any] | None
    exit_code: int


def run_loop(trainer: Trainer, run: RunFolder, tracker: Tracker, *, config: Config) -> tuple[Fit, Params]:
    """Train, and give the parameters that become the model: the best on dev, or the last."""
    job = trainer.job
    with (
        StopSignal() as stop,
        Checkpointer(
            run.checkpoints, keep=config.run.keep_checkpoints, metric_mode=job.mode, identity=run.identity
        ) as checkpoints,
    ):
        state, progress = trainer.state, Progress()
        if not run.resumed or checkpoints.latest_step() is None:
            tracker.cut_back(0)
        else:
            restored = checkpoints.restore(state)
            state, progress = restored.state, progress_from(restored.host)
            for note in restored.notes:
                tracker.say(note)
            tracker.say(f"resumed at step {restored.step} of {job.total_steps}")
            tracker.cut_back(restored.step)
        done = fit(job, state, progress, checkpoints=checkpoints, tracker=tracker, stop=stop)
        if done.ended == "signal":
            return done, {}
        best = done.progress.best_step
        if config.train.keep == "best" and best and best != int(done.state.step):
            return done, trainer.params(checkpoints.restore(done.state, step=best).state)
        return done, trainer.params(done.state)


def train(config: Config, *, name: str = "pairs", console: Console | None = None) -> TrainResult:
    """Run a config: read, train, evaluate, and write the run's folder.

    Args:
        config: What to do.
        name: The run's name where `config.run.dir` gives no folder.
        console: Where tables and progress go; by default standard error, so that nothing mixes with output.

    Raises:
        UserError: Bad input, before anything is written; or a loss that is not finite.
    """
    console = console or Console(stderr=True, quiet=not is_main())
    plain = plain_config(config)
    with all_or_none():
        if is_main():
            check_run(config.run, plain, default_name=name)
        check_tracking(config.run)
    use_compilation_cache(config.run.compilation_cache)
    with all_or_none():
        prepared = prepare(config)
        trainer = build_trainer(config, prepared)
    check_agreement(what_must_agree(plain, prepared), what="what they train")
    device = trainer.mesh.devices.flat[0]
    origin = provenance(device_kind=device.device_kind, device_count=trainer.mesh.devices.size)
    with all_or_none():
        run = open_run(config.run, plain, default_name=name, origin=origin)
    with run:
        with Tracker(
            run,
            config.run,
            total_steps=trainer.job.total_steps,
            steps_per_epoch=trainer.job.steps_per_epoch,
            metric=f"dev/{trainer.job.metric}",
            settings=plain,
            console=console,
        ) as tracker:
            for note in (*run.notes, *prepared.notes, *trainer.notes):
                tracker.say(note)
            done, params = run_loop(trainer, run, tracker, config=config)
        if done.ended == "signal":
            console.print(f"stopped at step {int(done.state.step)}; go on with --run.resume (run folder {run.path})")
            return TrainResult(run.path, None, 143)
        result = finish(config, trainer, done, params, run=run, origin=origin, console=console)
        return TrainResult(run.path, result, 0)
