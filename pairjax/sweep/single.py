"""Trials that train the encoder: one run after another through the ordinary entry, each in a folder of its own."""

import dataclasses
import math
import shutil
from pathlib import Path

from rich.console import Console

from pairjax.base.config import Config, EvalConfig
from pairjax.base.errors import DivergedError
from pairjax.finetune.train import train
from pairjax.sweep.trials import Scored, SweepData, TrialRun


class StoppedError(Exception):
    """A signal stopped a run; its last checkpoint is there."""


def run_config(config: Config, run: TrialRun, folder: Path) -> Config:
    """A trial's config for one run: its length, seed and folder, the last parameters, no evaluation but the last.

    The fold that scores a run chooses nothing in it, so there is no best step and no early stopping.
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


def train_run(config: Config, data: SweepData, run: TrialRun, *, folder: Path, metric: str) -> Scored:
    """Train and score one run; goes on where it was stopped. Its checkpoints and model are deleted at its end.

    Args:
        config: The trial's.
        data: Pairs and folds.
        run: Which folds, how long, which seed.
        folder: The run's own.
        metric: That scores it.

    Raises:
        StoppedError: A signal came.
        UserError: Bad input; a run that diverges raises nothing, and has no score.
    """
    own = run_config(config, run, folder)
    try:
        ended = train(own, name=folder.name, console=Console(quiet=True), data=data.without(run.held))
    except DivergedError:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return Scored((math.nan,) * len(run.held), True, "training")
    if ended.result is None:
        raise StoppedError
    scores = [ended.result["metrics"][split][metric]["value"] for split in ("dev", "test")[: len(run.held)]]
    for name in ("checkpoints", "model"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return Scored(tuple(math.nan if score is None else float(score) for score in scores), False, "training")
