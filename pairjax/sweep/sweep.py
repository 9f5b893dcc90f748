"""A sweep: many configs on folds of one training split, a table of them, and the best one as an experiment file.

Only the train split is cut and read: dev and test stay for the config that is chosen. Without folds dev chooses.
"""

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.types import EncoderSpec, PairData
from pairjax.data.folds import stratified_folds
from pairjax.data.sources import load_pairs
from pairjax.data.tokenizer import PairTokenizer, check_fit, load_tokenizer
from pairjax.evaluation.intervals import Spread, mean_and_spread
from pairjax.evaluation.metrics import LOWER_IS_BETTER
from pairjax.finetune.job import task_metric, total_steps
from pairjax.models.build import build_pair_model
from pairjax.sweep.end_to_end import fits_population, train_whole
from pairjax.sweep.pooled import CachedHeads, fits_features
from pairjax.sweep.search import DEV, Need, Rung, Scores, SearchOutcome, halving_rungs, search, spread_of, whole_rung
from pairjax.sweep.single import train_run
from pairjax.sweep.trials import Scored, SweepData, Trial, TrialFolder, TrialRun, open_trial, shape_key
from pairjax.weights import encoder_content, read_encoder_spec, resolve_encoder


@dataclass(frozen=True)
class SweepDesign:
    """How trials are compared.

    Attributes:
        method: Which rungs they climb.
        folds: Of train; 0 scores on dev.
        nested: Whether the choice is scored on folds that had no part in it.
        seeds: Of each run; a score is their mean.
        factor: Of successive halving.
        fold_seed: Of the cut.
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
        return self.nested and self.folds > 0

    def rungs(self, trials: int) -> tuple[Rung, ...]:
        return halving_rungs(trials, factor=self.factor) if self.method == "halving" else whole_rung()


@dataclass(frozen=True)
class TrialRow:
    """A trial in the table.

    Attributes:
        trial: The trial.
        id: Of its folder.
        score: Mean over folds of the means over seeds, with an interval; NaN where a run diverged.
        share: Of its full number of steps.
        steps: Updates of the runs that the score is of.
        runs: How many.
        diverged: How many of them diverged.
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
    """What a sweep found.

    Attributes:
        metric: Of all scores.
        sign: -1 where less is better.
        rows: Trials, the best first; those that went further before others, those without a score last.
        best: The best trial.
        nested: The score of what the search chooses, from folds that chose nothing; None without nesting.
        chosen: Ids of the trials that each outer fold's search chose; None where all diverged.
        trained: Members trained now; the others were there already.
        found: Members that were there already.
        seconds: Of this call.
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
    """The config with its last parameters kept and no early stopping: a fold that scores may choose no step."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, keep="last", patience=0))


class Sweep:
    """Trials made ready; everything about the input is checked when it is made, and nothing is written.

    Args:
        trials: At least one; they share their data.
        design: How they are compared.
        folder: Of the sweep.
        say: Where progress goes, a line each.
        features: A cache of features that all trials read, instead of caches of the sweep's own.

    Raises:
        UserError: Whatever is wrong with data, configs or the cache.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        design: SweepDesign,
        *,
        folder: Path,
        say: Callable[[str], None],
        features: Path | None = None,
    ) -> None:
        self.design, self.folder, self.say, self.features = design, folder, say, features
        first = trials[0].config
        loaded = load_pairs(first.data)
        self.notes = loaded.notes
        self.data = _sweep_data(loaded, design)
        train = loaded.splits["train"]
        learnt = len(train) - (len(train) // design.folds if design.folds else 0)
        self.metric = task_metric(first, loaded.task)
        self.sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        self.specs: dict[str, EncoderSpec] = {}
        self._tokenizers: dict[str, PairTokenizer] = {}
        self._contents: dict[str, str] = {}
        self.full_steps = [total_steps(trial.config, learnt) for trial in trials]
        key = self.data.key()
        self.trials: list[TrialFolder] = []
        self.trained = self.found = 0
        for trial in trials:
            self._check(trial.config, loaded)
            opened, note = open_trial(
                folder / "trials", trial, data_key=key, encoder=self._contents[trial.config.model.encoder]
            )
            self.trials.append(opened)
            if note:
                say(note)
            if features is not None:
                self._check_features(len(self.trials) - 1)

    def _check_features(self, number: int) -> None:
        config = self.trials[number].trial.config
        if self.way(number) != "features":
            raise UserError(
                f"--features serves no trial that trains more than a head on pooled vectors ({self.features})",
                got=f"a {config.model.kind} encoder, --optim.freeze {config.optim.freeze}",
                expected="--model.kind bi, --optim.freeze encoder",
                fix="leave --features out",
            )
        self.heads.source(config, self.specs[config.model.encoder])

    def _check(self, config: Config, data: PairData) -> None:
        name = config.model.encoder
        source = resolve_encoder(name, download=config.model.download)
        if name not in self.specs:
            self.specs[name] = read_encoder_spec(source)
            self._contents[name] = encoder_content(name)
            self._tokenizers[name] = load_tokenizer(source, family=self.specs[name].family)
        spec = self.specs[name]
        check_fit(config.data.max_length, spec=spec, tokenizer=self._tokenizers[name], folder=source)
        build_pair_model(config.model, spec, data.task.outputs)

    @cached_property
    def heads(self) -> CachedHeads:
        batch_size = self.trials[0].trial.config.evaluation.batch_size
        return CachedHeads(
            self.data, folder=self.folder / "cache", batch_size=batch_size, say=self.say, given=self.features
        )

    def way(self, number: int) -> Literal["features", "population", "training"]:
        """How a trial trains: on cached features, a small model with others, or by itself."""
        config = self.trials[number].trial.config
        spec = self.specs[config.model.encoder]
        if fits_features(config, spec):
            return "features"
        return "population" if fits_population(config, spec) else "training"

    def run(self) -> SweepResult:
        """Train what is not there, and choose.

        Raises:
            UserError: No trial finished.
            StoppedError: A signal came; what was done is kept.
        """
        began = time.monotonic()
        design = self.design
        found = search(
            len(self.trials),
            self.evaluate,
            folds=design.folds,
            rungs=design.rungs(len(self.trials)),
            nested=design.is_nested,
            sign=self.sign,
        )
        rows = self._rows(found)
        return SweepResult(
            metric=self.metric,
            sign=self.sign,
            rows=rows,
            best=self.trials[found.best].trial,
            nested=spread_of(found.nested) if design.is_nested else None,
            chosen=tuple(None if number < 0 else self.trials[number].id for number in found.chosen),
            trained=self.trained,
            found=self.found,
            seconds=time.monotonic() - began,
        )

    # ------------------------------------------------------------------------------------------------------- training

    def steps(self, number: int, share: float) -> int:
        """Updates of a trial's runs at a share of its length."""
        return max(1, round(self.full_steps[number] * share))

    def runs_of(self, need: Need) -> list[TrialRun]:
        return [TrialRun(need.held, self.steps(need.trial, need.share), seed) for seed in self.design.seeds]

    def evaluate(self, needs: Sequence[Need]) -> Scores:
        """Scores of models: from the trials' folders, else trained now; for `search`."""
        missing: dict[int, list[TrialRun]] = defaultdict(list)
        for need in needs:
            for run in self.runs_of(need):
                if run in self.trials[need.trial].found:
                    self.found += 1
                else:
                    missing[need.trial].append(run)
        self.trained += sum(map(len, missing.values()))
        ways = {number: self.way(number) for number in missing}
        for way in ("features", "population"):
            self._train_together({number: runs for number, runs in missing.items() if ways[number] == way}, way)
        rest = {number: runs for number, runs in missing.items() if ways[number] == "training"}
        done, total = 0, sum(map(len, rest.values()))
        for number, runs in rest.items():
            for run in runs:
                done += 1
                self._train_one(number, run, f"run {done} of {total}")
        return {
            need: np.array([self.trials[need.trial].found[run].scores for run in self.runs_of(need)]) for need in needs
        }

    def _train_together(self, missing: dict[int, list[TrialRun]], way: str) -> None:
        """As few populations as shapes; one that lacks a part of its trials' runs trains that part of all of them."""
        shapes: dict[str, list[int]] = defaultdict(list)
        for number, runs in missing.items():
            shapes[shape_key(self.trials[number].trial.config, steps=runs[0].steps)].append(number)
        for numbers in shapes.values():
            runs = sorted({run for number in numbers for run in missing[number]})
            began, trials = time.monotonic(), [self.trials[number] for number in numbers]
            if way == "features":
                spec = self.specs[trials[0].trial.config.model.encoder]
                self.heads.run(trials, spec, runs=runs, metric=self.metric)
            else:
                train_whole(trials, data=self.data, runs=runs, metric=self.metric, folder=self.folder / "cache")
            self.say(
                f"{len(numbers):,} trials x {len(runs):,} runs of {runs[0].steps:,} steps, one program"
                f"{' on cached features' if way == 'features' else ''}: {time.monotonic() - began:.1f} s"
            )

    def _train_one(self, number: int, run: TrialRun, place: str) -> None:
        trial, began = self.trials[number], time.monotonic()
        scored = train_run(trial.trial.config, self.data, run, folder=trial.path / run.name, metric=self.metric)
        trial.keep({run: scored})
        values = ", ".join(f"{name} {shown(value)}" for name, value in trial.trial.values.items())
        score = "diverged" if scored.diverged else " ".join(f"{value:.4f}" for value in scored.scores)
        self.say(f"{place}: {values}; {run.name}: {score} ({time.monotonic() - began:.0f} s)")

    # ---------------------------------------------------------------------------------------------------------- table

    def _rows(self, found: SearchOutcome) -> tuple[TrialRow, ...]:
        rows = [self._row(number, found) for number in range(len(self.trials))]

        def place(number: int) -> tuple[bool, float, float, int]:
            mean = rows[number].score.mean
            finite = math.isfinite(mean)
            return (not finite, -rows[number].share, -self.sign * mean if finite else 0.0, number)

        return tuple(rows[number] for number in sorted(range(len(rows)), key=place))

    def _row(self, number: int, found: SearchOutcome) -> TrialRow:
        folds = tuple(range(self.design.folds)) or (DEV,)
        share = found.reached[number]
        needs = [Need(number, (fold,), share) for fold in folds]
        each = np.stack([found.scores[need][:, 0] for need in needs])
        if self.design.folds:
            score = spread_of(each.mean(axis=1))
        else:
            score = mean_and_spread([float(value) for value in each[0]])
        trial = self.trials[number]
        scored = [trial.found[run] for need in needs for run in self.runs_of(need)]
        return TrialRow(
            trial=trial.trial,
            id=trial.id,
            score=score,
            share=share,
            steps=self.steps(number, share),
            runs=len(scored),
            diverged=_count_diverged(scored),
        )


def _count_diverged(scored: Iterable[Scored]) -> int:
    return sum(one.diverged for one in scored)


def _sweep_data(loaded: PairData, design: SweepDesign) -> SweepData:
    train = loaded.splits["train"]
    if not design.folds:
        splits = {"train": train, "dev": loaded.splits["dev"]}
        return SweepData(dataclasses.replace(loaded, splits=splits), np.full(len(train), -2))
    fold = stratified_folds(loaded.task, train, folds=design.folds, seed=design.fold_seed)
    return SweepData(dataclasses.replace(loaded, splits={"train": train}), fold)


def shown(value: Any) -> str:
    """A field's value for tables and lines."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.4g}"
        case tuple():
            return " ".join(map(str, value)) or "()"
        case _:
            return str(value)
