"""Trains one run after another through the ordinary entry point, each in a folder of its own."""

import dataclasses
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pairjax.base.config import Config, EvalConfig
from pairjax.base.errors import DivergedError
from pairjax.base.types import EncoderSpec
from pairjax.finetune.train import train
from pairjax.sweep.trials import Missing, RunScores, SweepData, SweepInputs, TrialRun, format_value


class StoppedError(Exception):
    """A signal stopped a run; its last checkpoint is in its folder."""


class SingleTrainer:
    """Trains any trial, one run after another."""

    name = "training"

    def __init__(self, inputs: SweepInputs) -> None:
        self.inputs = inputs

    @staticmethod
    def fits(config: Config, spec: EncoderSpec) -> bool:
        """Returns True: the ordinary entry point trains every config."""
        return True

    def run(self, missing: Sequence[Missing]) -> None:
        """Trains runs and saves their scores in the trials' folders.

        Args:
            missing: Trials, each with the runs that it lacks.

        Raises:
            StoppedError: A signal stopped a run.
        """
        total = sum(len(runs) for _, runs in missing)
        pairs = [(trial, run) for trial, runs in missing for run in runs]
        for number, (trial, run) in enumerate(pairs, 1):
            began, config = time.monotonic(), trial.trial.config
            scored = train_run(config, self.inputs.data, run, folder=trial.path / run.name, metric=self.inputs.metric)
            trial.save({run: scored})
            values = ", ".join(f"{name} {format_value(value)}" for name, value in trial.trial.values.items())
            score = "diverged" if scored.diverged else " ".join(f"{value:.4f}" for value in scored.scores)
            seconds = time.monotonic() - began
            self.inputs.log(f"run {number} of {total}: {values}; {run.name}: {score} ({seconds:.0f} s)")


def run_config(config: Config, run: TrialRun, folder: Path) -> Config:
    """Returns a trial's config for one run: its length, seed and folder, and one evaluation, at the end.

    The run keeps its last parameters. The fold that scores a run may not choose anything in it, so there is no best
    step and no early stopping.
    """
    return dataclasses.replace(
        config,
        train=dataclasses.replace(
            config.train, max_steps=run.steps, eval_every=run.steps, seed=run.seed, keep="last", patience=0
        ),
        evaluation=EvalConfig(batch_size=config.evaluation.batch_size, bootstrap=100, swap=False, fit=False),
        run=dataclasses.replace(
            config.run,
            dir=str(folder),
            resume=folder.exists(),
            overwrite=False,
            tensorboard=False,
            wandb=None,
            progress=False,
        ),
    )


def train_run(config: Config, data: SweepData, run: TrialRun, *, folder: Path, metric: str) -> RunScores:
    """Trains and scores one run, or resumes it. Deletes its checkpoints and its model at the end.

    A run that diverges raises nothing: it has no score.

    Args:
        config: The trial's config.
        data: Pairs and folds.
        run: Which folds, how many updates, which seed.
        folder: The run's own folder.
        metric: Name of the metric that scores the run.

    Raises:
        StoppedError: A signal stopped the run.
        UserError: Bad input.
    """
    own = run_config(config, run, folder)
    try:
        ended = train(own, name=folder.name, console=Console(quiet=True), data=data.without(run.held))
    except DivergedError:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return RunScores((math.nan,) * len(run.held), True, SingleTrainer.name)
    if ended.result is None:
        raise StoppedError
    scores = [ended.result["metrics"][split][metric]["value"] for split in ("dev", "test")[: len(run.held)]]
    for name in ("checkpoints", "model"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return RunScores(tuple(math.nan if score is None else float(score) for score in scores), False, SingleTrainer.name)
