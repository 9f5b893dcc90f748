"""Whether the combiners that lead with a frozen encoder still lead once the encoder is tuned; no verdict.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/transfer/combiners.py --budget MINUTES
Compute: about 45 minutes on two idle CPU cores after experiments/claims/proposition_1.py, whose cells it reads (or
makes); stopped runs go on with the same command.

Arms: the three combiners of Proposition 1's table with the highest mean score on dev over its six tasks (linear head),
and [u; v], the reference. Each as a bi-encoder with mean pooling and a linear classifier, encoder 5e-5, classifier
1e-3, one epoch of 32 pairs a step, last parameters. Tasks: SICK, MRPC, STS benchmark. Seeds: 3 (order, dropout,
classifier), the same for all arms. What was cut: epochs (one), tasks (three); seeds last.

Effects: a leader's score on test less that of [u; v], mean over tasks; 95 % percentile bootstrap over test pairs and
seeds together.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pairjax import CombineConfig, Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, TrainConfig
from pairjax.base.config import Feature
from pairjax.evaluation.intervals import Sampled, mean_of_sampled
from pairjax.evaluation.metrics import Statistic, once
from pairjax.inference.classifier import load
from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.combiners.board import (
    CONCATENATION,
    CombinerBoard,
    all_cells,
    paired_difference,
    run_board,
    score_cell,
)
from pairjax.studies.combiners.cells import Cell, main_metric
from pairjax.studies.kept_runs import Look, run_unit
from pairjax.studies.sets import data_folder

TASKS, QUICK_TASKS = ("sick", "mrpc", "stsb"), ("coherence",)
LEADERS, SEEDS_OF_CELLS, POINT = 3, 20, 1.0
QUICK_SIZES = (200, 50, 50)


def leaders(board: CombinerBoard) -> list[tuple[Feature, ...]]:
    """All combiners but the reference, from the highest mean dev score over tasks, linear head."""
    rows = {cell.features for _, cell in board.cells if not cell.hidden and cell.noise == 0.0} - {CONCATENATION}

    def dev(features: tuple[Feature, ...]) -> float:
        return float(np.mean([board.result(task, features, hidden=False).dev.mean() for task in board.sources]))

    return sorted(rows, key=dev, reverse=True)


def tuned(features: tuple[Feature, ...], task: str, *, seed: int, run: ClaimRun) -> Config:
    """A run of an arm."""
    data = DataConfig(rules="coherence", sizes=QUICK_SIZES) if run.quick else DataConfig(path=str(data_folder() / task))
    return Config(
        data=data,
        model=ModelConfig(encoder=run.claim.encoder, kind="bi", combine=CombineConfig(features=features)),
        optim=OptimConfig(learning_rate=5e-5, head_multiplier=20.0),
        train=TrainConfig(epochs=1, max_steps=5 if run.quick else None, seed=seed, keep="last"),
        evaluation=EvalConfig(bootstrap=100, swap=False, fit=False),
    )


def make_look(board: CombinerBoard, task: str) -> Look:
    """Keeps what a run predicts on test: classes as the task counts them, or scores."""
    known, test = board.sources[task].task, board.sources[task].splits["test"]

    def look(folder: Path) -> Mapping[str, np.ndarray]:
        model = load(folder)
        outputs = model.outputs(test.first, test.second)
        if known.kind == "regression":
            return {"predicted": outputs[:, 0]}
        order = [model.task.labels.index(name) for name in known.labels]
        return {"predicted": outputs[:, order].argmax(axis=1)}

    return look


def run(claim: ClaimRun) -> Outcome:
    frozen = claim if claim.quick else replace(claim, seeds=SEEDS_OF_CELLS)
    board = run_board(frozen, all_cells(quick=claim.quick))
    best = leaders(board)[: 1 if claim.quick else LEADERS]
    arms = {features: Cell(features, hidden=False).name for features in (*best, CONCATENATION)}
    tasks = QUICK_TASKS if claim.quick else TASKS
    size = {task: len(board.sources[task].rows["test"]) for task in tasks}
    scores: dict[tuple[str, tuple[Feature, ...]], list[Statistic]] = {}
    for task in tasks:
        look = make_look(board, task)
        for features, name in arms.items():
            scores[task, features] = []
            for seed in range(claim.seeds):
                claim.check_time()
                config = tuned(features, task, seed=seed, run=claim)
                found = run_unit(config, claim.root / "units", look=look, what="test predictions, 1")
                score = main_metric(board.sources[task], found["predicted"])
                scores[task, features].append(score)
                claim.cells_run += 1
                claim.say(f"{task:10s} {name:28s} seed {seed} test {score(once(size[task]))['value'][0]:6.2f}")

    def gain(features: tuple[Feature, ...], task: str) -> Sampled:
        left, right = scores[task, features], scores[task, CONCATENATION]
        return paired_difference(left, right, board.sources[task], seed=tasks.index(task))

    effects = [
        Hypothesis(
            arms[features],
            mean_of_sampled([gain(features, task) for task in tasks]),
            POINT,
            False,
            "test score, tuned, less that of [u; v], mean over tasks",
        )
        for features in best
    ]
    table = [["combiner, encoder tuned", *tasks]]
    for features, name in arms.items():
        table.append([name, *(score_cell(scores[task, features], board.sources[task]) for task in tasks)])
    return Outcome(effects, {"Test score, mean over seeds ± deviation": table}, board.notes())


claim = Claim(
    id="tuned_combiners",
    statement="Whether the combiners that lead with a frozen encoder lead once the encoder is tuned.",
    seeds=3,
    run=run,
    decides=False,
)
