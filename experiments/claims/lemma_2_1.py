"""Lemma 2.1: the kind of attention, its layers and heads matter, and are to be found by search with cross-validation.

Written and committed before the first full run; the verdict row carries this file's commit.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/claims/lemma_2_1.py
Compute: shares all of its settings with lemma_2.py; alone as much as that, after it a minute.

Claim: which attention is used (kind), and with how many layers and heads, makes a difference to the score, and a search
by cross-validation finds a choice that is better than one made blindly.

Model, data, slices, runs: as in lemma_2.py (frozen all-MiniLM-L6-v2, tokens projected on 64 principal components, mean
pooling; about 3,200 pairs each of SICK and rule-made entailment; layers 1, 2, 3 at 4 heads, heads 1, 2, 4, 8 at one
layer; nested cross-validation with 4 outer folds, 3 inner ones each; rate chosen with the rest). Seeds: 5.

Hypotheses (effects in points of accuracy on outer folds; the mean over slices with scores of their own, the rest among
them, then over tasks; a choice is made by the inner folds of each outer fold, a blind choice is the mean of all):
  S1 (primary), kind: of self, joint, cross, vectors and gate, each with its own best layers, heads and rate, the one
    chosen less the mean of the five.
  S2 (primary), layers and heads: within self, joint and cross, the layers and heads chosen less the mean of the six
    settings; the mean over the three kinds.
  S3: layers alone, at 4 heads, as S2.     S4: heads alone, at one layer, as S2.
  S5: the whole search (all kinds, layers, heads) less the package's default of cross-attention, one layer, 4 heads.
Test: 95 % percentile bootstrap over pairs and seeds together, 2,000 resamples, paired (choices stay as they were made);
two-sided p from the same resamples, Holm over the five. Smallest effect of interest: 1 point.
Supported: the intervals of S1 and S2 both lie above 1 point. Refuted: both lie wholly below. Else undecided, with the
smallest difference that the design sees with 80 % power. S3-S5 are reported beside and decide nothing.

Cut to fit two cores: as in lemma_2.py; heads were not varied at 2 and 3 layers. A verdict is about small grids on
frozen tokens of one encoder, and says nothing of interactions trained together with the encoder.

Expected, said beforehand: layers matter more than heads; the choice of heads is worth less than a point.
"""

from collections.abc import Callable

import numpy as np

from pairjax.evaluation.intervals import Sampled, mean_of_sampled
from pairjax.studies.attention.board import COMPLEX, MIDDLE, Search, run_search
from pairjax.studies.attention.nested_cv import (
    TOKEN_KINDS,
    AttentionSetting,
    SettingResult,
    chosen_settings,
    out_of_fold,
)
from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome

SMALLEST = 1.0
KINDS = ("self", "joint", "cross", "vectors", "gate")
DEFAULT = AttentionSetting("cross", 1, MIDDLE)


def best(search: Search, task: str, results: dict[AttentionSetting, SettingResult]) -> np.ndarray:
    """Returns out-of-fold predictions of the settings that inner folds choose."""
    return out_of_fold(results, chosen_settings(results), search.pools[task].fold)


def kind_gain(search: Search, task: str) -> Sampled:
    """Returns the chosen kind minus the mean over kinds, each with its own best setting."""
    kinds = [search.results_of(task, kind) for kind in KINDS]
    choice = best(search, task, search.results_of(task, *KINDS))
    return search.difference(task, choice, [best(search, task, results) for results in kinds], slices_of(task))


def setting_gain(search: Search, task: str, select: Callable[[AttentionSetting], bool]) -> Sampled:
    """Returns the chosen layers and heads minus the mean of the selected settings, over kinds of token attention."""
    gains = []
    for kind in TOKEN_KINDS:
        results = {setting: result for setting, result in search.results_of(task, kind).items() if select(setting)}
        settings = [result.predicted for result in results.values()]
        gains.append(search.difference(task, best(search, task, results), settings, slices_of(task)))
    return mean_of_sampled(gains)


def search_gain(search: Search, task: str) -> Sampled:
    """Returns the whole search minus the default."""
    choice = best(search, task, search.results_of(task, *KINDS))
    return search.difference(task, choice, search.results[task][DEFAULT].predicted, slices_of(task))


def slices_of(task: str) -> tuple[str, ...]:
    """Returns the slices of a task that have scores of their own."""
    return (*COMPLEX[task], "rest")


def run(claim: ClaimRun) -> Outcome:
    search = run_search(claim)
    tasks = list(search.pools)

    def over_tasks(effect: Callable[[str], Sampled]) -> Sampled:
        return mean_of_sampled([effect(task) for task in tasks])

    hypotheses = [
        Hypothesis(
            "S1 kind",
            over_tasks(lambda t: kind_gain(search, t)),
            SMALLEST,
            True,
            "chosen kind minus the mean over kinds",
        ),
        Hypothesis(
            "S2 layers and heads",
            over_tasks(lambda t: setting_gain(search, t, lambda setting: True)),
            SMALLEST,
            True,
            "chosen layers and heads minus the mean over settings",
        ),
        Hypothesis(
            "S3 layers",
            over_tasks(lambda t: setting_gain(search, t, lambda setting: setting.heads == MIDDLE)),
            SMALLEST,
            False,
            "chosen layers minus the mean, with 4 heads",
        ),
        Hypothesis(
            "S4 heads",
            over_tasks(lambda t: setting_gain(search, t, lambda setting: setting.layers == 1)),
            SMALLEST,
            False,
            "chosen heads minus the mean, with one layer",
        ),
        Hypothesis(
            "S5 search over default",
            over_tasks(lambda t: search_gain(search, t)),
            SMALLEST,
            False,
            f"the whole search minus {DEFAULT.name}",
        ),
    ]
    chosen = [["task", "among", *(f"fold {fold}" for fold in range(search.design.folds))]]
    for task in tasks:
        for kinds in (KINDS, *((kind,) for kind in KINDS)):
            names = [setting.name for setting in chosen_settings(search.results_of(task, *kinds))]
            chosen.append([task, kinds[0] if len(kinds) == 1 else "all", *names])
    tables = {f"{task}: accuracy on outer folds, mean over seeds ± deviation": search.table(task) for task in tasks}
    return Outcome(hypotheses, tables | {"Settings chosen by inner folds": chosen}, search.notes())


claim = Claim(
    id="lemma_2_1",
    statement="The kind of attention, layers and heads matter, and are to be found by search with cross-validation.",
    seeds=5,
    run=run,
    round=1,
)
