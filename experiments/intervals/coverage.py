"""How often the intervals of `two_way_bootstrap` contain the true effect, for 3, 5 and 20 runs.

Command: python -m experiments.intervals.coverage (about 10 seconds of one core). README.md holds its table.

Model: the effect of run r on pair i is seed_r + pair_i, both normal with mean 0; 400 pairs with a standard error of
1.5 points, or no resampling of pairs ("seeds only"). Each simulated experiment is bootstrapped with the same draws, as
the package does with a fixed seed, so that all experiments are one matrix product.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pairjax.evaluation.intervals import LEVEL, draw_counts, widening
from pairjax.studies.verdict import markdown

PAIRS, ERROR = 400, 1.5
EXPERIMENTS, RESAMPLES = 2000, 2000
DESIGNS = [(runs, deviation, ERROR) for runs in (3, 5, 20) for deviation in (1.0, 2.0, 5.0)]
DESIGNS += [(runs, 5.0, 0.0) for runs in (3, 5, 20)]


class Coverage(NamedTuple):
    """Share of intervals that contain the true effect, and share that lie above it, as text for a table."""

    plain: str
    cautious: str
    plain_above: str
    cautious_above: str


def bounds(seeds: np.ndarray, pairs: np.ndarray | None, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Computes the plain and the cautious interval of each experiment, as `two_way_bootstrap` does.

    Args:
        seeds: float64 [runs, experiments]; the effect of each run.
        pairs: float64 [pairs, experiments]; the effect of each pair; None if only runs are resampled.
        seed: Seeds the draws.

    Returns:
        `plain` and `cautious`: float64 [2, experiments]; lower and upper bounds.
    """
    runs = len(seeds)
    examples_seed, runs_seed = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
    shares = np.concatenate(list(draw_counts(runs, resamples=RESAMPLES, seed=runs_seed))) / runs
    wider = 1.0 / runs + widening(runs) * (shares - 1.0 / runs)
    over_pairs: np.ndarray | float = 0.0
    if pairs is not None:
        counts = np.concatenate(list(draw_counts(len(pairs), resamples=RESAMPLES, seed=examples_seed)))
        over_pairs = counts @ pairs / len(pairs)
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    weights = {"plain": shares, "cautious": wider}
    return {name: np.quantile(weight @ seeds + over_pairs, tails, axis=0) for name, weight in weights.items()}


def coverage(runs: int, deviation: float, error: float) -> Coverage:
    """Simulates experiments of one design, whose true effect is 0."""
    generator = np.random.default_rng([runs, round(10 * deviation), round(10 * error)])
    seeds = generator.normal(0.0, deviation, (runs, EXPERIMENTS))
    pairs = generator.normal(0.0, error * np.sqrt(PAIRS), (PAIRS, EXPERIMENTS)) if error else None
    intervals = bounds(seeds, pairs)
    inside = [((low <= 0) & (high >= 0)).mean() for low, high in intervals.values()]
    above = [(low > 0).mean() for low, _ in intervals.values()]
    return Coverage(*(f"{share:.3f}" for share in (*inside, *above)))


def table(designs: Sequence[tuple[int, float, float]]) -> list[list[str]]:
    """Returns a row for each design; the first row is the header."""
    head = ["runs", "deviation over runs", "error over pairs", "plain", "cautious"]
    rows = [[*head, "plain above", "cautious above"]]
    rows += [
        [str(runs), f"{deviation:g}", f"{error:g}" if error else "seeds only", *coverage(runs, deviation, error)]
        for runs, deviation, error in designs
    ]
    return rows


if __name__ == "__main__":
    print(markdown(table(DESIGNS)), end="")
