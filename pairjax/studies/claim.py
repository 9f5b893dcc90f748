"""Claims and hypotheses.

A claim's file states before the first run what is tested and how. A fixed rule then derives the verdict from numbers
(`pairjax.studies.rules`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pairjax.base.feature_config import FeatureConfig
from pairjax.base.types import PairData
from pairjax.evaluation.intervals import LEVEL, Interval, Sampled
from pairjax.population.features import Features, cached_features
from pairjax.population.pooled import HeadTask, head_task
from pairjax.studies.records import Records
from pairjax.studies.records import Unit as RecordedUnit
from pairjax.studies.rules import Part, Round, Unit, Verdict, part_verdict

UNITS: dict[Unit, str] = {"points": "points", "steps": "% of a run", "nats": "0.01 nat"}
"""How tables name each unit: hundredths of a score, saved updates in percent of a run, hundredths of a nat."""
RESAMPLES = 2000
"""Bootstrap resamples of every effect."""


class BudgetSpentError(Exception):
    """The time budget of a claim is used up. Finished work is kept, and the same command continues it."""


@dataclass(frozen=True)
class Hypothesis:
    """One effect and the smallest effect of interest.

    Attributes:
        name: A short name for tables.
        effect: The effect in `unit`; positive in the direction of the claim.
        smallest: The smallest effect of interest, in `unit`.
        primary: Whether the claim's verdict depends on it.
        question: The effect in words.
        unit: The unit of `effect` and `smallest`.
    """

    name: str
    effect: Sampled
    smallest: float
    primary: bool
    question: str
    unit: Unit = "points"

    def deciding_interval(self, *, rule: Round = 2, level: float = LEVEL) -> Interval:
        """Returns the interval that decides: the plain one in round 1, the cautious one in round 2."""
        return self.effect.interval() if rule == 1 else self.effect.cautious_interval(level=level)

    def verdict(self, *, rule: Round = 2, level: float = LEVEL) -> Verdict:
        """Returns the verdict by the rule of a round."""
        return part_verdict(self.deciding_interval(rule=rule, level=level), self.smallest, rule=rule)


@dataclass(frozen=True)
class Outcome:
    """The result of a claim's run.

    Attributes:
        hypotheses: All hypotheses, the primary ones first.
        tables: By title, rows of text cells; the first row is the header.
        notes: What was cut, which runs diverged, and what limits the conclusion.
        undecided_because: Why the run cannot decide the claim, whatever its intervals (for example a treatment that had
            no effect on training); None if it can.
        board: The name of a file beside the claim's folder that a report draws with the claim; None for no file.
    """

    hypotheses: Sequence[Hypothesis]
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    undecided_because: str | None = None
    board: str | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of the chapter, as an experiment file defines it.

    Attributes:
        id: Identifies the claim and names the folder of its results.
        statement: The claim in words.
        seeds: The number of runs that each score is the mean of. With fewer runs there is no verdict.
        run: Does the work; raises BudgetSpentError when the time is up.
        encoder: The encoder that the verdict is about.
        pooling: The pooling that the verdict is about.
        decides: False for an experiment that reports effects without a verdict.
        round: The round whose rules apply. The first eight claims belong to round 1.
        parts: The parts of the claim, one for each primary hypothesis. A claim of round 2 needs them for its verdict.
        looks: In ascending order, further numbers of runs at which a verdict is planned. Each look at a claim has the
            level 1 - 0.05 / (number of looks), so that all together have 0.95 (Bonferroni).
        design: Everything else that is fixed in advance and is not an upper-case constant of the claim's file, such as
            grids: numbers, texts, lists, dicts and dataclasses. It is registered.
        budget_sets_size: Whether the design depends on the budget, which is then registered.
    """

    id: str
    statement: str
    seeds: int
    run: Callable[["ClaimRun"], Outcome]
    encoder: str = FeatureConfig().encoder
    pooling: Literal["cls", "pooler", "mean", "max"] = "mean"
    decides: bool = True
    round: Round = 2
    parts: tuple[Part, ...] = ()
    looks: tuple[int, ...] = ()
    design: Any = None
    budget_sets_size: bool = False

    def __post_init__(self) -> None:
        if list(self.planned) != sorted(set(self.planned)):
            raise ValueError(f"{self.id}: looks must ascend from {self.seeds} seeds")

    @property
    def planned(self) -> tuple[int, ...]:
        """The numbers of runs at which a verdict is planned."""
        return (self.seeds, *self.looks)

    @property
    def level(self) -> float:
        """The level of the deciding interval, corrected for the number of looks."""
        return 1 - (1 - LEVEL) / len(self.planned)


@dataclass
class ClaimRun:
    """The context that a claim's `run` receives.

    Attributes:
        claim: The claim.
        root: The folder of all claims' results; claims share the cells and features in it.
        seeds: The number of runs of each score.
        quick: Whether this is a smoke run: few steps, few seeds, no verdict.
        deadline: When to stop, on the clock of `time.monotonic`.
        log: Prints a line.
        budget: The time budget in minutes; a design may choose its size from it.
        group_texts: Whether folds keep pairs that share a text together.
        cells_run: The number of units that this command has finished.
        records: The records of the claim; None if the run keeps none.
    """

    claim: Claim
    root: Path
    seeds: int
    quick: bool
    deadline: float
    log: Callable[[str], None]
    budget: float = 40.0
    group_texts: bool = True
    cells_run: int = 0
    records: Records | None = None

    def unit(self, name: str, make: Callable[[], RecordedUnit]) -> RecordedUnit:
        """Returns what a unit of work leaves: from the records if it is there, otherwise computed and recorded.

        A claim of round 2 reads everything that its effects depend on through units, the labels and the clusters of the
        test pairs too, so that `--from-records` needs neither data nor encoder.

        Args:
            name: Identifies the unit within the claim.
            make: Computes its arrays by name.
        """
        return make() if self.records is None else self.records.unit(name, make)

    def check_time(self) -> None:
        """Raises BudgetSpentError after the deadline."""
        if time.monotonic() > self.deadline:
            raise BudgetSpentError

    def task(self, name: str, data: Callable[[], PairData]) -> HeadTask:
        """Returns a task's pairs with their cached features."""
        pairs = data()
        return head_task(pairs, self.features(name, pairs))

    def features(self, name: str, pairs: PairData, *, tokens: bool = False) -> Features:
        """Returns the features of a task's texts, from the cache of that name if it has them."""
        features = cached_features(
            pairs.splits.values(),
            self.root / "features" / name,
            FeatureConfig(encoder=self.claim.encoder, pooling=self.claim.pooling, tokens=tokens),
        )
        for note in features.notes:
            self.log(f"{name}: {note}")
        return features
