"""Chooses among trials: rungs of trials on folds, and the score of the choice on folds that had no part in it.

A trial is a config. Its score is the mean over folds, each scored by a model that has not seen it. The best of many
such scores is too optimistic, since the scores chose it. The whole search is therefore repeated once for each fold o,
on the other folds only, with models that have seen neither o nor the fold that they are scored on. The chosen trial is
trained on everything but o and scored on o. The mean of these scores estimates the procedure on pairs that chose
nothing (nested cross-validation; Cawley and Talbot 2010). A model without o and i serves both the search of o and that
of i.

Nothing here trains: `evaluate` does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pairjax.base.errors import UserError
from pairjax.evaluation.intervals import Spread, mean_and_spread

DEV = -1
"""The number of the data's own dev split, used if there are no folds."""


class Need(NamedTuple):
    """A model that the search asks for.

    Attributes:
        trial: Number of the trial.
        held: Folds that the model does not see and is scored on, ascending; `(DEV,)` sees all of train.
        share: Share of the trial's full number of steps, in (0, 1].
    """

    trial: int
    held: tuple[int, ...]
    share: float


Scores = Mapping[Need, Float[np.ndarray, "seeds held"]]
"""A score for each seed and held-out fold; NaN if the run diverged."""
Evaluate = Callable[[Sequence[Need]], Scores]


class Rung(NamedTuple):
    """One round of a search.

    Attributes:
        share: Share of the full number of steps that its trials train for.
        keep: Number of trials that continue to the next rung.
    """

    share: float
    keep: int


@dataclass(frozen=True)
class SearchOutcome:
    """The result of a search.

    Attributes:
        best: The trial with the best mean over all folds, among those that reached the last rung.
        reached: For each trial, the share of steps at which it was scored last.
        scores: The scores of every model that the search asked for.
        chosen: For each fold, the trial that the other folds chose; -1 if all of them diverged; empty unless nested.
        nested: For each fold, the mean over seeds of the chosen trial's scores on it; NaN if there is none.
    """

    best: int
    reached: tuple[float, ...]
    scores: Scores
    chosen: tuple[int, ...] = ()
    nested: tuple[float, ...] = ()


def full_rung() -> tuple[Rung, ...]:
    """Returns one rung with every trial at full length: a grid or random search."""
    return (Rung(1.0, 1),)


def halving_rungs(trials: int, *, factor: int) -> tuple[Rung, ...]:
    """Returns the rungs of successive halving (Jamieson and Talwalkar 2016).

    Each rung keeps one trial in `factor` and trains it `factor` times as long. It starts again from the initial
    parameters, with the whole schedule within its steps, so a short run is judged at its end.

    Args:
        trials: Number of trials on the first rung.
        factor: Ratio of trials, and of steps, between two rungs; at least 2.
    """
    rungs, remaining = [], trials
    while remaining > 1:
        remaining = math.ceil(remaining / factor)
        rungs.append(remaining)
    rungs = rungs or [1]
    return tuple(Rung(float(factor) ** (place + 1 - len(rungs)), keep) for place, keep in enumerate(rungs))


def fold_spread(values: Sequence[float] | np.ndarray) -> Spread:
    """Returns the mean of fold scores with an interval that allows for overlapping train sets; NaN if any score is."""
    folds = [float(value) for value in values]
    return mean_and_spread(folds, overlap=1.0 / (len(folds) - 1) if len(folds) > 1 else 0.0)


def _leading(trials: Sequence[int], means: Mapping[int, float], *, sign: float, keep: int) -> list[int]:
    """Returns the best trials, without diverged ones; of equal trials the earlier."""
    finite = [trial for trial in trials if math.isfinite(means[trial])]
    return sorted(finite, key=lambda trial: (-sign * means[trial], trial))[:keep]


def _needs(context: int | None, trial: int, share: float, folds: Sequence[int]) -> list[Need]:
    """Returns a trial's models in the search of a context, one for each fold that it is scored on."""
    if context is None:
        return [Need(trial, (fold,), share) for fold in folds]
    pairs = (tuple(sorted((context, fold))) for fold in folds if fold != context)
    return [Need(trial, pair, share) for pair in pairs]


def search_trials(
    trials: int,
    evaluate: Evaluate,
    *,
    folds: int,
    rungs: Sequence[Rung],
    nested: bool,
    sign: float = 1.0,
) -> SearchOutcome:
    """Chooses a trial.

    Args:
        trials: Number of trials.
        evaluate: Trains and scores models; called once a rung with all models that the rung needs.
        folds: Number of folds; 0 scores on dev, which is never nested.
        rungs: The rungs, the last of which has share 1.
        nested: Whether the search is repeated without each fold.
        sign: -1 if lower is better.

    Raises:
        UserError: No trial finished.
    """
    all_folds = tuple(range(folds)) or (DEV,)
    # A context is a search: None sees all folds, a number the folds without that one.
    contexts: tuple[int | None, ...] = (None, *(range(folds) if nested else ()))

    def mean_of(context: int | None, trial: int, share: float) -> float:
        columns = [
            scores[need][:, place]
            for need in _needs(context, trial, share, all_folds)
            for place, fold in enumerate(need.held)
            if fold != context
        ]
        return float(np.mean(columns))

    alive: dict[int | None, list[int]] = {context: list(range(trials)) for context in contexts}
    reached = [0.0] * trials
    scores: dict[Need, np.ndarray] = {}
    for rung in rungs:
        wanted = dict.fromkeys(
            need
            for context in contexts
            for trial in alive[context]
            for need in _needs(context, trial, rung.share, all_folds)
        )
        scores |= evaluate([need for need in wanted if need not in scores])
        for trial in alive[None]:
            reached[trial] = rung.share
        for context in contexts:
            means = {trial: mean_of(context, trial, rung.share) for trial in alive[context]}
            alive[context] = _leading(alive[context], means, sign=sign, keep=rung.keep)
        if not alive[None]:
            raise UserError(
                "no trial finished",
                got=f"a loss or a score that is not finite in every one of {trials}",
                fix="search lower rates, or choose a metric that is defined on every fold",
            )
    if not nested:
        return SearchOutcome(alive[None][0], tuple(reached), scores)
    chosen = tuple(alive[fold][0] if alive[fold] else -1 for fold in range(folds))
    last = [Need(trial, (fold,), 1.0) for fold, trial in enumerate(chosen) if trial >= 0]
    scores |= evaluate([need for need in last if need not in scores])
    outer = tuple(
        float(np.mean(scores[Need(trial, (fold,), 1.0)])) if trial >= 0 else math.nan
        for fold, trial in enumerate(chosen)
    )
    return SearchOutcome(alive[None][0], tuple(reached), scores, chosen, outer)
