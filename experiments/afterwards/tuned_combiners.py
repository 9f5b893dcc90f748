"""Do the combiners that are best with a frozen encoder stay best if the encoder is fine-tuned? No verdict.

Command: PAIRJAX_DATA=DIR pairjax claim experiments/afterwards/tuned_combiners.py --budget MINUTES
Compute: about 45 minutes on two idle CPU cores after experiments/claims/proposition_1.py, whose cells it reads (or
computes). The same command continues an interrupted run.

Arms: the three combiners of Proposition 1's table with the highest mean dev score over its six tasks (linear head), and
the reference [u; v]. Each arm is a bi-encoder with mean pooling and a linear classifier; learning rates 5e-5 (encoder)
and 1e-3 (classifier), one epoch, 32 pairs per update, last parameters. Tasks: SICK, MRPC, STS benchmark. Seeds: 3
(order, dropout, classifier), the same for all arms. Cut to save time: epochs (one), then tasks (three), then seeds.

Effects: the test score of each leading combiner minus that of [u; v], mean over tasks; 95 % percentile bootstrap over
test pairs and seeds together.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pairjax import CombineConfig, Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, TrainConfig
from pairjax.base.model_config import Feature
from pairjax.evaluation.counts import Statistic, once
from pairjax.evaluation.intervals import Sampled, mean_of_sampled
from pairjax.inference.load import load
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
from pairjax.studies.kept_runs import MeasureRun, run_unit
from pairjax.studies.sets import data_folder

TASKS, QUICK_TASKS = ("sick", "mrpc", "stsb"), ("coherence",)
LEADERS, SEEDS_OF_CELLS, POINT = 3, 20, 1.0
QUICK_SIZES = (200, 50, 50)


def leaders(board: CombinerBoard) -> list[tuple[Feature, ...]]:
    """Returns all combiners except the reference, by mean dev score over tasks (linear head), best first."""
    combiners = {cell.features for _, cell in board.cells if not cell.hidden and cell.noise == 0.0} - {CONCATENATION}

    def dev(features: tuple[Feature, ...]) -> float:
        return float(np.mean([board.result(task, features, hidden=False).dev.mean() for task in board.sources]))

    return sorted(combiners, key=dev, reverse=True)


def tuned_config(features: tuple[Feature, ...], task: str, *, seed: int, run: ClaimRun) -> Config:
    """Returns the config of one run of an arm."""
    data = DataConfig(rules="coherence", sizes=QUICK_SIZES) if run.quick else DataConfig(path=str(data_folder() / task))
    return Config(
        data=data,
        model=ModelConfig(encoder=run.claim.encoder, kind="bi", combine=CombineConfig(features=features)),
        optim=OptimConfig(learning_rate=5e-5, head_multiplier=20.0),
        train=TrainConfig(epochs=1, max_steps=5 if run.quick else None, seed=seed, keep="last"),
        evaluation=EvalConfig(bootstrap=100, swap=False, fit=False),
    )


def make_measure(board: CombinerBoard, task: str) -> MeasureRun:
    """Builds the measurement of a run: its test predictions, as the task's class indices or as scores."""
    task_spec, test = board.sources[task].task, board.sources[task].splits["test"]

    def measure(folder: Path) -> Mapping[str, np.ndarray]:
        model = load(folder)
        outputs = model.outputs(test.first, test.second)
        if task_spec.kind == "regression":
            return {"predicted": outputs[:, 0]}
        order = [model.task.labels.index(name) for name in task_spec.labels]
        return {"predicted": outputs[:, order].argmax(axis=1)}

    return measure


def run(claim: ClaimRun) -> Outcome:
    frozen = claim if claim.quick else replace(claim, seeds=SEEDS_OF_CELLS)
    board = run_board(frozen, all_cells(quick=claim.quick))
    best = leaders(board)[: 1 if claim.quick else LEADERS]
    arms = {features: Cell(features, hidden=False).name for features in (*best, CONCATENATION)}
    tasks = QUICK_TASKS if claim.quick else TASKS
    size = {task: len(board.sources[task].rows["test"]) for task in tasks}
    scores: dict[tuple[str, tuple[Feature, ...]], list[Statistic]] = {}
    for task in tasks:
        measure = make_measure(board, task)
        for features, name in arms.items():
            scores[task, features] = []
            for seed in range(claim.seeds):
                claim.check_time()
                config = tuned_config(features, task, seed=seed, run=claim)
                arrays = run_unit(config, claim.root / "units", measure=measure, what="test predictions, 1")
                score = main_metric(board.sources[task], arrays["predicted"])
                scores[task, features].append(score)
                claim.cells_run += 1
                claim.log(f"{task:10s} {name:28s} seed {seed} test {score(once(size[task]))['value'][0]:6.2f}")

    def gain(features: tuple[Feature, ...], task: str) -> Sampled:
        left, right = scores[task, features], scores[task, CONCATENATION]
        return paired_difference(left, right, board.sources[task], seed=tasks.index(task))

    effects = [
        Hypothesis(
            arms[features],
            mean_of_sampled([gain(features, task) for task in tasks]),
            POINT,
            False,
            "test score with the encoder tuned, minus that of [u; v], mean over tasks",
        )
        for features in best
    ]
    table = [["combiner, encoder tuned", *tasks]]
    for features, name in arms.items():
        table.append([name, *(score_cell(scores[task, features], board.sources[task]) for task in tasks)])
    return Outcome(effects, {"Test score, mean over seeds ± deviation": table}, board.notes())


claim = Claim(
    id="tuned_combiners",
    statement="Do the combiners that are best with a frozen encoder stay best if the encoder is tuned?",
    seeds=3,
    run=run,
    decides=False,
    round=1,
)
