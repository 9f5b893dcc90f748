"""The table of combiners: the combiners, the tasks, and the finished cells that both Propositions read."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.data_config import DataConfig
from pairjax.base.model_config import Feature
from pairjax.base.types import PairData, TaskSpec, default_positive
from pairjax.data.sources import load_pairs
from pairjax.evaluation.counts import Statistic, difference_of, once
from pairjax.evaluation.intervals import Sampled, mean_of_sampled, two_way_bootstrap
from pairjax.population.pooled import HeadTask
from pairjax.storage.files import read_json, write_json
from pairjax.studies.claim import RESAMPLES, ClaimRun
from pairjax.studies.combiners.cells import (
    AT_EDGE,
    Cell,
    CellDesign,
    CellResult,
    Measure,
    main_metric,
    metric_of,
    run_cell,
)
from pairjax.studies.sets import data_folder, real_pairs

GAINS = "combiners.json"
"""The file of scores and gains, beside the claims' folders; reports draw it."""
COMBINERS: tuple[tuple[Feature, ...], ...] = (
    ("u", "v"),
    ("u-v",),
    ("|u-v|",),
    ("u*v",),
    ("u-v", "u*v"),
    ("|u-v|", "u*v"),
    ("u", "v", "u-v"),
    ("u", "v", "|u-v|"),
    ("u", "v", "u*v"),
    ("u", "v", "u-v", "u*v"),
    ("u", "v", "|u-v|", "u*v"),
    ("u", "v", "u-v", "|u-v|", "u*v"),
)
"""Every sensible subset: u occurs only with v; for a linear head, u-v next to u and v adds only regularisation."""
CONCATENATION: tuple[Feature, ...] = ("u", "v")
DIFFERENCE: tuple[Feature, ...] = ("u-v",)
PRODUCT: tuple[Feature, ...] = ("u*v",)
COMBINATION: tuple[Feature, ...] = ("u", "v", "u-v", "u*v")
SIZES = (4000, 600, 2000)


def contradiction_pairs() -> PairData:
    """Makes pairs by rules that contradict each other or do not (entailment and neutral)."""
    data = load_pairs(DataConfig(rules="entailment", sizes=SIZES))
    index = data.task.labels.index("contradiction")
    labels = ("other", "contradiction")
    splits = {}
    for name, pairs in data.splits.items():
        assert pairs.label is not None
        splits[name] = replace(pairs, label=(pairs.label == index).astype(np.int32))
    task = TaskSpec("classification", labels, positive=default_positive(labels))
    return PairData(task, splits, {**data.source, "name": "rules/contradiction"}, data.notes)


def rule_coherence_pairs() -> PairData:
    """Makes short texts by rules that are coherent or not."""
    return load_pairs(DataConfig(rules="coherence", sizes=SIZES))


LIKENESS = ("mrpc", "stsb", "contradiction")
"""The tasks whose relation is likeness or contrast."""
TASKS: Mapping[str, Callable[[], PairData]] = {
    "mrpc": lambda: real_pairs("mrpc"),
    "stsb": lambda: real_pairs("stsb"),
    "contradiction": contradiction_pairs,
    "sick": lambda: real_pairs("sick"),
    "assin2": lambda: real_pairs("assin2"),
    "coherence": rule_coherence_pairs,
}
RULE_MADE = ("contradiction", "coherence")


def over_test(runs: Sequence[Statistic], source: HeadTask, *, seed: int) -> Sampled:
    """Returns the mean over seeds of the metric `value`, with its bootstrap over test pairs and seeds.

    The cautious interval resamples `test_clusters` instead of pairs.

    Args:
        runs: One statistic per seed.
        source: The task.
        seed: Seeds the bootstrap.
    """
    return two_way_bootstrap(
        runs, len(source.rows["test"]), resamples=RESAMPLES, seed=seed, clusters=source.test_clusters
    )["value"]


def score_cell(runs: Sequence[Statistic], source: HeadTask) -> str:
    """Returns mean ± standard deviation over seeds of the metric `value` on test; `runs` has one statistic per seed."""
    counts = once(len(source.rows["test"]))
    scores = [float(statistic(counts)["value"][0]) for statistic in runs]
    return f"{np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f}"


def paired_difference(left: Sequence[Statistic], right: Sequence[Statistic], source: HeadTask, *, seed: int) -> Sampled:
    """Returns the metric `value` of left minus that of right, paired by test pair and seed; one statistic per seed."""
    runs = [difference_of(a, b) for a, b in zip(left, right, strict=True)]
    return over_test(runs, source, seed=seed)


@dataclass(frozen=True)
class CombinerBoard:
    """The finished cells and their tasks.

    Attributes:
        sources: The tasks by name.
        cells: The results by task and cell.
    """

    sources: Mapping[str, HeadTask]
    cells: Mapping[tuple[str, Cell], CellResult]

    def result(self, task: str, features: tuple[Feature, ...], *, hidden: bool, noise: float = 0.0) -> CellResult:
        """Returns the result of a cell."""
        return self.cells[task, Cell(features, hidden, noise)]

    def statistics(
        self,
        task: str,
        features: tuple[Feature, ...],
        *,
        hidden: bool,
        noise: float = 0.0,
        measure: Measure = main_metric,
    ) -> list[Statistic]:
        """Returns a cell's metric on test, one statistic per seed."""
        source, result = self.sources[task], self.result(task, features, hidden=hidden, noise=noise)
        return [measure(source, predicted) for predicted in result.predicted]

    def difference(
        self,
        task: str,
        left: tuple[Feature, ...],
        right: tuple[Feature, ...],
        *,
        hidden: bool,
        measure: Measure = main_metric,
        seed: int = 0,
    ) -> Sampled:
        """Returns the metric of the left cell minus that of the right, paired by test pair and seed."""
        return paired_difference(
            self.statistics(task, left, hidden=hidden, measure=measure),
            self.statistics(task, right, hidden=hidden, measure=measure),
            self.sources[task],
            seed=seed,
        )

    def chosen(self, task: str, *, hidden: bool) -> tuple[Feature, ...]:
        """Returns difference or product, whichever has the higher dev score with the tuning seeds."""
        return max((DIFFERENCE, PRODUCT), key=lambda features: self.result(task, features, hidden=hidden).tuning.max())

    def gain(self, tasks: Sequence[str], *, hidden: bool) -> Sampled:
        """Returns the chosen combiner minus concatenation, mean over tasks."""
        return mean_of_sampled(
            [
                self.difference(task, self.chosen(task, hidden=hidden), CONCATENATION, hidden=hidden, seed=index)
                for index, task in enumerate(tasks)
            ]
        )

    def notes(self) -> list[str]:
        """Returns the limits of the cells: rates at the edge of the grid, and runs that diverged."""
        edge = sum(AT_EDGE in note for result in self.cells.values() for note in result.notes)
        lines = [f"{edge} of {len(self.cells)} cells chose a rate {AT_EDGE}"] if edge else []
        for (task, cell), result in self.cells.items():
            name = f"{task} {cell.name} {'hidden' if cell.hidden else 'linear'}"
            name += f" with {cell.noise:.0%} noise" if cell.noise else ""
            lines += [f"{name}: {note}" for note in result.notes if AT_EDGE not in note]
        return lines

    def table(self, tasks: Sequence[str], *, hidden: bool, noise: float = 0.0) -> list[list[str]]:
        """Returns test scores, mean ± deviation over seeds, one line per combiner; bold for the best of a task."""
        combiners = [features for features in COMBINERS if (tasks[0], Cell(features, hidden, noise)) in self.cells]
        scores = np.array(
            [
                [100 * self.result(task, features, hidden=hidden, noise=noise).test for task in tasks]
                for features in combiners
            ]
        )
        means, deviations = np.nanmean(scores, axis=2), np.nanstd(scores, axis=2, ddof=1)
        lines = [["combiner", *tasks, "mean"]]
        for features, mean, deviation in zip(combiners, means, deviations, strict=True):
            texts = [
                f"**{m:.2f}** ± {d:.2f}" if m == means[:, i].max() else f"{m:.2f} ± {d:.2f}"
                for i, (m, d) in enumerate(zip(mean, deviation, strict=True))
            ]
            lines.append([Cell(features, hidden).name, *texts, f"{mean.mean():.2f}"])
        return lines


def cell_design(run: ClaimRun) -> CellDesign:
    """Returns the design of all cells with the seeds of this run; a quick run has a small one."""
    if run.quick:
        return CellDesign(rates=(1e-2,), decays=(0.01,), tuning_seeds=(1000,), seeds=(0, 1), steps=60)
    return CellDesign(seeds=tuple(range(run.seeds)))


def measure_cell(run: ClaimRun, task: str, source: HeadTask, cell: Cell) -> CellResult:
    """Runs a cell, or reads it if it was run before, and logs its score."""
    run.check_time()
    began = time.monotonic()
    result = run_cell(source, cell, cell_design(run), folder=run.root / "cells")
    seconds = time.monotonic() - began
    run.cells_run += 1
    head = f"hidden {result.width}" if cell.hidden else "linear"
    noise = f", {cell.noise:.0%} noise" if cell.noise else ""
    scores = f"dev {100 * result.dev.mean():6.2f} test {100 * result.test.mean():6.2f}"
    run.log(
        f"{run.cells_run:4d} {task:14s} {cell.name:28s} {head:10s}{noise} "
        f"rate {result.rate:g} decay {result.decay:g} {scores} ({seconds:.0f} s)"
    )
    return result


def run_board(run: ClaimRun, cells: Sequence[Cell]) -> CombinerBoard:
    """Runs cells on every task, those with linear heads first, and writes `GAINS`.

    A quick run uses only the rule-made tasks.
    """
    names = list(RULE_MADE if run.quick else TASKS)
    if not run.quick:
        data_folder()
    sources = {name: run.task(name, TASKS[name]) for name in names}
    results = {
        (name, cell): measure_cell(run, name, sources[name], cell)
        for hidden in (False, True)
        for name in names
        for cell in cells
        if cell.hidden == hidden
    }
    board = CombinerBoard(sources, results)
    write_gains(board, run.root / GAINS)
    return board


def write_gains(board: CombinerBoard, path: Path) -> None:
    """Writes each combiner's score and its gain over concatenation as JSON.

    Both have 95 % intervals over test pairs and seeds. Cells with label noise are left out. All claims share the file,
    so it is not written again if it already describes these predictions.

    Args:
        board: The finished cells; concatenation must be among them.
        path: The file: `{"key", "against", "seeds", "tasks": [{"task", "metric", "pairs"}], "rows": [{"task",
            "combiner", "hidden", "score", "gain"}]}`. Scores and gains are `{"value", "low", "high"}` in points.
    """
    clean = [(task, cell) for task, cell in board.cells if cell.noise == 0.0]
    digest = hashlib.sha256()
    for task, cell in clean:
        digest.update(json.dumps([RESAMPLES, task, board.sources[task].key, asdict(cell)]).encode())
        digest.update(np.ascontiguousarray(board.cells[task, cell].predicted).tobytes())
    key = digest.hexdigest()
    if path.is_file() and read_json(path).get("key") == key:
        return
    rows: list[dict[str, Any]] = []
    for seed, (task, source) in enumerate(board.sources.items()):
        # All cells of a task use one bootstrap seed, so they use the same resamples and gains are paired.
        scores = {
            cell: over_test(board.statistics(task, cell.features, hidden=cell.hidden), source, seed=seed)
            for cell_task, cell in clean
            if cell_task == task
        }
        for cell, score in scores.items():
            gain = score - scores[Cell(CONCATENATION, cell.hidden)]
            row = {"task": task, "combiner": cell.name, "hidden": cell.hidden}
            rows.append(row | {"score": score.interval().to_json(), "gain": gain.interval().to_json()})
    tasks = [
        {"task": task, "metric": metric_of(source), "pairs": len(source.rows["test"])}
        for task, source in board.sources.items()
    ]
    seeds = max(len(result.test) for result in board.cells.values())
    against = Cell(CONCATENATION, False).name
    write_json(path, {"key": key, "against": against, "seeds": seeds, "tasks": tasks, "rows": rows})


def all_cells(*, quick: bool = False) -> list[Cell]:
    """Returns every combiner with both heads; for a quick run, only the combination and its parts."""
    combiners = (CONCATENATION, DIFFERENCE, PRODUCT, COMBINATION) if quick else COMBINERS
    return [Cell(features, hidden) for hidden in (False, True) for features in combiners]
