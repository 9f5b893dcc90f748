"""Pilot for the second round of Propositions 1 and 1.1: combiners under convex heads, with encoders as replicates.

Command: PAIRJAX_DATA=DIR PAIRJAX_ENCODERS=DIR pairjax claim experiments/combiners/convex.py --budget 180
It decides nothing. Its deviations over encoders and its errors over pairs go into the parts of the claims of round 2,
whose power is computed from them before their run.

Model: frozen encoder, h_CLS or mean pooling; a combiner; a logistic regression on standardised features. The penalty is
chosen on dev among C = 1e-4, ..., 1. The optimum is unique, so no seed of an optimiser is involved.
Data: six binary relations with one metric, the area under the ROC curve in points. Contradiction, entailment and
relatedness of SICK have the same pairs, so only the relation differs. MRPC, STS-B (score at least the median) and ASSIN
2 are the other three. 1,000 test pairs of each.
Replicates: encoders, and for each five training subsets of 1,000 pairs. Intervals are over encoders and test pairs; an
encoder's value is the mean over its poolings and subsets. Three encoders give wide intervals.
Rows without an encoder: majority, second text alone, overlap of words.
Encoders: MiniLM, and from the folder PAIRJAX_ENCODERS multilingual-e5-small and all-mpnet-base-v2.
"""

import os
from pathlib import Path

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import Feature
from pairjax.base.types import PairData
from pairjax.data.sources import load_pairs
from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.combiners.board import COMBINATION, CONCATENATION, DIFFERENCE, PRODUCT
from pairjax.studies.combiners.convex import (
    RELATIONS,
    Pool,
    binary,
    gain,
    name_of,
    run_relation,
    score_table,
    worst_regrets,
)

SMALLEST = 1.0
SUBSETS = 5
FOLDERS = {
    "multilingual-e5-small": "intfloat/multilingual-e5-small",
    "all-mpnet-base-v2": "sentence-transformers/all-mpnet-base-v2",
}
POOLINGS: tuple[Pool, ...] = ("cls", "mean")
RIVALS: tuple[tuple[Feature, ...], ...] = (
    DIFFERENCE,
    ("|u-v|",),
    PRODUCT,
    COMBINATION,
    ("u", "v", "|u-v|", "u*v"),
)


def encoders(claim: ClaimRun) -> dict[str, str]:
    """Returns the encoders by name; a quick run has the claim's encoder alone."""
    places = {"minilm": claim.claim.encoder}
    if not claim.quick:
        root = os.environ.get("PAIRJAX_ENCODERS", "")
        for name, hub in FOLDERS.items():
            folder = Path(root) / name
            if not root or not folder.is_dir():
                raise UserError(
                    f"the encoder {name} is missing",
                    got=str(folder) if root else "no PAIRJAX_ENCODERS",
                    expected=f"a folder {name} in the folder PAIRJAX_ENCODERS",
                    fix=f"hf download {hub} --local-dir $PAIRJAX_ENCODERS/{name}",
                )
            places[name] = str(folder)
    return places


def rule_made() -> PairData:
    """Makes a few pairs by rules that contradict each other or do not."""
    data = load_pairs(DataConfig(rules="entailment", sizes=(300, 150, 200)))
    index = data.task.labels.index("contradiction")
    return binary(data, lambda label: label == index)


def run(claim: ClaimRun) -> Outcome:
    relations, poolings = RELATIONS, POOLINGS
    if claim.quick:
        relations, poolings = {"rules: contradiction": rule_made}, ("mean",)
    found = encoders(claim)
    results = {
        name: run_relation(claim, name, read, found, poolings, subsets=2 if claim.quick else SUBSETS)
        for name, read in relations.items()
    }
    effects = [
        Hypothesis(
            f"{name}: {name_of(rival)}",
            gain(relation, rival, CONCATENATION, seed=number),
            SMALLEST,
            False,
            "area under the curve minus that of [u; v]",
        )
        for number, (name, relation) in enumerate(results.items())
        for rival in RIVALS
    ]
    regrets = [["combiner", "worst regret", "95 % interval, cautious"]]
    for name, regret in worst_regrets(results).items():
        interval = regret.cautious_interval()
        regrets.append([name, f"{interval.value:.2f}", f"{interval.low:.2f} to {interval.high:.2f}"])
    tables = {
        f"Area under the ROC curve, {pooling} pooling, mean over encoders ± deviation": score_table(
            {name: relation.with_pooling(index) for name, relation in results.items()}
        )
        for index, pooling in enumerate(poolings)
    }
    tables["Worst regret over relations, points"] = regrets
    return Outcome(effects, tables, [f"{len(found)} encoders: {'; '.join(found)}"])


claim = Claim(
    id="convex_combiners",
    statement="Combiners of two frozen vectors under convex heads, over encoders and training subsets.",
    seeds=SUBSETS,
    run=run,
    decides=False,
)
