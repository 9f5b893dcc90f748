"""Claims: what is to be tested stands in a file before it is run, and a verdict follows from numbers by a rule.

A hypothesis is an effect with its bootstrap distribution, and the smallest effect of interest. It is supported where
the 95 % interval lies above that effect, refuted where it lies wholly below, and undecided else. A claim is supported
or refuted where all of its primary hypotheses are; else it is undecided.

Beside each interval stands a cautious one (`pairjax.evaluation.intervals.two_way_bootstrap`): pairs that share texts
are drawn together, and the spread over few seeds is widened. It decides nothing, and shows what a verdict hangs on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from pairjax.base.config import FeatureConfig
from pairjax.base.types import PairData
from pairjax.evaluation.intervals import Interval, Sampled
from pairjax.population.features import Features, cached_features
from pairjax.population.pooled import HeadTask, head_task
from pairjax.population.tokens import TokenTask
from pairjax.studies.attention.nested_cv import (
    AttentionSetting,
    NestedDesign,
    SettingResult,
    run_setting,
    setting_flops,
)
from pairjax.studies.combiners.cells import Cell, CellDesign, CellResult, run_cell

Verdict = Literal["supported", "refuted", "undecided"]
Unit = Literal["points", "steps", "nats"]
UNITS: dict[Unit, str] = {"points": "points", "steps": "% of a run", "nats": "0.01 nat"}
"""How a unit of effects is written: hundredths of a score, updates saved in percent of a run, hundredths of a nat."""

RESAMPLES = 2000
"""Number of bootstrap resamples of every claim's effects."""


class BudgetSpentError(Exception):
    """The time of a claim is used up; what is done is kept, and the same command goes on."""


@dataclass(frozen=True)
class Hypothesis:
    """One effect.

    Attributes:
        name: Short, for the table.
        effect: In `unit`, positive in the claim's direction.
        smallest: Smallest effect of interest, likewise.
        primary: Whether the claim's verdict reads it.
        question: In words.
        unit: Of the effect and of the smallest of interest.
    """

    name: str
    effect: Sampled
    smallest: float
    primary: bool
    question: str
    unit: Unit = "points"

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.effect.interval(), self.smallest)

    @property
    def cautious_verdict(self) -> Verdict:
        return verdict_of(self.effect.cautious_interval(), self.smallest)


def verdict_of(interval: Interval, smallest: float) -> Verdict:
    """By where the interval lies; one that is undefined decides nothing."""
    if interval.low > smallest:
        return "supported"
    return "refuted" if interval.high < smallest else "undecided"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim, from its primary hypotheses."""
    return verdicts[0] if verdicts and len(set(verdicts)) == 1 else "undecided"


@dataclass(frozen=True)
class Outcome:
    """What a claim's run gives.

    Attributes:
        hypotheses: Primary ones first.
        tables: By title, rows of text cells, the first being the header.
        notes: What was cut, what diverged, what limits the conclusion.
        undecided_because: Why the run cannot decide the claim, whatever its intervals (a treatment that did not take).
    """

    hypotheses: Sequence[Hypothesis]
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    undecided_because: str | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of the chapter, as an experiment file defines it.

    Attributes:
        id: Names the folder of its results.
        statement: In words.
        seeds: How many runs each score is the mean of; fewer give no verdict.
        encoder: Whose representations a verdict is about.
        pooling: Likewise.
        run: Does the work; raises BudgetSpentError when its time is up.
        decides: False for an experiment that shows its figures and gives no verdict.
    """

    id: str
    statement: str
    seeds: int
    run: Callable[["ClaimRun"], Outcome]
    encoder: str = FeatureConfig().encoder
    pooling: Literal["cls", "pooler", "mean", "max"] = "mean"
    decides: bool = True


@dataclass
class ClaimRun:
    """What a claim's `run` may use.

    Attributes:
        claim: Itself.
        root: Of all claims' results; cells and features below it are shared.
        seeds: How many.
        quick: A smoke run: few steps, few seeds, no verdict.
        deadline: On the clock of `time.monotonic`.
        say: Shows a line.
        budget: Minutes, from which a design may take its size.
        cells_run: Units done by this command.
    """

    claim: Claim
    root: Path
    seeds: int
    quick: bool
    deadline: float
    say: Callable[[str], None]
    budget: float = 40.0
    cells_run: int = 0

    @property
    def design(self) -> CellDesign:
        """The cells' design with the seeds of this run."""
        if self.quick:
            return CellDesign(rates=(1e-2,), decays=(0.01,), tuning_seeds=(1000,), seeds=(0, 1), steps=60)
        return CellDesign(seeds=tuple(range(self.seeds)))

    @property
    def nested(self) -> NestedDesign:
        """The design of nested cross-validations with the seeds of this run."""
        if self.quick:
            return NestedDesign(folds=3, seeds=(0, 1), token_rates=(3e-3,), pooled_rates=(3e-3,), steps=20)
        return NestedDesign(seeds=tuple(range(self.seeds)))

    def check_time(self) -> None:
        """Raises BudgetSpentError past the deadline."""
        if time.monotonic() > self.deadline:
            raise BudgetSpentError

    def task(self, name: str, data: Callable[[], PairData]) -> HeadTask:
        """A task's pairs with their cached features."""
        pairs = data()
        return head_task(pairs, self.features(name, pairs))

    def features(self, name: str, pairs: PairData, *, tokens: bool = False) -> Features:
        """Cached features of a task's texts under a name of their own."""
        features = cached_features(
            pairs.splits.values(),
            self.root / "features" / name,
            FeatureConfig(encoder=self.claim.encoder, pooling=self.claim.pooling, tokens=tokens),
        )
        for note in features.notes:
            self.say(f"{name}: {note}")
        return features

    def cell(self, task: str, source: HeadTask, cell: Cell) -> CellResult:
        """A cell, run now or read; says its score."""
        self.check_time()
        began = time.monotonic()
        found = run_cell(source, cell, self.design, folder=self.root / "cells")
        seconds = time.monotonic() - began
        self.cells_run += 1
        head = f"hidden {found.width}" if cell.hidden else "linear"
        noise = f", {cell.noise:.0%} noise" if cell.noise else ""
        scores = f"dev {100 * found.dev.mean():6.2f} test {100 * found.test.mean():6.2f}"
        self.say(
            f"{self.cells_run:4d} {task:14s} {cell.name:28s} {head:10s}{noise} "
            f"rate {found.rate:g} decay {found.decay:g} {scores} ({seconds:.0f} s)"
        )
        return found

    def setting(self, task: str, source: TokenTask, fold: np.ndarray, setting: AttentionSetting) -> SettingResult:
        """A setting of a nested cross-validation, run now or read; says its score and its speed."""
        self.check_time()
        began, design = time.monotonic(), self.nested
        found = run_setting(source, fold, setting, design, folder=self.root / "settings")
        seconds = time.monotonic() - began
        self.cells_run += 1
        score = 100 * (found.predicted == source.heads.label("train")).mean()
        work = setting_flops(source, setting, design)
        speed = f"{work / 1e12:.2f} TFLOP, {seconds:.0f} s, {work / seconds / 1e9:.0f} GFLOP/s"
        self.say(
            f"{self.cells_run:4d} {task:10s} {setting.name:12s} {found.parameters:7,d} parameters, "
            f"inner {100 * found.judged.mean():6.2f} outer {score:6.2f} "
            f"({'run before' if found.read else speed})"
        )
        return found
