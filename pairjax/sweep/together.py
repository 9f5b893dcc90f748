"""Train members of a sweep as one population: all trials of one shape, with all their folds and seeds."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from pairjax.base.config import Config
from pairjax.base.types import TaskSpec
from pairjax.population.engine import MemberProgram, make_hypers, train_population
from pairjax.population.members import make_runs, scores_of
from pairjax.step.programs import hypers_of
from pairjax.sweep.search import DEV
from pairjax.sweep.trials import TRACED, Scored, SweepData, TrialFolder, TrialRun, shape_key


def varied_of(trials: Sequence[TrialFolder]) -> Mapping[str, list[float]]:
    """The traced numbers of each trial, by their names among the hypers."""
    hypers = [hypers_of(trial.trial.config) for trial in trials]
    return {
        name: [getattr(one if hasattr(one, name) else one.rates, name) for one in hypers] for name in TRACED.values()
    }


def train_together(
    trials: Sequence[TrialFolder],
    runs: Sequence[TrialRun],
    program: MemberProgram,
    *,
    data: SweepData,
    task: TaskSpec,
    rows: Mapping[str, np.ndarray],
    metric: str,
    folder: Path,
    by: Literal["features", "population"],
) -> None:
    """Train every run of every trial, all of one shape, as one population; their scores go into the trials' folders.

    Args:
        trials: They differ in traced numbers alone.
        runs: All of one length.
        program: What a member runs.
        data: Pairs and folds.
        task: With center and scale.
        rows: By split, the program's numbers of its pairs.
        metric: That scores them.
        folder: Of populations under way.
        by: What to call it in the trials' files.
    """
    first, steps = trials[0].trial.config, runs[0].steps
    population = make_runs(
        [data.rows(run.held) for run in runs],
        seeds=[run.seed for run in runs],
        hypers=make_hypers(hypers_of(first), **varied_of(trials)),
        batch_size=first.train.batch_size,
        steps=steps,
    )

    def labels(fold: int) -> np.ndarray:
        label = data.data.splits["dev" if fold == DEV else "train"].label
        assert label is not None
        return label if fold == DEV else label[data.rows_of(fold)]

    held = [[rows["dev"] if fold == DEV else data.rows_of(fold) for fold in run.held] for run in runs]
    longest = max(sum(map(len, parts)) for parts in held)
    index = np.stack([np.resize(np.concatenate(parts), longest) for parts in held]).astype(np.int32)
    under_way = folder / f"population-{_name(trials, runs, first, steps)}"
    found = train_population(program, population, evaluate={"held": index}, folder=under_way)
    kept: list[dict[TrialRun, Scored]] = [{} for _ in trials]
    for group, run in enumerate(runs):
        start, scores = 0, []
        for label in map(labels, run.held):
            outputs = found.outputs["held"][group : group + 1, :, start : start + len(label)]
            scores.append(scores_of(task, outputs, label, metric)[0])
            start += len(label)
        for number, each in enumerate(kept):
            diverged = (
                bool(found.diverged[group, number] >= 0) or not np.isfinite(found.outputs["held"][group, number]).all()
            )
            each[run] = Scored(tuple(float(one[number]) for one in scores), diverged, by)
    for trial, scored in zip(trials, kept, strict=True):
        trial.keep(scored)
    shutil.rmtree(under_way, ignore_errors=True)


def _name(trials: Sequence[TrialFolder], runs: Sequence[TrialRun], first: Config, steps: int) -> str:
    parts = [[trial.id for trial in trials], [run.name for run in runs], shape_key(first, steps=steps)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
