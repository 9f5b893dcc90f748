"""The one training loop; fine-tuning and pretraining are two jobs for it. Read it from top to bottom.

The loop knows steps, evaluations, checkpoints and signals; it knows neither pairs nor models. At the end of an interval
it evaluates and saves the state before it draws the next batch, so a checkpoint holds everything that a resumed run
needs.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from pairjax.base.errors import DivergedError, UserError
from pairjax.base.types import Batch, Params
from pairjax.run.checkpoint import Checkpointer
from pairjax.run.distributed import StopSignal
from pairjax.run.folder import RunFolder
from pairjax.run.tracking import Tracker
from pairjax.run.watchdog import Watchdog
from pairjax.step.programs import Step
from pairjax.step.state import TrainState


@dataclass
class Progress:
    """The part of a run's state that lives on the host; saved with each checkpoint.

    Attributes:
        best: Best score so far; None before the first evaluation.
        best_step: Step of the best score.
        stale: Evaluations since the best score.
        examples: Examples seen (pairs, or tokens in pretraining).
        seconds: Seconds spent in steps, without evaluation and saving, over all resumed parts.
        compile_seconds: Seconds of these spent in the first call of each batch shape.
        warm_examples: Examples of all other calls.
    """

    best: float | None = None
    best_step: int = 0
    stale: int = 0
    examples: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    warm_examples: int = 0

    @property
    def examples_per_second(self) -> float:
        """Examples per second over the steps that did not compile."""
        return self.warm_examples / max(self.seconds - self.compile_seconds, 1e-9)


@dataclass(frozen=True)
class Fit:
    """The end of the loop.

    Attributes:
        state: The last state.
        progress: Its part on the host.
        ended: Whether all steps were done, patience ran out, or a signal stopped the run.
    """

    state: TrainState
    progress: Progress
    ended: Literal["done", "early", "signal"]

    def warnings(self, metric: str, *, keep: str) -> list[str]:
        """Returns a line if the metric that selects the best model was never defined.

        Args:
            metric: The metric.
            keep: `train.keep`.
        """
        if self.progress.best is not None or keep != "best":
            return []
        return [f"dev {metric} was undefined at every evaluation, so the model is the last one and not the best"]


@runtime_checkable
class Finish(Protocol):
    """Ends a run: scores its model, writes the run's files and shows them."""

    def __call__(
        self, fit: Fit, params: Params, *, run: RunFolder, origin: Mapping[str, Any], console: Console
    ) -> dict[str, Any]:
        """Returns the content of result.json. All processes call it; only the first writes and prints.

        Args:
            fit: The end of the loop.
            params: The parameters that become the model, sharded.
            run: The run's folder.
            origin: The run's provenance.
            console: The terminal for tables.
        """
        ...


@dataclass(frozen=True)
class Job:
    """Everything that a run needs and the loop does not make.

    Attributes:
        state: The initial state.
        step: The compiled update.
        params: Returns the model's whole parameter tree of a state.
        mesh: The device mesh.
        batches: `batches(start)` yields global steps and their batches from step `start` to `total_steps`.
        evaluate: Returns the scores of a state on dev, by name.
        finish: Scores, writes and shows the finished run.
        total_steps: Number of updates.
        steps_per_epoch: Updates of an epoch; used by the log only.
        eval_every: Updates between evaluations; the last update is always evaluated.
        save_every: Updates between checkpoints, besides those at evaluations; 0 for none.
        metric: Name of the score that selects the best model and stops early.
        mode: Whether a larger or a smaller score is better.
        patience: Evaluations without a better score before the run stops; 0 never stops.
        content: Returns the SHA-256 of each part of the input, by name: a run is resumed on the same content only.
        sources: The data's sources and digests, by name; all processes must agree on them.
        initial: The initial parameters, unsharded; all processes must agree on them.
        notes: Lines about the input that the user should read.
        terms: Names of the loss's terms, if it has several that are logged besides their sum.
        counts: The unit of throughput; the step's metrics have a count of this name.
    """

    state: TrainState
    step: Step
    params: Callable[[TrainState], Params]
    mesh: Mesh
    batches: Callable[[int], Iterator[tuple[int, Batch]]]
    evaluate: Callable[[TrainState], dict[str, float]]
    finish: Finish
    total_steps: int
    steps_per_epoch: int
    eval_every: int
    save_every: int
    metric: str
    mode: Literal["max", "min"]
    patience: int
    sources: Mapping[str, Any]
    initial: Params
    content: Callable[[], dict[str, str]] = dict
    notes: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    counts: Literal["pairs", "tokens"] = "pairs"


@contextmanager
def optional(part: str, result: dict[str, Any]) -> Iterator[None]:
    """Turns an error of a part that the run does not need into a warning of its result.

    Args:
        part: The part, for the message.
        result: The content of result.json; a warning is added.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        result["warnings"].append(f"{part} failed and left out ({type(error).__name__}: {reason})")


def choose_metric(name: str | None, known: Sequence[str], *, default: str, of: str) -> str:
    """Returns the dev metric that selects the best model.

    Args:
        name: The value of `--train.metric`, if given.
        known: The metrics of this kind of run.
        default: The metric if none is given.
        of: What the metrics describe, for the message.

    Raises:
        UserError: The name is not a known metric.
    """
    metric = name or default
    if metric not in known:
        raise UserError(f"--train.metric {metric} is no metric of {of}", expected=f"one of {', '.join(known)}")
    return metric


def mean_losses(step: int, metrics: Mapping[str, jax.Array], batch: Batch, saved: int | None) -> list[float]:
    """Returns the mean loss of each term on the host.

    Args:
        step: The step, from 0, for the message.
        metrics: The step's metrics.
        batch: The step's batch, for the message.
        saved: The last step that was saved, if any.

    Raises:
        UserError: The loss or its gradient is NaN or infinite.
    """
    sums, weights = (np.atleast_1d(np.asarray(metrics[name], np.float64)) for name in ("loss_sum", "weight_sum"))
    terms = (sums / np.maximum(weights, 1e-9)).tolist()
    loss = sum(terms)
    if math.isfinite(loss) and math.isfinite(float(metrics["grad_norm"])):
        return terms
    index = sorted(int(i) for i in np.asarray(batch.example_id).ravel() if i >= 0)
    raise DivergedError(
        f"the loss or its gradient is not finite at step {step}",
        got=f"loss {loss}, gradient norm {float(metrics['grad_norm'])}, on train rows {index}",
        fix="lower --optim.learning-rate, raise --optim.warmup or use --model.dtype float32"
        + (f"; the checkpoint of step {saved} is good" if saved else ""),
    )


class Pending(NamedTuple):
    """An update whose metrics are still on the device.

    Attributes:
        step: The update's index, from 0.
        metrics: Its metrics.
        batch: Its batch.
        compiled: Whether it compiled a program for a new batch shape.
    """

    step: int
    metrics: Mapping[str, jax.Array]
    batch: Batch
    compiled: bool


class LateMetrics:
    """Brings each step's metrics to the host one step late, so the device never waits for the host.

    Args:
        job: The job; its terms and its unit are logged.
        progress: Counts the examples.
        tracker: Logs the metrics.
        watch: Watches the wait for the device.
    """

    def __init__(self, job: Job, progress: Progress, tracker: Tracker, watch: Watchdog) -> None:
        self._job, self._progress, self._tracker, self._watch = job, progress, tracker, watch
        self._pending: Pending | None = None

    def put(self, pending: Pending) -> None:
        """Holds the metrics of the newest update; those before must have been flushed."""
        self._pending = pending

    def flush(self, *, saved: int | None) -> None:
        """Checks and logs the pending update, if there is one.

        Args:
            saved: The last step that was saved, if any, for the message.

        Raises:
            UserError: The loss or its gradient is not finite.
        """
        if self._pending is None:
            return
        (step, metrics, batch, compiled), self._pending = self._pending, None
        job, progress = self._job, self._progress
        with self._watch.phase("step", step=step + 1):
            terms = mean_losses(step, metrics, batch, saved)
        # The count of all processes together; the batch of this process is its share of the rows.
        count = int(metrics[job.counts])
        progress.examples += count
        progress.warm_examples += 0 if compiled else count
        self._tracker.step(step + 1, loss=sum(terms), count=count)
        values = {"loss": sum(terms), "grad_norm": float(metrics["grad_norm"])}
        if job.terms:
            values |= {f"{name}_loss": value for name, value in zip(job.terms, terms, strict=True)}
        self._tracker.log(step + 1, {"epoch": (step + 1) / job.steps_per_epoch, **values})


def evaluate(job: Job, state: TrainState, progress: Progress, step: int, *, tracker: Tracker, watch: Watchdog) -> float:
    """Scores a state on dev, notes whether it is the best so far, and logs the scores.

    Args:
        job: The job.
        state: The state to score.
        progress: Updated with the best score.
        step: Updates done.
        tracker: Logs the scores.
        watch: Watches the evaluation.

    Returns:
        The score that selects the best model.
    """
    with watch.phase("evaluation", step=step):
        scores = job.evaluate(state)
    score = scores[job.metric]
    sign = 1.0 if job.mode == "max" else -1.0
    if not math.isfinite(score):
        # An undefined score says nothing about the model, so it decides nothing.
        tracker.say(
            f"step {step}: dev {job.metric} is undefined ({score}): it counts neither for the best model nor for "
            "early stopping"
        )
    elif progress.best is None or sign * score > sign * progress.best:
        progress.best, progress.best_step, progress.stale = score, step, 0
    else:
        progress.stale += 1
    tracker.log(step, {"epoch": step / job.steps_per_epoch, **{f"dev/{k}": v for k, v in scores.items()}})
    return score


def fit(
    job: Job,
    state: TrainState,
    progress: Progress,
    *,
    checkpoints: Checkpointer,
    tracker: Tracker,
    stop: StopSignal,
    watch: Watchdog,
) -> Fit:
    """Trains from `state.step` on, until the last step, an early stop or a signal.

    Args:
        job: What to train.
        state: The state to start from; donated.
        progress: The part of it on the host.
        checkpoints: Saves states.
        tracker: Logs losses and scores.
        stop: Asks to end early.
        watch: Reports phases that take too long.

    Raises:
        UserError: The loss is not finite; such a state is never saved.
    """
    done = int(state.step)
    saved: int | None = done or None
    if job.patience and progress.stale >= job.patience:
        return Fit(state, progress, "early")
    shapes: set[tuple[int, ...]] = set()
    late = LateMetrics(job, progress, tracker, watch)

    # The order of these operations makes a resumed run equal to one that never stopped. Do not change it; it is one
    # function to be read in order.
    clock = time.monotonic()
    for index, batch in watch.over(job.batches(done)):
        # 1. Before a compilation, read the metrics of the step before: the device has nothing else to do.
        compiles = batch.input_ids.shape not in shapes
        shapes.add(batch.input_ids.shape)
        if compiles:
            late.flush(saved=saved)

        # 2. Start the update. It returns at once, unless it compiles.
        began = time.monotonic()
        with watch.phase("compile" if compiles else "step", step=index + 1):
            state, metrics = job.step(state, batch)
            if compiles:
                jax.block_until_ready(metrics)
                progress.compile_seconds += time.monotonic() - began

        # 3. While the device works on it, read the metrics of the step before.
        late.flush(saved=saved)
        late.put(Pending(index, metrics, batch, compiles))
        done = index + 1

        # 4. Within an interval, go on with the next batch.
        stopping = stop.requested(done)
        evaluating = done % job.eval_every == 0 or done == job.total_steps
        if not (evaluating or stopping or (job.save_every and done % job.save_every == 0)):
            continue

        # 5. Check this step's own loss before the state is evaluated or saved: a state that diverged is never kept.
        late.flush(saved=saved)
        progress.seconds += time.monotonic() - clock

        # 6. Evaluate before saving: the checkpoint holds the best score and the patience that is left.
        score = evaluate(job, state, progress, done, tracker=tracker, watch=watch) if evaluating else None

        # 7. Save before the next batch is drawn.
        with watch.phase("save", step=done):
            checkpoints.save(done, state, host=asdict(progress), metric=score)
        saved = done

        # 8. Only now stop: whatever ends the run, its last state is on disk.
        if job.patience and progress.stale >= job.patience:
            return Fit(state, progress, "early")
        if stopping and done < job.total_steps:
            return Fit(state, progress, "signal")
        clock = time.monotonic()
    return Fit(state, progress, "done")


def progress_from(host: Mapping[str, Any]) -> Progress:
    """Returns the progress that a checkpoint holds."""
    return Progress(**{key: host[key] for key in asdict(Progress())})
