"""How each pretraining objective affects tasks on pairs: scores, steps and curves of every arm; no verdict.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/transfer/objectives.py --budget MINUTES
The README.md next to this file describes how to run it within a budget, what is cut, and what it writes.

Arms: the start alone; MLM with a fresh pooler (the reference); MLM + NSP and MLM + SOP, each with the pooler kept and
with a fresh one. Tasks: coherence, SICK, MRPC, ASSIN 2. Everything else is as in experiments/claims/lemma_1.py. Both
share their encoders and runs if the design is the same.
"""

from dataclasses import replace

from pairjax.evaluation.intervals import mean_of_sampled
from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.transfer.design import MLM, NSP, NSP_FRESH, SIX, SOP, SOP_FRESH, START, THREE, TransferDesign
from pairjax.studies.transfer.run import run_transfer
from pairjax.studies.transfer.tuner import TuneConfig

ALL = (START, MLM, NSP, NSP_FRESH, SOP, SOP_FRESH)
FULL = TransferDesign(SIX, TuneConfig(steps=150), arms=ALL, rows=1200, dev=250, test=2000)
DEEP = replace(FULL, tune=TuneConfig(steps=100), arms=(MLM, NSP, NSP_FRESH, SOP), rows=800, dev=150, test=1000)
LEVELS = (
    FULL,
    DEEP,
    replace(DEEP, pretrain=THREE, arms=ALL),
    replace(DEEP, pretrain=THREE, tasks=("coherence", "sick", "mrpc")),
    replace(DEEP, pretrain=replace(THREE, steps=200), tasks=("coherence", "sick"), arms=(MLM, NSP, NSP_FRESH)),
)
"""Designs, largest first."""
POINT, PERCENT = 1.0, 5.0


def run(claim: ClaimRun) -> Outcome:
    board = run_transfer(claim, LEVELS)
    effects = []
    for arm in board.design.arms:
        if arm != MLM:
            score, steps = (
                mean_of_sampled([read(task, arm) for task in board.targets]) for read in (board.gain, board.saved)
            )
            effects.append(
                Hypothesis(f"{arm.name}: score", score, POINT, False, "test score minus that of MLM, mean over tasks")
            )
            effects.append(
                Hypothesis(f"{arm.name}: steps", steps, PERCENT, False, "updates saved, mean over tasks", unit="steps")
            )
    tables = board.tables() | {
        f"{task}: dev score by updates done, mean over seeds": board.curve_table(task) for task in board.targets
    }
    failures = [line for origin in board.segment_accuracy if (line := board.failed_treatment(origin))]
    return Outcome(effects, tables, [*board.notes, *board.unlearnt(), *failures])


claim = Claim(
    id="objectives",
    statement="How masked tokens, next sentences and sentence order, all pretrained alike, affect tasks on pairs.",
    seeds=5,
    run=run,
    pooling="pooler",
    decides=False,
    round=1,
)
