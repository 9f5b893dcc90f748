"""A closer look at Proposition 1, after its verdict was known. Nothing here was stated in advance.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/afterwards/proposition_1.py
Compute: reads the cells of claims/proposition_1.py, and runs those that are missing; then a minute.

Reasons: one task, STS-B, contributes most of the claim's primary effects, and its unit differs (Spearman's correlation
instead of accuracy). H3 ("above all where the relation is likeness or contrast") was tested with the linear head only.
H4 compares the product with the signed difference, which a linear head without products cannot use on symmetric
relations.

Effects, in points; dev chooses between u - v and u * v as in the claim:
  gain over [u; v] by task, with each head;
  gain on likeness and contrast minus gain elsewhere, with each head, with and without STS-B;
  F1 of contradiction (SICK), difference minus product, for the signed and the absolute difference, with each head;
  F1 of paraphrase (MRPC), product minus difference, for the same differences and heads.
Holm's correction covers all of them. The experiment decides nothing: another study must state these effects in advance
and test them.
"""

from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.combiners.board import (
    COMBINERS,
    DIFFERENCE,
    GAINS,
    LIKENESS,
    PRODUCT,
    CombinerBoard,
    all_cells,
    run_board,
    score_cell,
)
from pairjax.studies.combiners.cells import class_f1

POINT = 1.0
ABSOLUTE = ("|u-v|",)
CORRELATION = "stsb"
HEADS = {"linear": False, "hidden": True}
CLASSES = {"sick": "contradiction", "mrpc": "paraphrase"}


def class_table(board: CombinerBoard, task: str, name: str) -> list[list[str]]:
    """Returns F1 of one class by combiner and head."""
    table = [["combiner", *(f"{head} head" for head in HEADS)]]
    for features in COMBINERS:
        runs_by_head = (
            board.statistics(task, features, hidden=hidden, measure=class_f1(name)) for hidden in HEADS.values()
        )
        cells = (score_cell(runs, board.sources[task]) for runs in runs_by_head)
        table.append(["; ".join(features), *cells])
    return table


def run(claim: ClaimRun) -> Outcome:
    board = run_board(claim, all_cells(quick=claim.quick))
    tasks = list(board.sources)
    near = [task for task in tasks if task in LIKENESS]
    far = [task for task in tasks if task not in LIKENESS]
    hypotheses = []
    for head, hidden in HEADS.items():
        for task in tasks:
            gain = board.gain([task], hidden=hidden)
            hypotheses.append(
                Hypothesis(f"gain on {task}, {head}", gain, POINT, False, "difference or product minus [u; v]")
            )
    for head, hidden in HEADS.items():
        for title, subset in (("", near), (" without STS-B", [task for task in near if task != CORRELATION])):
            contrast = board.gain(subset, hidden=hidden) - board.gain(far, hidden=hidden).reversed()
            hypotheses.append(
                Hypothesis(f"above all there{title}, {head}", contrast, POINT, False, "gain there minus gain elsewhere")
            )
    tables = {}
    for task, name in CLASSES.items():
        if task not in tasks:
            continue
        measure = class_f1(name)
        for head, hidden in HEADS.items():
            for difference in (DIFFERENCE, ABSOLUTE):
                sides = (difference, PRODUCT) if name == "contradiction" else (PRODUCT, difference)
                effect = board.difference(task, *sides, hidden=hidden, measure=measure)
                title = " minus ".join("; ".join(side) for side in sides)
                hypotheses.append(
                    Hypothesis(f"{name}: {title}, {head}", effect, POINT, False, f"F1 of {name} on {task}")
                )
        tables[f"F1 of {name} on {task}, mean over seeds ± deviation"] = class_table(board, task, name)
    return Outcome(hypotheses, tables, board.notes(), board=GAINS)


claim = Claim(
    id="proposition_1_afterwards",
    statement="Which tasks, classes and heads account for Proposition 1.",
    seeds=20,
    run=run,
    decides=False,
    round=1,
)
