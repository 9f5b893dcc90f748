"""Corollary 1.1: tuning the encoder on little data overfits; a frozen or slowly tuned one does not.

Written and committed before the first full run; the verdict row carries this file's commit.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/claims/corollary_1_1.py
Compute: about 40 minutes on two idle CPU cores; stopped runs go on with the same command, finished ones are kept.

Claim: with few training pairs a fine-tuned encoder fits them and not the task, so that its accuracy on its own pairs
stands far above that on new ones and its loss on new ones is the higher; with the encoder frozen, or tuned at a low
rate, that does not happen (or less).

Model: all-MiniLM-L6-v2 as a bi-encoder, mean pooling, [u; v; |u-v|; u*v], a linear classifier. Four arms that differ in
the encoder's learning rate alone: frozen 0, low 5e-6, full 5e-5, gradual 5e-5 with layers that join from the top down
over the first half of the run. In all of them: the classifier's rate 3e-3, dropout 0.1, weight decay 0.01, linear
schedule, 32 pairs a step, the last parameters (early stopping would hide what is asked). The frozen arm trains on
cached features, which is the same model; as everywhere in pairjax, a frozen encoder itself runs without dropout.

Data: SICK, 3 classes. Train: 50, 100, 250, 1,000 and all 4,500 rows, drawn by seed with each class's share. Test: a
fixed 1,000 of the 4,927 test rows. Steps: 60, 60, 80, 125 and 423 (38, 19, 10, 4 and 3 epochs), the same in every arm.

Runs: 50, 100 and 250 rows with 5 seeds; 1,000 with 3; all with 1. What was cut, and in this order: the model (a small
encoder; no cross-encoder), the test rows, other target tasks, then seeds at the sizes that no primary hypothesis reads.

Hypotheses; "little" is the mean over 50, 100 and 250 rows. Loss: mean cross-entropy on test, in hundredths of a nat.
Gap: accuracy on the rows that were trained on (1,000 of them at most, without dropout) less that on test, in points.
  H1 (primary): gap, full less frozen, little data.
  H2 (primary): loss, full less frozen, little data.
  H3 (primary): loss, full less low, little data.
  H4: gap, full less low, little data.
  H5: accuracy, frozen less full, little data: whether the overfitting costs more than the tuning gains.
  H6: H2's effect less the same at 1,000 rows ("on little data").
  H7: loss, full less gradual, little data.
  H8: generality lost: a linear probe on MRPC (accuracy) and STS-B (Spearman), mean of both, before tuning less after
      the full rate on 250 rows (3 seeds). Probes: logistic or ridge regression on [u; v; |u-v|; u*v] of the encoder's
      frozen vectors, penalty by dev, 600 / 300 / 1,000 pairs of each task.
  H9: the same probes, low less full, after tuning on 250 rows.
Test: 95 % percentile bootstrap over test pairs and seeds together, 2,000 resamples, paired by seed and subset;
two-sided p from the same resamples, Holm over the nine. Smallest effect of interest: 2 points for H1 and H4, 5
hundredths of a nat for H2, H3, H6 and H7, 1 point for H5, H8 and H9.
Supported: the intervals of H1, H2 and H3 all lie above theirs. Refuted: all lie below. Else undecided, with the
smallest difference that the design sees with 80 % power. H4-H9 are reported beside and decide nothing.

Expected, said beforehand: the gap can be large in every arm, the frozen one too, since 1,536 features separate 50 rows;
and an encoder that was itself trained on pairs may gain so much by tuning that its loss falls in spite of the gap. Then
H1 and H2 disagree, and the claim is undecided as it stands: fitting the training rows is not yet harm.
"""

from collections.abc import Mapping

import numpy as np

from pairjax.base.data_config import DataConfig
from pairjax.base.types import PairData
from pairjax.data.sources import load_pairs
from pairjax.evaluation.intervals import Sampled, mean_of_sampled
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
from pairjax.studies.small_data.probes import (
    cached_probes,
    make_probe_measure,
    probe_difference,
    probe_score,
    probes_key,
    subsample,
)

TUNED: tuple[Arm, ...] = ("low", "full", "gradual")
STEPS = {50: 60, 100: 60, 250: 80, 1000: 125, 4500: 423}
LITTLE, PROBED, MORE, ALL = (50, 100, 250), 250, 1000, 4500
QUICK_STEPS = {16: 4, 24: 4, 40: 4}
Table = dict[tuple[Arm, int, int], RunMeasures]
Tasks = Mapping[str, PairData]
Probed = Mapping[str, np.ndarray]


def plan(claim: ClaimRun) -> list[tuple[int, int, tuple[int, ...]]]:
    """Returns training pairs, steps and seeds of each size; those of the primary hypotheses first."""
    if claim.quick:
        return [(size, steps, (0, 1)[: 2 if size == 16 else 1]) for size, steps in QUICK_STEPS.items()]
    seeds = {MORE: range(min(3, claim.seeds)), ALL: range(1)}
    return [(size, steps, tuple(seeds.get(size, range(claim.seeds)))) for size, steps in STEPS.items()]


def read_data(quick: bool) -> tuple[PairData, dict[str, PairData]]:
    """Reads the task and the probed tasks."""
    if not quick:
        data_folder()
        return cut_test(real_pairs("sick"), 1000), {name: subsample(real_pairs(name)) for name in ("mrpc", "stsb")}
    sizes = (40, 30, 30)
    probes = {task: load_pairs(DataConfig(rules=task, sizes=sizes)) for task in ("paraphrase", "similarity")}
    return load_pairs(DataConfig(rules="entailment", sizes=sizes)), probes


def run_all(claim: ClaimRun, data: PairData, probes: Tasks) -> Table:
    """Runs every arm, size and seed, and probes the encoders of some of them."""
    source = claim.task("overfitting", lambda: data)
    table: Table = {}
    for size, steps, seeds in plan(claim):
        batch = 8 if claim.quick else 32
        frozen = ArmSetting("frozen", size, steps, batch_size=batch)
        for (_, seed), run in run_frozen([frozen], source, data, seeds=seeds).items():
            table["frozen", size, seed] = run
        for seed in seeds:
            for arm in TUNED:
                claim.check_time()
                probed = size in (PROBED, ALL, 16) and seed < 3 and (arm != "gradual" or size == ALL)
                extra = {"extra": make_probe_measure(probes), "what": probes_key(probes)} if probed else {}
                run = run_tuned(
                    ArmSetting(arm, size, steps, batch_size=batch),
                    data,
                    encoder=claim.claim.encoder,
                    seed=seed,
                    folder=claim.root,
                    **extra,
                )
                table[arm, size, seed] = run
                claim.cells_run += 1
                claim.log(f"{claim.cells_run:4d} {arm:8s} {size:5d} rows seed {seed}: {run_line(run)}")
    return table


def generality(table: Table, before: Probed, probes: Tasks, arms: tuple[Arm | None, Arm], *, size: int) -> Sampled:
    """Returns one arm's probe score minus another's, mean over probes; the arm None is the encoder before tuning."""
    seeds = sorted({seed for (_, rows, seed), run in table.items() if rows == size and run.extra})
    parts = []
    for index, (name, data) in enumerate(probes.items()):
        left, right = (
            [before[name] if arm is None else table[arm, size, seed].extra[name] for seed in seeds] for arm in arms
        )
        parts.append(probe_difference(data, left, right, seed=index))
    return mean_of_sampled(parts)


def tables(table: Table, before: Probed, probes: Tasks) -> dict[str, list[list[str]]]:
    """Returns the scores of every arm and size, and those of the probes."""
    sizes = sorted({size for _, size, _ in table})
    tables = {}
    for title, read in READINGS.items():
        rows = [["arm", *(f"{size:,} rows" for size in sizes)]]
        for arm in ("frozen", *TUNED):
            cells = [[read(run) for (a, s, _), run in table.items() if (a, s) == (arm, size)] for size in sizes]
            rows.append([arm, *(f"{np.mean(values):.2f}" for values in cells)])
        tables[title] = rows
    after = {f"{arm}, {size:,} rows, seed {seed}": run.extra for (arm, size, seed), run in table.items() if run.extra}
    rows = [["encoder", *probes]]
    for label, predicted in {"before tuning": before, **after}.items():
        rows.append([label, *(f"{probe_score(data, predicted[name]):.2f}" for name, data in probes.items())])
    return tables | {"Linear probes on other tasks, points": rows}


def run(claim: ClaimRun) -> Outcome:
    data, probes = read_data(claim.quick)
    before = cached_probes(claim.claim.encoder, probes, folder=claim.root / "probes")
    table = run_all(claim, data, probes)
    little, more, probed = (LITTLE, MORE, PROBED) if not claim.quick else ((16,), 24, 16)

    def effect(left: Arm, right: Arm, statistic: RunStatistic, sizes: tuple[int, ...], *, seed: int) -> Sampled:
        seeds = sorted({s for _, size, s in table if size == sizes[0]})
        pairs = [[(table[left, size, s], table[right, size, s]) for size in sizes] for s in seeds]
        return difference(pairs, statistic, seed=seed)

    loss = effect("full", "frozen", loss_of, little, seed=1)
    later = effect("full", "frozen", loss_of, (more,), seed=2)
    hypotheses = [
        Hypothesis("H1 gap", effect("full", "frozen", gap_of, little, seed=0), 2.0, True, "full minus frozen"),
        Hypothesis("H2 loss, frozen", loss, 5.0, True, "full minus frozen", unit="nats"),
        Hypothesis(
            "H3 loss, low rate",
            effect("full", "low", loss_of, little, seed=3),
            5.0,
            True,
            "full minus low",
            unit="nats",
        ),
        Hypothesis("H4 gap, low rate", effect("full", "low", gap_of, little, seed=4), 2.0, False, "full minus low"),
        Hypothesis(
            "H5 accuracy", effect("frozen", "full", accuracy_of, little, seed=5), 1.0, False, "frozen minus full"
        ),
        Hypothesis("H6 little data", loss - later, 5.0, False, f"H2's effect minus that at {more:,} rows", unit="nats"),
        Hypothesis(
            "H7 loss, gradual",
            effect("full", "gradual", loss_of, little, seed=6),
            5.0,
            False,
            "full minus gradual",
            unit="nats",
        ),
        Hypothesis(
            "H8 generality lost",
            generality(table, before, probes, (None, "full"), size=probed),
            1.0,
            False,
            "probes before tuning minus after the full rate",
        ),
        Hypothesis(
            "H9 generality kept",
            generality(table, before, probes, ("low", "full"), size=probed),
            1.0,
            False,
            "probes after the low rate minus after the full rate",
        ),
    ]
    notes = [
        "cut: one encoder, one task, 1,000 test pairs; 3 seeds with 1,000 pairs and 1 with all; probes of 3 seeds",
        "learning rates were fixed in advance, not tuned for each arm",
    ]
    return Outcome(hypotheses, tables(table, before, probes), notes)


claim = Claim(
    id="corollary_1_1",
    statement="Tuning the encoder on little data overfits; a frozen or slowly tuned one does not.",
    seeds=5,
    run=run,
    round=1,
)
