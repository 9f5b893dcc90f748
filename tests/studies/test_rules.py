"""Verdicts by the rules of both rounds, power, dropped tasks, and what a registration holds."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.intervals import coverage
from pairjax.evaluation.intervals import Interval, two_way_bootstrap
from pairjax.studies.claim import Claim, ClaimRun, Outcome
from pairjax.studies.registration import design_of
from pairjax.studies.rules import Part, claim_verdict, learned_tasks, part_verdict, power_line, power_of, runs_needed

PART = Part("H1", smallest=1.0, expected=3.0, deviation=2.0, error=0.5, source="a pilot")
LIMITS: tuple[object, ...] = (1, {"b": PART})


@pytest.mark.parametrize(
    ("low", "high", "verdict", "in_round_1"),
    [
        (1.1, 3.0, "supported", "supported"),
        (-0.5, 0.9, "negligible", "refuted"),
        (-1.2, 0.9, "refuted", "refuted"),
        (-3.0, -2.0, "refuted", "refuted"),
        (0.9, 2.0, "undecided", "undecided"),
        (1.0, 2.0, "undecided", "undecided"),
        (math.nan, math.nan, "undecided", "undecided"),
    ],
)
def test_the_verdict_on_a_part_follows_from_its_interval(
    low: float, high: float, verdict: str, in_round_1: str
) -> None:
    interval = Interval((low + high) / 2, low, high)
    assert part_verdict(interval, 1.0) == verdict
    assert part_verdict(interval, 1.0, rule=1) == in_round_1


@pytest.mark.parametrize(
    ("parts", "verdict", "in_round_1"),
    [
        (("supported", "supported"), "supported", "supported"),
        (("negligible", "negligible"), "negligible", "negligible"),
        (("refuted", "negligible"), "refuted", "undecided"),
        (("supported", "refuted"), "mixed", "undecided"),
        (("supported", "negligible", "refuted"), "mixed", "undecided"),
        (("supported", "undecided", "refuted"), "undecided", "undecided"),
        ((), "undecided", "undecided"),
    ],
)
def test_the_verdict_on_a_claim_follows_from_its_parts(parts: tuple, verdict: str, in_round_1: str) -> None:
    assert claim_verdict(parts) == verdict
    assert claim_verdict(parts, rule=1) == in_round_1


def test_power_without_pairs_is_that_of_students_t() -> None:
    part = Part("H1", smallest=1.0, expected=3.0, deviation=2.0, error=0.0, source="a pilot")
    for runs in (3, 5, 20):
        # Power of the one-sided t test at 0.025 for a shift of expected - smallest (noncentral t).
        shift = (part.expected - part.smallest) / (part.deviation / math.sqrt(runs))
        expected = 1 - stats.nct.cdf(stats.t.ppf(0.975, runs - 1), runs - 1, shift)
        assert power_of(part, runs).supported == pytest.approx(expected, abs=0.012)


def test_the_number_of_runs_that_is_needed_has_the_power_and_one_less_has_not() -> None:
    enough = runs_needed(PART)
    assert enough is not None
    assert power_of(PART, enough).supported >= 0.8 > power_of(PART, enough - 1).supported
    assert runs_needed(Part("H", 1.0, 3.0, 2.0, error=2.0, source="")) is None
    assert f"with {enough} runs, power 0.8" in power_line(PART, enough)
    # A wider interval, for more looks, needs more runs; and no effect is called negligible only with many.
    assert (runs_needed(PART, level=0.975) or 0) > enough
    precise = Part("H", 1.0, 3.0, 2.0, error=0.2, source="")
    assert power_of(precise, 5).negligible < 0.1 < 0.8 < power_of(precise, 100).negligible


def test_the_simulated_half_width_is_that_of_the_cautious_interval() -> None:
    generator = np.random.default_rng(0)
    runs = [generator.normal(0, 2.0, 1)[0] + generator.normal(0, 10.0, 400) for _ in range(20)]
    statistics = [lambda counts, row=row: {"value": counts @ row / counts.sum(axis=1)} for row in runs]
    effect = two_way_bootstrap(statistics, 400, resamples=2000, seed=0)["value"]
    interval = effect.cautious_interval()
    means = np.array([row.mean() for row in runs])
    error = np.mean(runs, axis=0).std() / math.sqrt(400)
    half = math.sqrt((1.96 * error) ** 2 + (stats.t.ppf(0.975, 19) ** 2) * means.var(ddof=1) / 20)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.06)


@pytest.mark.parametrize("over_pairs", [True, False])
def test_the_simulation_of_coverage_computes_the_intervals_of_the_package(over_pairs: bool) -> None:
    generator = np.random.default_rng(1)
    seeds, pairs = generator.normal(0, 2.0, (5, 1)), generator.normal(0, 20.0, (40, 1))
    rows = [seed + pairs[:, 0] * over_pairs for seed in seeds[:, 0]]
    statistics = [lambda counts, row=row: {"value": counts @ row / counts.sum(axis=1)} for row in rows]
    effect = two_way_bootstrap(statistics, 40, resamples=coverage.RESAMPLES, seed=3, over_examples=over_pairs)["value"]
    simulated = coverage.bounds(seeds, pairs if over_pairs else None, seed=3)
    assert effect.interval()[1:] == pytest.approx(simulated["plain"][:, 0])
    assert effect.cautious_interval()[1:] == pytest.approx(simulated["cautious"][:, 0])


def test_a_task_that_no_arm_learns_is_dropped_by_dev_alone() -> None:
    dev = {"sick": [70.0, 60.0], "mrpc": [69.0, 70.0]}
    learned, notes = learned_tasks(dev, {"sick": 57.0, "mrpc": 69.3}, margin=2.0)
    assert learned == ["sick"]
    assert notes == [
        "mrpc was dropped: no arm exceeds the majority baseline on dev by 2 (70.00 and 69.30)",
    ]


def run(_: ClaimRun) -> Outcome:
    return Outcome([])


def test_a_registration_holds_the_whole_design() -> None:
    claim = Claim("toy", "s", 5, run, looks=(10,), parts=(PART,), design={"rates": (0.1, 0.2)})
    design = design_of(claim, budget=40.0, group_texts=True)
    assert design["seeds"] == [5, 10]
    assert design["parts"][0]["deviation"] == 2.0
    assert design["design"] == {"rates": [0.1, 0.2]}
    assert design["constants"]["PART"]["source"] == "a pilot"
    assert design["constants"]["LIMITS"] == [1, {"b": design["constants"]["PART"]}]
    assert design["budget"] is None
    sized = Claim("toy", "s", 5, run, budget_sets_size=True)
    assert design_of(sized, budget=40.0, group_texts=True)["budget"] == 40.0
    with pytest.raises(ValueError, match="design: a object cannot be registered"):
        design_of(Claim("toy", "s", 5, run, design=object()), budget=1.0, group_texts=True)
    with pytest.raises(ValueError, match="looks must ascend"):
        Claim("toy", "s", 5, run, looks=(5,))
