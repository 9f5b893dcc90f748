"""Rules that turn intervals into verdicts, and the power of a design under them. All are fixed before a run.

Round 2 is the current rule. A part of a claim is decided by its cautious interval
(`pairjax.evaluation.intervals.two_way_bootstrap`), with S the smallest effect of interest:

- supported: the interval is above S;
- negligible: it is inside (-S, S);
- refuted: it is below S, and not inside (-S, S);
- undecided: it contains S.

A claim has the verdict of its parts if they agree, and is undecided if any part is. Parts that are all refuted or
negligible refute the claim; other parts that are decided and differ make it mixed.

Round 1 is the rule of the first eight claims. The plain interval decided, negligible parts were called refuted, and a
claim was undecided unless all of its parts agreed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from pairjax.evaluation.intervals import LEVEL, Interval

Verdict = Literal["supported", "refuted", "mixed", "negligible", "undecided"]
Round = Literal[1, 2]
Unit = Literal["points", "steps", "nats"]
ENOUGH = 0.8
"""The power that a design needs for each part of its claim."""
MOST_RUNS = 200
"""The largest number of runs that `runs_needed` tries."""
DRAWS = 20_000
"""Number of simulated experiments behind a power."""


def part_verdict(interval: Interval, smallest: float, *, rule: Round = 2) -> Verdict:
    """Returns the verdict on a part of a claim; an undefined interval is undecided.

    Args:
        interval: The interval that decides.
        smallest: The smallest effect of interest.
        rule: The round whose rule is applied.
    """
    if interval.low > smallest:
        return "supported"
    if not interval.high < smallest:
        return "undecided"
    return "negligible" if rule == 2 and interval.low > -smallest else "refuted"


def claim_verdict(parts: Sequence[Verdict], *, rule: Round = 2) -> Verdict:
    """Returns the verdict on a claim from those on its parts.

    Args:
        parts: The verdict on each part.
        rule: The round whose rule is applied.
    """
    different = set(parts)
    if len(different) == 1:
        return parts[0]
    if rule == 1 or not parts or "undecided" in different:
        return "undecided"
    return "refuted" if different == {"refuted", "negligible"} else "mixed"


@dataclass(frozen=True)
class Part:
    """A part of a claim, and what its design assumes. The power before a run is computed from these numbers.

    Attributes:
        name: The name of the primary hypothesis that measures the part.
        smallest: The smallest effect of interest, in `unit`.
        expected: The effect that the design must be able to support, in `unit`.
        deviation: Expected standard deviation of the effect over runs, in `unit`.
        error: Expected standard error of the effect over test pairs, in `unit`; 0 if pairs are not resampled.
        source: Where `deviation` and `error` come from, such as a pilot.
        unit: The unit of the effects.
    """

    name: str
    smallest: float
    expected: float
    deviation: float
    error: float
    source: str
    unit: Unit = "points"


class Power(NamedTuple):
    """The power of a design for a part of a claim.

    Attributes:
        supported: Probability of the verdict supported if the effect is the expected one.
        negligible: Probability of the verdict negligible if there is no effect.
    """

    supported: float
    negligible: float


def power_of(part: Part, runs: int, *, level: float = LEVEL) -> Power:
    """Simulates the verdicts on a part with the half-width sqrt((z error)^2 + t^2 s^2 / n) of the cautious interval.

    s is the standard deviation over n runs, z the normal quantile, and t that of Student's t with n - 1 degrees of
    freedom.

    Args:
        part: The part, with the assumed deviation and error.
        runs: Number of runs, n, at least 2.
        level: Coverage of the interval that decides.
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    generator = np.random.default_rng(0)
    noise = generator.normal(size=DRAWS) * math.sqrt(part.error**2 + part.deviation**2 / runs)
    spread = part.deviation**2 * generator.chisquare(runs - 1, DRAWS) / (runs - 1)
    quantile = (1 + level) / 2
    half = np.sqrt((norm.ppf(quantile) * part.error) ** 2 + student.ppf(quantile, runs - 1) ** 2 * spread / runs)
    supported = part.expected + noise - half > part.smallest
    negligible = np.abs(noise) + half < part.smallest
    return Power(float(supported.mean()), float(negligible.mean()))


def runs_needed(part: Part, *, level: float = LEVEL) -> int | None:
    """Returns the number of runs with which the power for a part is enough; None if no number up to the limit is."""
    numbers = range(2, MOST_RUNS + 1)
    return next((runs for runs in numbers if power_of(part, runs, level=level).supported >= ENOUGH), None)


def power_line(part: Part, runs: int, *, level: float = LEVEL) -> str:
    """Returns the power for a part as a line of text, to be printed before a run."""
    power = power_of(part, runs, level=level)
    return (
        f"{part.name}: with {runs} runs, power {power.supported:.2f} to support an effect of {part.expected:g} "
        f"(smallest of interest {part.smallest:g}), {power.negligible:.2f} to call no effect negligible; assumes a "
        f"deviation of {part.deviation:g} over runs and an error of {part.error:g} over pairs ({part.source})"
    )


def learned_tasks(
    dev: Mapping[str, Sequence[float]], majority: Mapping[str, float], *, margin: float
) -> tuple[list[str], list[str]]:
    """Returns the tasks that some arm learns, and a note on each task that is dropped because no arm does.

    The rule uses dev only, so it can be fixed before the test scores are seen.

    Args:
        dev: By task, the dev score of each arm, averaged over runs.
        majority: By task, the dev score of the majority baseline.
        margin: By how much an arm must exceed the majority baseline.
    """
    learned = [task for task, scores in dev.items() if max(scores) > majority[task] + margin]
    notes = [
        f"{task} was dropped: no arm exceeds the majority baseline on dev by {margin:g} "
        f"({max(dev[task]):.2f} and {majority[task]:.2f})"
        for task in dev
        if task not in learned
    ]
    return learned, notes
