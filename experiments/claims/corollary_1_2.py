"""Corollary 1.2: dropout and weight decay lessen the overfitting of an encoder that is tuned on little data.

Written and committed before the first full run; the verdict row carries this file's commit.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/claims/corollary_1_2.py
Compute: about 40 minutes on two idle CPU cores; stopped runs go on with the same command, finished ones are kept, and
those that corollary_1_1 has run already are read.

Claim: where an encoder is tuned on few pairs, dropout lowers its loss on new ones, and so does weight decay.

Model: that of corollary_1_1: all-MiniLM-L6-v2 as a bi-encoder, mean pooling, [u; v; |u-v|; u*v], a linear classifier;
full rate (encoder 5e-5, classifier 3e-3), linear schedule, 32 pairs a step, the last parameters.

Grid: dropout (all four rates alike) of {0, 0.1, 0.3} x weight decay of {0, 0.01, 10}. AdamW shrinks a weight by rate x
decay a step: over these runs the usual 0.01 takes about two hundred-thousandths of the encoder's weights and a
thousandth of the classifier's. It can hardly do anything, and 10 (about 2 % and 65 %) is there so that decay is not
refuted by a value that is none.

Data: SICK, 3 classes; 100 and 250 rows of train by seed, each class's share kept; 60 and 80 steps. Test: a fixed 1,000
of the 4,927 test rows.

Runs: 9 settings x 2 sizes x 5 seeds. What was cut, and in this order: the model (a small encoder; no cross-encoder),
the test rows, other sizes and tasks. Beside them the same grid with the encoder frozen, by cached features, for the
tables.

Hypotheses; the mean over both sizes. Loss: mean cross-entropy on test, in hundredths of a nat. Gap: accuracy on the
rows that were trained on, without dropout, less that on test, in points. "Chosen" dropout is the better of 0.1 and 0.3,
"chosen" decay the better of 0.01 and 10, by dev loss, mean over seeds, sizes and the other factor's values.
  H1 (primary): loss, no dropout less the chosen one, mean over the decays.
  H2 (primary): loss, no decay less the chosen one, mean over the dropouts.
  H3: gap, no dropout less the chosen one, mean over the decays.
  H4: gap, no decay less the chosen one, mean over the dropouts.
  H5: loss, neither less both chosen.
  H6: loss, neither less the usual values (0.1, 0.01).
  H7: accuracy, both chosen less neither.
Test: 95 % percentile bootstrap over test pairs and seeds together, 2,000 resamples, paired by seed and subset;
two-sided p from the same resamples, Holm over the seven. Smallest effect of interest: 5 hundredths of a nat for H1, H2,
H5 and H6, 1 point for H3, H4 and H7.
Supported: the intervals of H1 and H2 both lie above theirs. Refuted: both lie below. Else undecided, with the smallest
difference that the design sees with 80 % power. H3-H7 are reported beside and decide nothing.

Expected, said beforehand: dropout does something, usual decay nothing that can be seen; so that the claim as it stands,
of both, may well be undecided or fail for decay.
"""

import itertools

import numpy as np

from pairjax.base.data_config import DataConfig
from pairjax.base.types import PairData
from pairjax.data.sources import load_pairs
from pairjax.evaluation.intervals import Sampled
from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.sets import data_folder, real_pairs
from pairjax.studies.small_data.arms import (
    READINGS,
    Arm,
    ArmSetting,
    RunMeasures,
    RunStatistic,
    accuracy_of,
    cut_test,
    difference,
    gap_of,
    loss_of,
    run_frozen,
    run_line,
    run_tuned,
)

DROPOUTS, DECAYS = (0.0, 0.1, 0.3), (0.0, 0.01, 10.0)
USUAL = (0.1, 0.01)
STEPS = {100: 60, 250: 80}
QUICK_STEPS = {16: 4}
Table = dict[tuple[ArmSetting, int], RunMeasures]


def settings(arm: Arm, size: int, *, quick: bool) -> list[ArmSetting]:
    """Returns the grid; its corners for a quick run."""
    steps = QUICK_STEPS[size] if quick else STEPS[size]
    values = ((0.0, 0.3), (0.0, 10.0)) if quick else (DROPOUTS, DECAYS)
    batch = 8 if quick else 32
    return [ArmSetting(arm, size, steps, p, decay, batch) for p, decay in itertools.product(*values)]


def run_all(claim: ClaimRun, data: PairData) -> Table:
    """Runs the grid with the encoder frozen and tuned, seed by seed, so an interrupted run has complete grids."""
    sizes, seeds = list(QUICK_STEPS if claim.quick else STEPS), range(claim.seeds)
    source = claim.task("overfitting", lambda: data)
    table: Table = {}
    for size in sizes:
        table |= run_frozen(settings("frozen", size, quick=claim.quick), source, data, seeds=seeds)
    for seed, size in itertools.product(seeds, sizes):
        for setting in settings("full", size, quick=claim.quick):
            claim.check_time()
            run = run_tuned(setting, data, encoder=claim.claim.encoder, seed=seed, folder=claim.root)
            table[setting, seed] = run
            claim.cells_run += 1
            name = f"dropout {setting.dropout:g} decay {setting.decay:g}"
            claim.log(f"{claim.cells_run:4d} {name:22s} {size:4d} rows seed {seed}: {run_line(run)}")
    return table


class Grid:
    """The tuned runs by dropout, weight decay, size and seed."""

    def __init__(self, table: Table) -> None:
        tuned = {key: run for key, run in table.items() if key[0].arm == "full"}
        self.runs = {(s.dropout, s.decay, s.size, seed): run for (s, seed), run in tuned.items()}
        self.dropouts, self.decays, self.sizes, self.seeds = (sorted({key[i] for key in self.runs}) for i in range(4))

    def chosen(self, axis: int) -> float:
        """Returns the value above 0 of dropout (axis 0) or decay (axis 1) with the lowest mean dev loss."""
        values = (self.dropouts, self.decays)[axis]

        def loss(value: float) -> float:
            return float(np.mean([run.dev_loss for key, run in self.runs.items() if key[axis] == value]))

        return min((value for value in values if value > 0), key=loss)

    def effect(
        self, cells: list[tuple[tuple[float, float], tuple[float, float]]], statistic: RunStatistic, *, seed: int
    ) -> Sampled:
        """Returns the first minus the second of each pair of cells (dropout, decay), mean over pairs and sizes."""
        pairs = [
            [(self.runs[*left, size, s], self.runs[*right, size, s]) for left, right in cells for size in self.sizes]
            for s in self.seeds
        ]
        return difference(pairs, statistic, seed=seed)


def tables(table: Table) -> dict[str, list[list[str]]]:
    """Returns every reading of every cell, mean over seeds, with the encoder tuned and frozen."""
    tables = {}
    grids = sorted({(s.arm, s.size) for s, _ in table})
    for (title, read), (arm, size) in itertools.product(READINGS.items(), grids):
        cells = sorted({s for s, _ in table if (s.arm, s.size) == (arm, size)}, key=lambda s: (s.dropout, s.decay))
        decays = sorted({s.decay for s in cells})
        rows = [["dropout", *(f"decay {decay:g}" for decay in decays)]]
        for p in sorted({s.dropout for s in cells}):
            means = [np.mean([read(run) for (t, _), run in table.items() if t == s]) for s in cells if s.dropout == p]
            rows.append([f"{p:g}", *(f"{mean:.2f}" for mean in means)])
        tables[f"{title}: {'encoder frozen' if arm == 'frozen' else 'full rate'}, {size:,} rows"] = rows
    return tables


def run(claim: ClaimRun) -> Outcome:
    if claim.quick:
        data = load_pairs(DataConfig(rules="entailment", sizes=(40, 30, 30)))
    else:
        data_folder()
        data = cut_test(real_pairs("sick"), 1000)
    table = run_all(claim, data)
    grid = Grid(table)
    dropout, decay = grid.chosen(0), grid.chosen(1)
    with_dropout = [((0.0, value), (dropout, value)) for value in grid.decays]
    with_decay = [((value, 0.0), (value, decay)) for value in grid.dropouts]
    both = ((0.0, 0.0), (dropout, decay))
    usual = both if claim.quick else ((0.0, 0.0), USUAL)
    effect = grid.effect
    hypotheses = [
        Hypothesis(
            "H1 dropout", effect(with_dropout, loss_of, seed=0), 5.0, True, "loss, none minus chosen", unit="nats"
        ),
        Hypothesis("H2 decay", effect(with_decay, loss_of, seed=1), 5.0, True, "loss, none minus chosen", unit="nats"),
        Hypothesis("H3 dropout, gap", effect(with_dropout, gap_of, seed=2), 1.0, False, "gap, none minus chosen"),
        Hypothesis("H4 decay, gap", effect(with_decay, gap_of, seed=3), 1.0, False, "gap, none minus chosen"),
        Hypothesis("H5 both", effect([both], loss_of, seed=4), 5.0, False, "loss, neither minus both", unit="nats"),
        Hypothesis(
            "H6 usual values", effect([usual], loss_of, seed=5), 5.0, False, "loss, neither minus usual", unit="nats"
        ),
        Hypothesis("H7 accuracy", effect([both[::-1]], accuracy_of, seed=6), 1.0, False, "both chosen minus neither"),
    ]
    notes = [
        f"chosen on dev: dropout {dropout:g}, decay {decay:g}",
        "cut: one encoder and one task, 1,000 test pairs, two sizes; only the full rate",
    ]
    return Outcome(hypotheses, tables(table), notes)


claim = Claim(
    id="corollary_1_2",
    statement="Dropout and weight decay lessen the overfitting of an encoder tuned on little data.",
    seeds=5,
    run=run,
    round=1,
)
