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

from pairjax.base.config import FeatureConfig
from pairjax.base.types import PairData
from pairjax.evaluation.intervals import Interval, Sampled
from pairjax.population.features import Features, cached_features
from pairjax.population.pooled import HeadTask, head_task

Verdict = Literal["supported", "refuted", "undecided"]
Unit = Literal["points", "steps", "nats"]
UNITS: dict[Unit, str] = {"points": "points", "steps": "% of a run", "nats": "0.01 nat"}
"""How a unit of effects is written: hundredths of a score, updates saved in percent of a run, hundredths of a nat."""


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
