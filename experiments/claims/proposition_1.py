"""Proposition 1: difference or product can beat concatenation, above all where the relation is likeness or contrast.

Written and committed before the first full run; the verdict row carries this file's commit.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/claims/proposition_1.py
Compute: about 40 minutes on two idle CPU cores; stopped runs go on with the same command.

Claim: with u and v the vectors of the two texts, u - v or u * v can classify pairs better than [u; v], above all for
paraphrase (likeness) and contradiction (contrast).

Model: frozen all-MiniLM-L6-v2, mean pooling, vectors not normalised; then the combiner, then a linear classifier, or as
a control one with a hidden ReLU layer of about 25,000 parameters whatever it reads. The control matters: a linear map
of [u; v] already contains u - v, so that with a linear head the difference can win by regularisation alone; a hidden
layer can also approximate the product. MiniLM was itself trained by the cosine of pairs, sum(u * v) of unit vectors,
which favours the product: a verdict is about this encoder and this pooling.

Data: MRPC (accuracy), STS benchmark (Spearman), rule-made contradiction or not (accuracy) for likeness and contrast;
SICK (3 classes), ASSIN 2 (Portuguese), rule-made coherence for the rest (accuracy). Official splits; rules: 4,000 /
600 / 2,000, no combination of content words shared. Scores are on test, in points (percent).

Runs: 12 combiners x 6 tasks x 2 heads. Each cell: rate of {.001, .003, .01, .03, .1} x decay of {.01, 1} by mean dev
score of 2 tuning seeds; then 20 other seeds, 1,000 steps of 32 pairs, last parameters. No dropout.

Hypotheses (effects in points; the better of difference [u-v] and product [u*v] is chosen by dev, per task and head):
  H1 (primary): mean over MRPC, STS-B and contradiction of (difference or product) less [u; v], linear head.
  H2 (primary): the same with the hidden layer.
  H3: H1's effect on those tasks less the same on SICK, ASSIN 2 and coherence ("above all"), linear head.
  H4: F1 of contradiction on SICK, difference less product, linear head (difference -> contradiction).
  H5: F1 of paraphrase on MRPC, product less difference, linear head (product -> paraphrase).
Test: 95 % percentile bootstrap over test pairs and seeds together, 2,000 resamples, paired; two-sided p from the same
resamples, Holm over the five. Smallest effect of interest: 1 point.
Supported: the intervals of H1 and H2 both lie above 1 point. Refuted: both lie wholly below. Else undecided, with the
smallest difference that the design sees with 80 % power. H3-H5 are reported beside and decide nothing.

Expected, said beforehand: u - v alone gives antisymmetric logits under a linear head without its bias, so on symmetric
relations it should do badly there; if the claim holds for the linear head, then by the product.

Not part of this verdict: the same with the BERT of the pretraining experiments, and fine-tuned encoders.
"""

from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.combiners.board import DIFFERENCE, GAINS, LIKENESS, PRODUCT, all_cells, run_board
from pairjax.studies.combiners.cells import class_f1

SMALLEST = 1.0


def run(claim: ClaimRun) -> Outcome:
    board = run_board(claim, all_cells(quick=claim.quick))
    tasks = list(board.sources)
    near = [task for task in tasks if task in LIKENESS]
    far = [task for task in tasks if task not in LIKENESS]
    linear, hidden = board.gain(near, hidden=False), board.gain(near, hidden=True)
    rest = board.gain(far, hidden=False)
    contrast = linear - rest.reversed()
    hypotheses = [
        Hypothesis(
            "H1 linear head", linear, SMALLEST, True, "difference or product minus [u; v], likeness and contrast"
        ),
        Hypothesis("H2 hidden layer", hidden, SMALLEST, True, "the same with a hidden layer"),
        Hypothesis("H3 above all there", contrast, SMALLEST, False, "H1's effect minus that on the other tasks"),
    ]
    if "sick" in tasks:
        effect = board.difference("sick", DIFFERENCE, PRODUCT, hidden=False, measure=class_f1("contradiction"))
        hypotheses.append(
            Hypothesis("H4 contradiction", effect, SMALLEST, False, "F1 of contradiction, difference minus product")
        )
    if "mrpc" in tasks:
        effect = board.difference("mrpc", PRODUCT, DIFFERENCE, hidden=False, measure=class_f1("paraphrase"))
        hypotheses.append(
            Hypothesis("H5 paraphrase", effect, SMALLEST, False, "F1 of paraphrase, product minus difference")
        )
    chosen = [["task", "linear head", "hidden layer"]]
    chosen += [[t, *("; ".join(board.chosen(t, hidden=h)) for h in (False, True))] for t in tasks]
    return Outcome(
        hypotheses,
        tables={
            "Linear head: test score, mean over seeds ± deviation": board.table(tasks, hidden=False),
            "Hidden layer: test score, mean over seeds ± deviation": board.table(tasks, hidden=True),
            "Difference or product, chosen on dev": chosen,
        },
        notes=board.notes(),
        board=GAINS,
    )


claim = Claim(
    id="proposition_1",
    statement="Difference or product can beat concatenation, above all where the relation is likeness or contrast.",
    seeds=20,
    run=run,
    round=1,
)
