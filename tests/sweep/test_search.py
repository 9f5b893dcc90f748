"""The search itself, on made-up scores: what chooses, and what must not."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.evaluation.intervals import mean_and_spread
from pairjax.sweep.search import DEV, Need, Rung, fold_spread, full_rung, halving_rungs, search_trials

Score = Callable[[Need, int], float]


def evaluate_by(score: Score, asked: list[Need] | None = None) -> Callable[[Sequence[Need]], dict[Need, np.ndarray]]:
    """One seed; `score(need, fold)`."""

    def evaluate(needs: Sequence[Need]) -> dict[Need, np.ndarray]:
        if asked is not None:
            asked.extend(needs)
        return {need: np.array([[score(need, fold) for fold in need.held]]) for need in needs}

    return evaluate


def test_the_best_mean_over_folds_is_chosen_and_every_model_is_asked_for_once() -> None:
    asked: list[Need] = []
    table = np.random.default_rng(0).random((6, 4))
    outcome = search_trials(
        6,
        evaluate_by(lambda need, fold: float(table[need.trial, fold]), asked),
        folds=4,
        rungs=full_rung(),
        nested=True,
    )
    assert outcome.best == int(table.mean(axis=1).argmax())
    assert len(asked) == len(set(asked)) == 6 * (4 + 6)
    # What a fold's search chooses is the best on the other folds; its score is that fold's.
    for fold in range(4):
        others = np.delete(table, fold, axis=1).mean(axis=1)
        assert outcome.chosen[fold] == int(others.argmax())
        assert outcome.nested[fold] == table[outcome.chosen[fold], fold]


def test_less_is_better_where_the_sign_says_so() -> None:
    outcome = search_trials(
        3, evaluate_by(lambda need, fold: float(need.trial)), folds=3, rungs=full_rung(), nested=True, sign=-1.0
    )
    assert outcome.best == 0
    assert outcome.chosen == (0, 0, 0)


def test_without_folds_dev_chooses_and_nothing_is_nested() -> None:
    asked: list[Need] = []
    outcome = search_trials(
        3, evaluate_by(lambda need, fold: float(need.trial), asked), folds=0, rungs=full_rung(), nested=False
    )
    assert [need.held for need in asked] == [(DEV,)] * 3
    assert (outcome.best, outcome.nested) == (2, ())


def test_what_chooses_for_a_fold_has_neither_learnt_from_it_nor_been_scored_on_it() -> None:
    """Whatever a model that has seen fold 1, or a score on fold 1, says: the choice for fold 1 stays."""
    table = np.random.default_rng(1).random((8, 4))

    def score(need: Need, fold: int) -> float:
        seen = 1 not in need.held
        return 100.0 * (need.trial == 3) if seen or fold == 1 else float(table[need.trial, fold])

    for rungs in (full_rung(), halving_rungs(8, factor=2)):
        outcome = search_trials(8, evaluate_by(score), folds=4, rungs=rungs, nested=True)
        assert outcome.best == 3
        assert outcome.chosen[0] == 3
        assert outcome.chosen[1] != 3
        others = np.delete(table, 1, axis=1).mean(axis=1)
        assert outcome.chosen[1] == int(others.argmax())


def test_halving_trains_few_long_and_many_short_and_finds_the_best() -> None:
    asked: list[Need] = []
    rungs = halving_rungs(16, factor=3)
    assert [rung.keep for rung in rungs] == [6, 2, 1]
    assert [rung.share for rung in rungs] == pytest.approx([1 / 9, 1 / 3, 1.0])
    assert halving_rungs(1, factor=3) == (Rung(1.0, 1),)
    outcome = search_trials(
        16, evaluate_by(lambda need, fold: need.trial * need.share, asked), folds=3, rungs=rungs, nested=False
    )
    assert outcome.best == 15
    lengths = {share: len({need.trial for need in asked if need.share == share}) for _, _, share in asked}
    assert sorted(lengths.values()) == [2, 6, 16]
    assert outcome.reached[15] == 1.0
    assert outcome.reached[0] == pytest.approx(1 / 9)


def test_a_trial_that_diverged_is_never_chosen_and_all_of_them_are_an_error() -> None:
    def score(need: Need, fold: int) -> float:
        return math.nan if need.trial == 2 and fold == 0 else float(need.trial)

    outcome = search_trials(3, evaluate_by(score), folds=3, rungs=full_rung(), nested=True)
    assert outcome.best == 1
    # Fold 0's search never met what diverges there, and chooses it: its score is none, and shows.
    assert outcome.chosen[0] == 2
    assert math.isnan(outcome.nested[0])
    assert math.isnan(fold_spread(outcome.nested).mean)
    with pytest.raises(UserError, match="got a loss or a score that is not finite in every one of 3"):
        search_trials(3, evaluate_by(lambda need, fold: math.nan), folds=3, rungs=full_rung(), nested=True)


@pytest.mark.parametrize("method", ["grid", "halving"])
def test_of_trials_that_are_all_noise_the_best_looks_good_and_the_nested_score_is_chance(method: str) -> None:
    rng = np.random.default_rng(0)
    best, nested = [], []
    for _ in range(200):
        drawn: dict[tuple[Need, int], float] = {}

        def score(need: Need, fold: int, drawn: dict[tuple[Need, int], float] = drawn) -> float:
            return drawn.setdefault((need, fold), float(rng.normal(0.5, 0.05)))

        rungs = halving_rungs(30, factor=3) if method == "halving" else full_rung()
        outcome = search_trials(30, evaluate_by(score), folds=5, rungs=rungs, nested=True)
        own = [drawn[Need(outcome.best, (fold,), 1.0), fold] for fold in range(5)]
        best.append(np.mean(own))
        nested.append(np.mean(outcome.nested))
    # 200 means of 5 draws of deviation 0.05: a standard error of 0.0016.
    assert abs(np.mean(nested) - 0.5) < 0.006
    assert np.mean(best) > (0.53 if method == "grid" else 0.505)


def test_the_interval_over_folds_is_wider_than_that_of_independent_runs() -> None:
    values = [0.8, 0.82, 0.79, 0.85, 0.81]
    plain, folds = mean_and_spread(values), fold_spread(values)
    assert folds.mean == plain.mean
    # Nadeau and Bengio (2003): (1 / 5 + 1 / 4) for 1 / 5.
    assert (folds.high - folds.mean) / (plain.high - plain.mean) == pytest.approx(math.sqrt(2.25))
