"""Runs a sweep: trains many configs on folds of the train split, ranks them and scores the choice.

Only the train split is cut and read; dev and test remain for the chosen config. Without folds, dev decides.
"""

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pairjax.base.config import Config, trained_model
from pairjax.base.errors import UserError
from pairjax.base.types import EncoderSpec, PairData, TaskSpec, dev_split
from pairjax.data.folds import describe_folds, stratified_folds
from pairjax.data.objectives import apply_objective
from pairjax.data.sources import load_pairs
from pairjax.data.tokenizer import PairTokenizer, check_fit, load_tokenizer
from pairjax.evaluation.intervals import Spread, mean_and_spread
from pairjax.evaluation.metrics import LOWER_IS_BETTER
from pairjax.finetune.job import task_metric, total_steps
from pairjax.models.build import build_pair_model
from pairjax.population.members import needs_parts
from pairjax.sweep.end_to_end import EndToEndTrainer
from pairjax.sweep.pooled import PooledTrainer
from pairjax.sweep.search import (
    DEV,
    Need,
    Rung,
    Scores,
    SearchOutcome,
    fold_spread,
    full_rung,
    halving_rungs,
    search_trials,
)
from pairjax.sweep.single import SingleTrainer
from pairjax.sweep.trials import SweepData, SweepInputs, Trial, TrialFolder, TrialRun, open_trial
from pairjax.weights import encoder_content, read_encoder_spec, resolve_encoder


@dataclass(frozen=True)
class SweepDesign:
    """How trials are compared.

    Attributes:
        method: Decides the rungs of the search.
        folds: Number of folds of the train split; 0 scores on dev.
        nested: Whether the choice is scored on folds that had no part in it.
        seeds: Training seeds of each run; a score is their mean.
        factor: Factor of successive halving.
        fold_seed: Seeds the cut into folds.
    """

    method: Literal["grid", "random", "halving"]
    folds: int = 5
    nested: bool = True
    seeds: tuple[int, ...] = (0,)
    factor: int = 3
    fold_seed: int = 0

    def __post_init__(self) -> None:
        if self.folds and self.folds < 2:
            raise UserError("--folds is too small", got=self.folds, expected="2 or more, or 0 for the dev split")
        if self.nested and self.folds == 2:
            raise UserError(
                "a nested score needs three folds", got="--folds 2", fix="use --folds 3 or more, or --no-nested"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError("--seeds names a seed twice, or none", got=" ".join(map(str, self.seeds)) or "none")
        if self.factor < 2:
            raise UserError("--factor is too small", got=self.factor, expected="at least 2")

    @property
    def is_nested(self) -> bool:
        """Whether there is a nested score; without folds there is none."""
        return self.nested and self.folds > 0

    def rungs(self, trials: int) -> tuple[Rung, ...]:
        """Returns the rungs of a search over so many trials."""
        return halving_rungs(trials, factor=self.factor) if self.method == "halving" else full_rung()


@dataclass(frozen=True)
class TrialRow:
    """A trial in the table.

    Attributes:
        trial: The trial.
        id: Name of its folder.
        score: Mean over folds of the means over seeds, with an interval; NaN if a run diverged.
        share: Share of the full number of steps at which the trial was scored last, in (0, 1].
        steps: Updates of the runs that were scored.
        runs: Number of runs that were scored.
        diverged: Number of those runs that diverged.
    """

    trial: Trial
    id: str
    score: Spread
    share: float
    steps: int
    runs: int
    diverged: int


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        metric: Name of the metric of all scores.
        sign: -1 if lower is better, else 1.
        rows: Trials, best first. Trials that were trained longer come first, those without a score last.
        best: The best trial.
        nested: Score of the choice on folds that had no part in it; None without nesting.
        chosen: For each outer fold, the id of the trial that its search chose; None if all trials diverged.
        trained: Number of runs trained by this call.
        found: Number of runs whose scores were already in the folder.
        seconds: Duration of this call.
    """

    metric: str
    sign: float
    rows: tuple[TrialRow, ...]
    best: Trial
    nested: Spread | None
    chosen: tuple[str | None, ...]
    trained: int
    found: int
    seconds: float


def without_choice(config: Config) -> Config:
    """Returns the config with its last parameters kept and no early stopping: the scoring fold may choose no step."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, keep="last", patience=0))


class Encoders:
    """The architectures, tokenisers and content hashes of a sweep's encoders, each read once.

    Attributes:
        specs: Architecture by encoder name.
        contents: Content hash by encoder name.
    """

    def __init__(self) -> None:
        self.specs: dict[str, EncoderSpec] = {}
        self.contents: dict[str, str] = {}
        self._tokenizers: dict[str, PairTokenizer] = {}

    def check(self, config: Config, task: TaskSpec) -> None:
        """Reads a config's encoder and checks that the config fits it.

        Args:
            config: The config.
            task: The task, with the head that the loss trains.

        Raises:
            UserError: The encoder cannot be read, or the config does not fit it.
        """
        name = config.model.encoder
        source = resolve_encoder(name, download=config.model.download)
        if name not in self.specs:
            self.specs[name] = read_encoder_spec(source)
            self.contents[name] = encoder_content(name)
            self._tokenizers[name] = load_tokenizer(source, family=self.specs[name].family)
        spec = self.specs[name]
        check_fit(config.data.max_length, spec=spec, tokenizer=self._tokenizers[name], folder=source)
        build_pair_model(trained_model(config.model, config.loss), spec, task)


def prepare_sweep(
    trials: Sequence[Trial],
    design: SweepDesign,
    *,
    folder: Path,
    log: Callable[[str], None],
    features: Path | None = None,
) -> "Sweep":
    """Loads the data, checks every trial and opens its folder; writes nothing.

    Args:
        trials: At least one; all share their data.
        design: How they are compared.
        folder: The sweep's folder.
        log: Takes progress lines.
        features: An existing cache of features that all trials read; None makes the sweep's own caches.

    Raises:
        UserError: Data, a config or the cache is wrong.
    """
    first = trials[0].config
    loaded = load_pairs(first.data)
    grouped = first.data.group_texts
    data = _cut_folds(loaded, design, group_texts=grouped)
    encoders = Encoders()
    inputs = SweepInputs(
        data, encoders.specs, task_metric(first, apply_objective(loaded.task, first.loss)), folder, log
    )
    pooled = PooledTrainer(inputs, batch_size=first.evaluation.batch_size, features=features)
    train = len(loaded.splits["train"])
    train -= train // design.folds if design.folds else 0
    key, folders = data.key(), []
    full_steps = [total_steps(trial.config, train) for trial in trials]
    for trial in trials:
        encoder = trial.config.model.encoder
        encoders.check(trial.config, apply_objective(loaded.task, trial.config.loss))
        fitted = needs_parts(loaded.task, trial.config.loss)
        opened, note = open_trial(
            folder / "trials", trial, data_key=key, encoder=encoders.contents[encoder], fitted=fitted
        )
        folders.append(opened)
        if note:
            log(note)
        if features is not None:
            pooled.check(trial.config, encoders.specs[encoder])
    trainers = (pooled, EndToEndTrainer(inputs), SingleTrainer(inputs))
    notes = loaded.notes
    if design.folds:
        notes += (describe_folds(loaded.splits["train"], data.fold, group_texts=grouped),)
    return Sweep(design, inputs, tuple(folders), tuple(full_steps), trainers, notes)


def _cut_folds(loaded: PairData, design: SweepDesign, *, group_texts: bool) -> SweepData:
    """Cuts the train split into folds; without folds, keeps dev."""
    train = loaded.splits["train"]
    if not design.folds:
        splits = {"train": train, "dev": loaded.splits[dev_split(loaded.splits) or "dev"]}
        return SweepData(dataclasses.replace(loaded, splits=splits), np.full(len(train), -2))
    fold = stratified_folds(loaded.task, train, folds=design.folds, seed=design.fold_seed, group_texts=group_texts)
    return SweepData(dataclasses.replace(loaded, splits={"train": train}), fold)


TrialTrainer = PooledTrainer | EndToEndTrainer | SingleTrainer


class Sweep:
    """Trials ready to train; `prepare_sweep` makes it.

    Args:
        design: How trials are compared.
        inputs: What they share.
        trials: Their folders.
        full_steps: Updates of each trial's full-length runs.
        trainers: The ways to train, in the order of preference; the last one trains every trial.
        notes: Notes on the data.
    """

    def __init__(
        self,
        design: SweepDesign,
        inputs: SweepInputs,
        trials: tuple[TrialFolder, ...],
        full_steps: tuple[int, ...],
        trainers: tuple[TrialTrainer, ...],
        notes: tuple[str, ...],
    ) -> None:
        self.design, self.inputs, self.trials, self.notes = design, inputs, trials, notes
        self.full_steps, self.trainers = full_steps, trainers
        self.sign = -1.0 if inputs.metric in LOWER_IS_BETTER else 1.0
        self.trained = self.found = 0

    def trainer_of(self, number: int) -> TrialTrainer:
        """Returns the first trainer that fits a trial."""
        config = self.trials[number].trial.config
        spec = self.inputs.specs[config.model.encoder]
        return next(trainer for trainer in self.trainers if trainer.fits(config, spec))

    def run(self) -> SweepResult:
        """Trains the runs that are missing, and chooses.

        Raises:
            UserError: No trial finished.
            StoppedError: A signal stopped a run; finished runs are kept.
        """
        began = time.monotonic()
        design = self.design
        outcome = search_trials(
            len(self.trials),
            self.evaluate,
            folds=design.folds,
            rungs=design.rungs(len(self.trials)),
            nested=design.is_nested,
            sign=self.sign,
        )
        return SweepResult(
            metric=self.inputs.metric,
            sign=self.sign,
            rows=self._rows(outcome),
            best=self.trials[outcome.best].trial,
            nested=fold_spread(outcome.nested) if design.is_nested else None,
            chosen=tuple(None if number < 0 else self.trials[number].id for number in outcome.chosen),
            trained=self.trained,
            found=self.found,
            seconds=time.monotonic() - began,
        )

    def steps(self, number: int, share: float) -> int:
        """Returns the updates of a trial's runs at a share of its full length."""
        return max(1, round(self.full_steps[number] * share))

    def runs_of(self, need: Need) -> list[TrialRun]:
        """Returns the runs, one for each seed, that score a model that the search asks for."""
        return [TrialRun(need.held, self.steps(need.trial, need.share), seed) for seed in self.design.seeds]

    def evaluate(self, needs: Sequence[Need]) -> Scores:
        """Scores models for `search_trials`: reads the trials' folders, and trains the runs that are missing."""
        missing: dict[int, list[TrialRun]] = defaultdict(list)
        for need in needs:
            for run in self.runs_of(need):
                if run in self.trials[need.trial].results:
                    self.found += 1
                else:
                    missing[need.trial].append(run)
        self.trained += sum(map(len, missing.values()))
        chosen = {number: self.trainer_of(number) for number in missing}
        for trainer in self.trainers:
            trainer.run([(self.trials[n], runs) for n, runs in missing.items() if chosen[n] is trainer])
        return {
            need: np.array([self.trials[need.trial].results[run].scores for run in self.runs_of(need)])
            for need in needs
        }

    def _rows(self, outcome: SearchOutcome) -> tuple[TrialRow, ...]:
        """Returns the rows of the table, best first."""
        rows = [self._row(number, outcome) for number in range(len(self.trials))]

        def rank(number: int) -> tuple[bool, float, float, int]:
            mean = rows[number].score.mean
            finite = math.isfinite(mean)
            return (not finite, -rows[number].share, -self.sign * mean if finite else 0.0, number)

        return tuple(rows[number] for number in sorted(range(len(rows)), key=rank))

    def _row(self, number: int, outcome: SearchOutcome) -> TrialRow:
        folds = tuple(range(self.design.folds)) or (DEV,)
        share = outcome.reached[number]
        needs = [Need(number, (fold,), share) for fold in folds]
        by_fold = np.stack([outcome.scores[need][:, 0] for need in needs])
        if self.design.folds:
            score = fold_spread(by_fold.mean(axis=1))
        else:
            score = mean_and_spread([float(value) for value in by_fold[0]])
        trial = self.trials[number]
        results = [trial.results[run] for need in needs for run in self.runs_of(need)]
        return TrialRow(
            trial=trial.trial,
            id=trial.id,
            score=score,
            share=share,
            steps=self.steps(number, share),
            runs=len(results),
            diverged=sum(result.diverged for result in results),
        )
