"""The one training loop: fine-tuning and pretraining are two jobs for it. Read it top to bottom.

It knows steps, evaluations, checkpoints and signals; it knows neither pairs nor models. After a step that ends an
interval the state is evaluated and saved, and only then is the next batch drawn, so that what a checkpoint holds is
all that a continued run needs.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax
import numpy as np

from pairjax.base.errors import DivergedError
from pairjax.base.types import Batch
from pairjax.run.checkpoint import Checkpointer
from pairjax.run.distributed import StopSignal
from pairjax.run.tracking import Tracker
from pairjax.run.watchdog import Watchdog
from pairjax.step.programs import Step
from pairjax.step.state import TrainState


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes:
        batches: Global steps and their batches from a given step on; ends after `total_steps`.
        step: The compiled update.
        evaluate: Scores of a state on dev, by name.
        total_steps: Updates in all.
        steps_per_epoch: For the log alone.
        eval_every: Updates between evaluations; the last update is always evaluated.
        save_every: Updates between checkpoints besides those at evaluations; 0 for none.
        metric: Which score is the best model's and early stopping's.
        mode: Whether more of it is better.
        patience: Evaluations without a better score before stopping; 0 never stops.
        terms: Names of the loss's terms, where it has several to log beside their sum.
        counts: What of a batch the throughput counts; the step gives both.
    """

    batches: Callable[[int], Iterator[tuple[int, Batch]]]
    step: Step
    evaluate: Callable[[TrainState], dict[str, float]]
    total_steps: int
    steps_per_epoch: int
    eval_every: int
    save_every: int
    metric: str
    mode: Literal["max", "min"]
    patience: int
    terms: tuple[str, ...] = ()
    counts: Literal["pairs", "tokens"] = "pairs"


@dataclass
class Progress:
    """The part of a run's state that lives on the host; saved with each checkpoint.

    Attributes:
        best: Best score so far; None before the first evaluation.
        best_step: Where it was reached.
        stale: Evaluations since.
        examples: Examples seen (pairs; tokens in pretraining).
        seconds: Spent in steps, without evaluation and saving, over all resumed parts.
        compile_seconds: The share of `seconds` in first calls of a new shape.
        warm_examples: Examples of the other steps.
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
        """Over the steps whose program was compiled already."""
        return self.warm_examples / max(self.seconds - self.compile_seconds, 1e-9)


@dataclass(frozen=True)
class Fit:
    """How the loop ended: all steps done, stopped early, or stopped by a signal."""

    state: TrainState
    progress: Progress
    ended: Literal["done", "early", "signal"]


def _finite_loss(step: int, metrics: Mapping[str, jax.Array], batch: Batch, saved: int | None) -> list[float]:
    """The step's mean loss, on the host, term by term.

    Raises:
        UserError: It is NaN or infinite.
    """
    sums, weights = (np.atleast_1d(np.asarray(metrics[name], np.float64)) for name in ("loss_sum", "weight_sum"))
    each = (sums / np.maximum(weights, 1e-9)).tolist()
    loss = sum(each)
    if math.isfinite(loss) and math.isfinite(float(metrics["grad_norm"])):
        return each
    ids = sorted(int(i) for i in np.asarray(batch.example_id).ravel() if i >= 0)
    raise DivergedError(
        f"the loss or its gradient is not finite at step {step}",
        got=f"loss {loss}, gradient norm {float(metrics['grad_norm'])}, on train rows {ids}",
        fix="lower --optim.learning-rate, raise --optim.warmup or use --model.dtype float32"
        + (f"; the checkpoint of step {saved} is good" if saved else ""),
    )


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
    """Train from `state.step` on, to the end, an early stop or a signal.

    Args:
        job: What to do.
        state: From where; donated.
        progress: The host's part of it.
        checkpoints: Where to save.
        tracker: What tells of it.
        stop: Whether to end early.
        watch: Is told what the loop waits for.

    Raises:
        UserError: The loss is not finite; nothing is saved of such a state.
    """
    done = int(state.step)
    saved: int | None = done or None
    if job.patience and progress.stale >= job.patience:
        return Fit(state, progress, "early")
    sign = 1.0 if job.mode == "max" else -1.0
    shapes: set[tuple[int, ...]] = set()

    def save(metric: float | None) -> None:
        nonlocal saved
        with watch.phase("save", step=done):
            checkpoints.save(done, state, host=asdict(progress), metric=metric)
        saved = done

    pending: tuple[int, Mapping[str, jax.Array], Batch, bool] | None = None

    def settle() -> None:
        """Bring the last step's loss to the host; one step late, so that the device does not wait for it."""
        nonlocal pending
        if pending is None:
            return
        at, metrics, batch, new_shape = pending
        pending = None
        with watch.phase("step", step=at + 1):
            each = _finite_loss(at, metrics, batch, saved)
        # Of all processes together; this one's batch is its share of the rows.
        count = int(metrics[job.counts])
        progress.examples += count
        progress.warm_examples += 0 if new_shape else count
        tracker.step(at + 1, loss=sum(each), count=count)
        values = {"loss": sum(each), "grad_norm": float(metrics["grad_norm"])}
        if job.terms:
            values |= {f"{name}_loss": value for name, value in zip(job.terms, each, strict=True)}
        tracker.log(at + 1, {"epoch": (at + 1) / job.steps_per_epoch, **values})

    clock = time.monotonic()
    for index, batch in watch.over(job.batches(done)):
        new_shape = batch.input_ids.shape not in shapes
        shapes.add(batch.input_ids.shape)
        if new_shape:
            settle()
        began = time.monotonic()
        with watch.phase("compile" if new_shape else "step", step=index + 1):
            state, metrics = job.step(state, batch)
            if new_shape:
                jax.block_until_ready(metrics)
                progress.compile_seconds += time.monotonic() - began
        settle()
        pending = (index, metrics, batch, new_shape)
        done = index + 1

        stopping = stop.requested(done)
        evaluating = done % job.eval_every == 0 or done == job.total_steps
        if not (evaluating or stopping or (job.save_every and done % job.save_every == 0)):
            continue
        settle()
        progress.seconds += time.monotonic() - clock
        score: float | None = None
        if evaluating:
            with watch.phase("evaluation", step=done):
                scores = job.evaluate(state)
            score = scores[job.metric]
            if math.isfinite(score) and (progress.best is None or sign * score > sign * progress.best):
                progress.best, progress.best_step, progress.stale = score, done, 0
            else:
                progress.stale += 1
            tracker.log(done, {"epoch": done / job.steps_per_epoch, **{f"dev/{k}": v for k, v in scores.items()}})
        save(score)
        if job.patience and progress.stale >= job.patience:
            return Fit(state, progress, "early")
        if stopping and done < job.total_steps:
            return Fit(state, progress, "signal")
        clock = time.monotonic()
    return Fit(state, progress, "done")


def progress_from(host: Mapping[str, Any]) -> Progress:
    """The host's part of a checkpoint."""
    return Progress(**{key: host[key] for key in asdict(Progress())})
