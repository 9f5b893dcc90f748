"""Trains trials as populations: all trials of one shape, with all their folds and seeds, as one program."""

import hashlib
import json
import shutil
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairjax.base.config import Config
from pairjax.base.types import EncoderSpec, TaskSpec
from pairjax.population.engine import MemberProgram, make_hypers, train_population
from pairjax.population.members import TrainPart, fit_part, make_runs, needs_parts, padded_size, scores_of
from pairjax.step.programs import hypers_of
from pairjax.sweep.search import DEV
from pairjax.sweep.trials import TRACED, Missing, RunScores, SweepInputs, TrialFolder, TrialRun, shape_key


@dataclass(frozen=True)
class TrialProgram:
    """A program for trials of one shape.

    Attributes:
        program: What each member runs.
        task: The task; for regression with center and scale of the train split.
        rows: By split, the program's numbers of its examples.
    """

    program: MemberProgram
    task: TaskSpec
    rows: Mapping[str, np.ndarray]


def traced_values(trials: Sequence[TrialFolder]) -> dict[str, list[float]]:
    """Returns the traced numbers of the trials, by their names among the hypers."""
    hypers = [hypers_of(trial.trial.config) for trial in trials]
    return {
        name: [getattr(values if hasattr(values, name) else values.rates, name) for values in hypers]
        for name in TRACED.values()
    }


class PopulationTrainer(ABC):
    """Trains trials together; subclasses say which trials, and by which program.

    Attributes:
        name: The trainer's name in the trials' files.
        detail: Added to the progress line.
    """

    name: str
    detail = ""

    def __init__(self, inputs: SweepInputs) -> None:
        self.inputs = inputs

    @staticmethod
    @abstractmethod
    def fits(config: Config, spec: EncoderSpec) -> bool:
        """Returns whether the trainer gives the scores that a config's runs have when they train alone."""

    @abstractmethod
    def program(self, trials: Sequence[TrialFolder], *, steps: int, parts: Sequence[TrainPart]) -> TrialProgram:
        """Builds the program for trials of one shape; `parts` as for `assemble`."""

    def run(self, missing: Sequence[Missing]) -> None:
        """Trains runs as one population for each shape, and saves their scores in the trials' folders.

        If one trial of a shape lacks a run, that run is trained for all trials of the shape in `missing`.

        Args:
            missing: Trials, each with the runs that it lacks; all of a trial's runs have one length.
        """
        shapes: dict[str, list[Missing]] = defaultdict(list)
        for trial, runs in missing:
            shapes[shape_key(trial.trial.config, steps=runs[0].steps)].append((trial, runs))
        for group in shapes.values():
            began = time.monotonic()
            trials, runs = [trial for trial, _ in group], sorted({run for _, runs in group for run in runs})
            self._train(trials, runs)
            self.inputs.log(
                f"{len(trials):,} trials x {len(runs):,} runs of {runs[0].steps:,} steps, one program{self.detail}: "
                f"{time.monotonic() - began:.1f} s"
            )

    def _train(self, trials: Sequence[TrialFolder], runs: Sequence[TrialRun]) -> None:
        """Trains every run of every trial as one population: runs are groups, trials are variants."""
        first, steps, data = trials[0].trial.config, runs[0].steps, self.inputs.data
        parts = self._parts(first, runs)
        built = self.program(trials, steps=steps, parts=list(parts.values()))
        # The number of a part's first example.
        size = padded_size(sum(map(len, built.rows.values())))
        start_of = {held: number * size for number, held in enumerate(parts)}
        members = make_runs(
            [data.rows(run.held) + start_of.get(run.held, 0) for run in runs],
            seeds=[run.seed for run in runs],
            hypers=make_hypers(hypers_of(first), **traced_values(trials)),
            batch_size=first.train.batch_size,
            steps=steps,
        )
        # The held-out examples of each run, its folds one after another; shorter ones are repeated to one length.
        held = [[built.rows["dev"] if fold == DEV else data.rows_of(fold) for fold in run.held] for run in runs]
        longest = max(sum(map(len, parts)) for parts in held)
        index = np.stack([np.resize(np.concatenate(parts), longest) for parts in held]).astype(np.int32)
        under_way = self.inputs.folder / "cache" / f"population-{_population_name(trials, runs, steps=steps)}"
        trained = train_population(built.program, members, evaluate={"held": index}, folder=under_way)
        finite = np.isfinite(trained.outputs["held"]).all(axis=(2, 3))
        scored: list[dict[TrialRun, RunScores]] = [{} for _ in trials]
        for group, run in enumerate(runs):
            start, scores = 0, []
            task = parts[run.held].task if parts else built.task
            for label in map(self._labels, run.held):
                outputs = trained.outputs["held"][group : group + 1, :, start : start + len(label)]
                scores.append(scores_of(task, outputs, label, self.inputs.metric)[0])
                start += len(label)
            for number, results in enumerate(scored):
                diverged = bool(trained.diverged[group, number] >= 0 or not finite[group, number])
                results[run] = RunScores(tuple(float(score[number]) for score in scores), diverged, self.name)
        for trial, results in zip(trials, scored, strict=True):
            trial.save(results)
        shutil.rmtree(under_way, ignore_errors=True)

    def _parts(self, config: Config, runs: Sequence[TrialRun]) -> dict[tuple[int, ...], TrainPart]:
        """Fits on each run's train examples, by its held-out folds; empty if the trials fit nothing on labels."""
        data = self.inputs.data
        if not needs_parts(data.data.task, config.loss):
            return {}
        return {held: fit_part(data.data, data.rows(held), config.loss) for held in sorted({run.held for run in runs})}

    def _labels(self, fold: int) -> np.ndarray:
        """Returns the labels of a fold."""
        data = self.inputs.data
        label = data.data.splits["dev" if fold == DEV else "train"].label
        assert label is not None
        return label if fold == DEV else label[data.rows_of(fold)]


def _population_name(trials: Sequence[TrialFolder], runs: Sequence[TrialRun], *, steps: int) -> str:
    shape = shape_key(trials[0].trial.config, steps=steps)
    parts = [[trial.id for trial in trials], [run.name for run in runs], shape]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
