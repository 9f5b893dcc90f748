"""Lemma 2: attention over the two sequences improves on pooled vectors where the relation is complex.

Written and committed before the first full run; the verdict row carries this file's commit.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/claims/lemma_2.py
Compute: 283 TFLOP of products (each setting's are shown as it ends), at 80 to 120 GFLOP/s 40 to 60 minutes on two idle
CPU cores, or little longer on one; the budget of 40 minutes stops it and the same command goes on. Settings are shared
with lemma_2_1.py.

Claim: where the relation between two texts is complex (negation, quantifiers, who did it to whom), attention over their
tokens, within each, over both or across, classifies better than their pooled vectors do.

Model: frozen all-MiniLM-L6-v2; its token vectors, centred and projected on the 64 leading principal components of the
pool's tokens (no label is read), from a cache; then attention layers over the pair's tokens or none; mean pooling of
each side; the combination [u; v; u - v; u * v]; a classifier. Kinds: none (linear head); sized (a hidden ReLU layer so
wide that there are as many parameters as in 1, 2 or 3 layers of token attention: the control that tests attention and
not size); gate; vectors (attention over the four parts); self, joint, cross (attention over tokens). Layers 1, 2, 3 at
4 heads and heads 1, 2, 4, 8 at one layer. A layer is BERT's, feed-forward four times its width: 50,000 parameters.

Data: two pools of about 3,200 pairs of at most 32 tokens, three classes each. SICK (official splits together) and
rule-made entailment; of each complex slice 800 pairs at most, the rest drawn from what is left.
Slices: rules name theirs (`negation`, `quantifiers`, `roles`; every other rule is the rest). SICK by words, the first
that fits: roles, the same words in another order (about 30 pairs, reported alone); negation, a word of negation in A or
B (no, not, nobody, n't, without ...); quantifiers, words such as all, some, two that are not the same in A and B; else
the rest. Scores are accuracy, in points (percent).

Runs: nested cross-validation, 4 outer folds stratified by label. For each outer fold, layers, heads and learning rate
(of {.0015, .004, .01}; for pooled vectors {.0015, .004, .012, .04}) are chosen by mean accuracy over all pairs of the 3
inner folds, one seed; then 5 other seeds train on the three folds and are read on the outer one. 400 steps of 32 pairs,
decay .01, no dropout, last parameters. Seeds: 5.

Hypotheses (effects in points; the mean over slices, then over tasks):
  A1 (primary): the best of self, joint and cross (chosen by inner folds) less `sized` with as many parameters as the
    layers chosen, complex slices.
  A2: the same less none. It decides nothing, since attention is then also the larger model.
  A3: A1's effect less the same on the rest ("where the relation is complex").
  A4, A5, A6: A1's effect on negation, on quantifiers (both tasks), on roles (rule-made alone).
  A7: the best of vectors and gate less the best of sized, complex slices.
Test: 95 % percentile bootstrap over pairs and seeds together, 2,000 resamples, paired; two-sided p from the same
resamples, Holm over the seven. Smallest effect of interest: 2 points, since attention over tokens costs twenty to fifty
times what a head costs. Supported: A1's interval lies above 2 points. Refuted: it lies wholly below. Else undecided,
with the smallest difference that the design sees with 80 % power. A2-A7 are reported beside and decide nothing.

Cut to fit two cores: the width (64 of 384 numbers), the grid (layers and heads one at a time), rows (3,200 a task),
tasks (two), rates (three); seeds last. Known limits: SICK's sentences and the rules' words recur across folds, alike
for all kinds; interactions begin from chance, where a pretrained cross-encoder does not. A pilot chose rates and steps
on other draws: rule-made pairs of another seed, and SICK's first 2,400 train and 1,000 test pairs of one fit each;
there attention, vectors and hidden layers of equal size came within three points of each other, and well above none. A
run stopped after 6 minutes (pooled vectors, self 1x4) timed the design; linear heads and `self` preferred their highest
rate there by inner scores, so one more rate was added to both lists. No effect was computed before this was committed.

Expected, said beforehand: A2 large, A1 near nothing: that is, what helps is a second layer, not attention.
"""

import numpy as np

from pairjax.evaluation.intervals import Sampled, mean_of_sampled
from pairjax.studies.attention.board import COMPLEX, Search, run_search
from pairjax.studies.attention.nested_cv import TOKEN_KINDS, AttentionSetting, chosen_settings, out_of_fold
from pairjax.studies.attention.relations import Slice
from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome

SMALLEST = 2.0


def predictions(search: Search, task: str, *kinds: str, twin: bool = False) -> np.ndarray:
    """Returns out-of-fold predictions of the setting that inner folds chose, or of the pooled model of its size."""
    results = search.results_of(task, *kinds)
    chosen = chosen_settings(results)
    if twin:
        results = search.results[task]
        chosen = [AttentionSetting("sized", setting.layers) for setting in chosen]
    return out_of_fold(results, chosen, search.pools[task].fold)


def over_none(search: Search, task: str) -> Sampled:
    """Returns token attention minus a linear head."""
    attention = predictions(search, task, *TOKEN_KINDS)
    return search.difference(task, attention, predictions(search, task, "none"), COMPLEX[task])


def over_size(search: Search, task: str, slices: tuple[Slice, ...]) -> Sampled:
    """Returns token attention minus a pooled model of its size."""
    attention = predictions(search, task, *TOKEN_KINDS)
    return search.difference(task, attention, predictions(search, task, *TOKEN_KINDS, twin=True), slices)


def pooled_gain(search: Search, task: str) -> Sampled:
    """Returns the best of attention over vectors and gates minus the best hidden layer."""
    left, right = predictions(search, task, "vectors", "gate"), predictions(search, task, "sized")
    return search.difference(task, left, right, COMPLEX[task])


def on_slice(search: Search, name: Slice) -> Sampled:
    """Returns A1's effect on one slice, over the tasks on which the slice counts."""
    return mean_of_sampled([over_size(search, task, (name,)) for task in search.pools if name in COMPLEX[task]])


def run(claim: ClaimRun) -> Outcome:
    search = run_search(claim)
    tasks = list(search.pools)
    none = mean_of_sampled([over_none(search, task) for task in tasks])
    size = mean_of_sampled([over_size(search, task, COMPLEX[task]) for task in tasks])
    rest = mean_of_sampled([over_size(search, task, ("rest",)) for task in tasks])
    pooled = mean_of_sampled([pooled_gain(search, task) for task in tasks])
    # Slices are disjoint and resampled together, so resample i of one belongs to resample i of the other.
    contrast = size - rest
    hypotheses = [
        Hypothesis("A1 over equal size", size, SMALLEST, True, "token attention minus a hidden layer of its size"),
        Hypothesis("A2 over none", none, SMALLEST, False, "token attention minus a linear head, complex slices"),
        Hypothesis("A3 above all there", contrast, SMALLEST, False, "A1's effect minus that on the rest"),
    ]
    names: tuple[Slice, ...] = ("negation", "quantifiers", "roles")
    for index, name in enumerate(names, start=4):
        hypotheses.append(
            Hypothesis(f"A{index} {name}", on_slice(search, name), SMALLEST, False, "A1's effect on this slice")
        )
    hypotheses.append(
        Hypothesis("A7 vectors or gate", pooled, SMALLEST, False, "the better of the two minus the best hidden layer")
    )
    chosen = [["task", *(f"fold {fold}" for fold in range(search.design.folds))]]
    for task in tasks:
        chosen.append([task, *(setting.name for setting in chosen_settings(search.results_of(task, *TOKEN_KINDS)))])
    tables = {f"{task}: accuracy on outer folds, mean over seeds ± deviation": search.table(task) for task in tasks}
    return Outcome(hypotheses, tables | {"Token attention chosen by inner folds": chosen}, search.notes())


claim = Claim(
    id="lemma_2",
    statement="Attention over the two sequences improves on pooled vectors where the relation is complex.",
    seeds=5,
    run=run,
    round=1,
)
