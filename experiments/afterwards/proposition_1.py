"""Proposition 1 looked at more closely, after its verdict was known: nothing here was stated beforehand.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/afterwards/proposition_1.py
Compute: reads the cells of claims/proposition_1.py, or runs them where they are lacking; then a minute.

Why: most of the claim's primary effects is one task, STS-B, whose unit is another (Spearman's correlation beside
accuracy); its H3 ("above all where the relation is likeness or contrast") was tested with the linear head alone; and
its H4 sets the signed difference, which a linear head without products cannot use on symmetric relations, against the
product.

Shown, in points, with the better of u - v and u * v by dev as in the claim:
  gain over [u; v] by task, with each head;
  gain on likeness and contrast less that elsewhere, with each head, with and without STS-B;
  F1 of contradiction (SICK), the difference less the product, for the signed and the absolute one, with each head;
  F1 of paraphrase (MRPC), the product less the difference, likewise.
Holm over all of them. It decides nothing: what is found is for another study to state beforehand and to test.
"""

from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.combiners.board import (
    COMBINERS,
    DIFFERENCE,
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
    """F1 of one class by combiner and head."""
    table = [["combiner", *(f"{head} head" for head in HEADS)]]
    for features in COMBINERS:
        of_heads = (
            board.statistics(task, features, hidden=hidden, measure=class_f1(name)) for hidden in HEADS.values()
        )
        cells = (score_cell(runs, board.sources[task]) for runs in of_heads)
        table.append(["; ".join(features), *cells])
    return table


def run(claim: ClaimRun) -> Outcome:
    board = run_board(claim, all_cells(quick=claim.quick))
    tasks = list(board.sources)
    near = [task for task in tasks if task in LIKENESS]
    far = [task for task in tasks if task not in LIKENESS]
    found = []
    for head, hidden in HEADS.items():
        for task in tasks:
            gain = board.gain([task], hidden=hidden)
            found.append(Hypothesis(f"gain on {task}, {head}", gain, POINT, False, "difference or product less [u; v]"))
    for head, hidden in HEADS.items():
        for title, there in (("", near), (" without STS-B", [task for task in near if task != CORRELATION])):
            above = board.gain(there, hidden=hidden) - board.gain(far, hidden=hidden).reversed()
            found.append(
                Hypothesis(f"above all there{title}, {head}", above, POINT, False, "gain there less elsewhere")
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
                title = " less ".join("; ".join(side) for side in sides)
                found.append(Hypothesis(f"{name}: {title}, {head}", effect, POINT, False, f"F1 of {name} on {task}"))
        tables[f"F1 of {name} on {task}, mean over seeds ± deviation"] = class_table(board, task, name)
    return Outcome(found, tables, board.notes())


claim = Claim(
    id="proposition_1_afterwards",
    statement="What carries Proposition 1: which tasks, which classes, which head.",
    seeds=20,
    run=run,
    decides=False,
)
