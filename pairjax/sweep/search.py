"""How a sweep chooses: rungs of trials on folds, and the score of what was chosen on folds that had no part in it.

A trial is a config. Its score is the mean over folds, each scored by a model that has not seen it. The best of many
such scores is too good: it was chosen by them. So the whole search is repeated once for each fold o, on the other folds
alone and by models that have seen neither o nor the fold that they are scored on; what it chooses is trained on all but
o and scored on o. The mean of these scores is that of the procedure, on pairs that chose nothing (nested
cross-validation; Cawley and Talbot 2010). A model without o and i serves the search of o and that of i.

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
"""Stands for the data's own dev split where there are no folds."""


class Need(NamedTuple):
    """A model that the search asks for.

    Attributes:
        trial: Number of the trial.
        held: Folds that it does not see and is scored on, ascending; `(DEV,)` sees all of train.
        share: Of the trial's full number of steps, in (0, 1].
    """

    trial: int
    held: tuple[int, ...]
    share: float


Scores = Mapping[Need, Float[np.ndarray, "seeds held"]]
"""A score for each seed and held fold; NaN where the run diverged."""
Evaluate = Callable[[Sequence[Need]], Scores]


class Rung(NamedTuple):
    """One round of a search.

    Attributes:
        share: Of the full number of steps that its trials are trained.
        keep: How many of them go on.
    """

    share: float
    keep: int


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found.

    Attributes:
        best: The trial with the best mean over all folds, among those that reached the last rung.
        reached: For each trial, the share of steps at which it was scored last.
        scores: Of every model that was asked for.
        chosen: For each fold, the trial that the other folds chose; -1 where all of them diverged; empty unless nested.
        nested: For each fold, the mean over seeds of the chosen trial's scores on it; NaN where there is none.
    """

    best: int
    reached: tuple[float, ...]
    scores: Scores
    chosen: tuple[int, ...] = ()
    nested: tuple[float, ...] = ()


def whole_rung() -> tuple[Rung, ...]:
    """Every trial at full length: a grid or random search."""
    return (Rung(1.0, 1),)


def halving_rungs(trials: int, *, factor: int) -> tuple[Rung, ...]:
    """Successive halving (Jamieson and Talwalkar 2016): each rung keeps one in `factor`, to train so much longer.

    Each rung trains anew, with the whole schedule within its steps, so that a short run is judged at its end.

    Args:
        trials: How many begin.
        factor: Of survivors and of steps; at least 2.
    """
    rungs, left = [], trials
    while left > 1:
        left = math.ceil(left / factor)
        rungs.append(left)
    rungs = rungs or [1]
    return tuple(Rung(float(factor) ** (place + 1 - len(rungs)), keep) for place, keep in enumerate(rungs))


def spread_of(values: Sequence[float] | np.ndarray) -> Spread:
    """Mean of fold scores with an interval that knows of the folds' overlap; NaN where any of them is."""
    folds = [float(value) for value in values]
    return mean_and_spread(folds, overlap=1.0 / (len(folds) - 1) if len(folds) > 1 else 0.0)


def _leading(trials: Sequence[int], means: Mapping[int, float], *, sign: float, keep: int) -> list[int]:
    """The best trials, diverged ones left out; the earlier one of equals."""
    finite = [trial for trial in trials if math.isfinite(means[trial])]
    return sorted(finite, key=lambda trial: (-sign * means[trial], trial))[:keep]


def search(
    trials: int,
    evaluate: Evaluate,
    *,
    folds: int,
    rungs: Sequence[Rung],
    nested: bool,
    sign: float = 1.0,
) -> SearchOutcome:
    """Choose a trial.

    Args:
        trials: How many there are.
        evaluate: Trains and scores models; asked once a rung for all that it needs.
        folds: How many; 0 scores on dev, and is never nested.
        rungs: From the first to the last, which has share 1.
        nested: Whether the search is repeated without each fold.
        sign: -1 where less of the metric is better.

    Raises:
        UserError: No trial finished.
    """
    everything = tuple(range(folds)) or (DEV,)
    contexts: tuple[int | None, ...] = (None, *(range(folds) if nested else ()))

    def needs(context: int | None, trial: int, share: float) -> list[Need]:
        """A trial's models in the search of a context, one for each fold that it is scored on."""
        if context is None:
            return [Need(trial, (fold,), share) for fold in everything]
        pairs = (tuple(sorted((context, fold))) for fold in everything if fold != context)
        return [Need(trial, pair, share) for pair in pairs]

    def mean_of(context: int | None, trial: int, share: float) -> float:
        own = [
            scores[one][:, place]
            for one in needs(context, trial, share)
            for place, fold in enumerate(one.held)
            if fold != context
        ]
        return float(np.mean(own))

    alive: dict[int | None, list[int]] = {context: list(range(trials)) for context in contexts}
    reached = [0.0] * trials
    scores: dict[Need, np.ndarray] = {}
    for rung in rungs:
        wanted = dict.fromkeys(
            one for context in contexts for trial in alive[context] for one in needs(context, trial, rung.share)
        )
        scores |= evaluate([one for one in wanted if one not in scores])
        for trial in alive[None]:
            reached[trial] = rung.share
        for context in contexts:
            means = {trial: mean_of(context, trial, rung.share) for trial in alive[context]}
            alive[context] = _leading(alive[context], means, sign=sign, keep=rung.keep)
        if not alive[None]:
            raise UserError(
                "no trial finished",
                got=f"a loss that is not finite in every one of {trials}",
                fix="search lower rates",
            )
    if not nested:
        return SearchOutcome(alive[None][0], tuple(reached), scores)
    chosen = tuple(alive[fold][0] if alive[fold] else -1 for fold in range(folds))
    last = [Need(trial, (fold,), 1.0) for fold, trial in enumerate(chosen) if trial >= 0]
    scores |= evaluate([one for one in last if one not in scores])
    outer = tuple(
        float(np.mean(scores[Need(trial, (fold,), 1.0)])) if trial >= 0 else math.nan
        for fold, trial in enumerate(chosen)
    )
    return SearchOutcome(alive[None][0], tuple(reached), scores, chosen, outer)
