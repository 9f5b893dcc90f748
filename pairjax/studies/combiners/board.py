"""The table of combiners: which there are, on which tasks, and the cells that both Propositions read."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.config import DataConfig, Feature
from pairjax.base.types import PairData, TaskSpec, default_positive
from pairjax.data.sources import load_pairs
from pairjax.evaluation.intervals import Sampled, mean_of_sampled, two_way_bootstrap
from pairjax.evaluation.metrics import Statistic, difference_of, once
from pairjax.population.pooled import HeadTask
from pairjax.storage.files import read_json, write_json
from pairjax.studies.claim import RESAMPLES, ClaimRun
from pairjax.studies.combiners.cells import AT_EDGE, Cell, CellResult, Measure, main_metric, metric_of
from pairjax.studies.sets import data_folder, real_pairs

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
"""Every subset that makes sense: u goes with v, and u-v with u, v adds nothing to a linear head but regularisation."""
CONCATENATION: tuple[Feature, ...] = ("u", "v")
DIFFERENCE: tuple[Feature, ...] = ("u-v",)
PRODUCT: tuple[Feature, ...] = ("u*v",)
COMBINATION: tuple[Feature, ...] = ("u", "v", "u-v", "u*v")
SIZES = (4000, 600, 2000)


def contradiction_pairs() -> PairData:
    """Rule-made pairs: contradiction, or not (entailment and neutral)."""
    made = load_pairs(DataConfig(rules="entailment", sizes=SIZES))
    index = made.task.labels.index("contradiction")
    labels = ("other", "contradiction")
    splits = {}
    for name, pairs in made.splits.items():
        assert pairs.label is not None
        splits[name] = replace(pairs, label=(pairs.label == index).astype(np.int32))
    task = TaskSpec("classification", labels, positive=default_positive(labels))
    return PairData(task, splits, {**made.source, "name": "rules/contradiction"}, made.notes)


def rule_coherence_pairs() -> PairData:
    """Rule-made short texts: coherent, or not."""
    return load_pairs(DataConfig(rules="coherence", sizes=SIZES))


LIKENESS = ("mrpc", "stsb", "contradiction")
"""Where the relation is one of likeness or of contrast."""
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
    """Mean of the metric `value` of a statistic a seed, over test pairs and seeds; cautiously over `test_clusters`."""
    return two_way_bootstrap(
        runs, len(source.rows["test"]), resamples=RESAMPLES, seed=seed, clusters=source.test_clusters
    )["value"]


def score_cell(runs: Sequence[Statistic], source: HeadTask) -> str:
    """Mean ± deviation of the metric `value` over seeds, a statistic each, on the test pairs as they are."""
    everywhere = once(len(source.rows["test"]))
    scores = [float(one(everywhere)["value"][0]) for one in runs]
    return f"{np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f}"


def paired_difference(left: Sequence[Statistic], right: Sequence[Statistic], source: HeadTask, *, seed: int) -> Sampled:
    """The metric `value` of one less that of the other, one statistic a seed, over test pairs and seeds."""
    runs = [difference_of(one, other) for one, other in zip(left, right, strict=True)]
    return over_test(runs, source, seed=seed)


@dataclass(frozen=True)
class CombinerBoard:
    """Finished cells and the tasks that they are of."""

    sources: Mapping[str, HeadTask]
    cells: Mapping[tuple[str, Cell], CellResult]

    def result(self, task: str, features: tuple[Feature, ...], *, hidden: bool, noise: float = 0.0) -> CellResult:
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
        """A cell's metric on test, one statistic a seed."""
        source, found = self.sources[task], self.result(task, features, hidden=hidden, noise=noise)
        return [measure(source, row) for row in found.predicted]

    def difference(
        self,
        task: str,
        one: tuple[Feature, ...],
        other: tuple[Feature, ...],
        *,
        hidden: bool,
        measure: Measure = main_metric,
        seed: int = 0,
    ) -> Sampled:
        """One cell's metric less another's, over test pairs and seeds; the same pairs and seeds for both."""
        left = self.statistics(task, one, hidden=hidden, measure=measure)
        right = self.statistics(task, other, hidden=hidden, measure=measure)
        return paired_difference(left, right, self.sources[task], seed=seed)

    def chosen(self, task: str, *, hidden: bool) -> tuple[Feature, ...]:
        """Difference or product, by the tuning seeds' dev score."""
        return max((DIFFERENCE, PRODUCT), key=lambda one: self.result(task, one, hidden=hidden).tuned.max())

    def gain(self, tasks: Sequence[str], *, hidden: bool) -> Sampled:
        """Mean over tasks of the chosen one less concatenation."""
        return mean_of_sampled(
            [
                self.difference(task, self.chosen(task, hidden=hidden), CONCATENATION, hidden=hidden, seed=index)
                for index, task in enumerate(tasks)
            ]
        )

    def notes(self) -> list[str]:
        """What a reader should know of the cells: grid edges, diverged runs."""
        edge = sum(AT_EDGE in note for found in self.cells.values() for note in found.notes)
        lines = [f"{edge} of {len(self.cells)} cells chose a rate {AT_EDGE}"] if edge else []
        for (task, cell), found in self.cells.items():
            name = f"{task} {cell.name} {'hidden' if cell.hidden else 'linear'}"
            name += f" with {cell.noise:.0%} noise" if cell.noise else ""
            lines += [f"{name}: {note}" for note in found.notes if AT_EDGE not in note]
        return lines

    def table(self, tasks: Sequence[str], *, hidden: bool, noise: float = 0.0) -> list[list[str]]:
        """Mean test score and its deviation over seeds, one row a combiner; the best of a task in bold."""
        rows = [features for features in COMBINERS if (tasks[0], Cell(features, hidden, noise)) in self.cells]
        scores = np.array(
            [[100 * self.result(task, row, hidden=hidden, noise=noise).test for task in tasks] for row in rows]
        )
        means, deviations = np.nanmean(scores, axis=2), np.nanstd(scores, axis=2, ddof=1)
        lines = [["combiner", *tasks, "mean"]]
        for features, mean, deviation in zip(rows, means, deviations, strict=True):
            cells = [
                f"**{m:.2f}** ± {d:.2f}" if m == means[:, i].max() else f"{m:.2f} ± {d:.2f}"
                for i, (m, d) in enumerate(zip(mean, deviation, strict=True))
            ]
            lines.append([Cell(features, hidden).name, *cells, f"{mean.mean():.2f}"])
        return lines


def run_board(run: ClaimRun, wanted: Sequence[Cell]) -> CombinerBoard:
    """Run the wanted cells on every task, linear heads first; a quick run takes the rule-made tasks alone.

    Leaves combiners.json, which a report draws.
    """
    names = list(RULE_MADE if run.quick else TASKS)
    if not run.quick:
        data_folder()
    sources = {name: run.task(name, TASKS[name]) for name in names}
    cells = {
        (name, cell): run.cell(name, sources[name], cell)
        for hidden in (False, True)
        for name in names
        for cell in wanted
        if cell.hidden == hidden
    }
    board = CombinerBoard(sources, cells)
    write_gains(board, run.root / "combiners.json")
    return board


def write_gains(board: CombinerBoard, path: Path) -> None:
    """Each combiner's score and its gain over concatenation, with 95 % intervals over test pairs and seeds, as JSON.

    Nothing is done where the file is of these very predictions: all claims share it. Cells under noise have no part.

    Args:
        board: With the concatenation among its cells.
        path: `{"key", "against", "seeds", "tasks": [{"task", "metric", "pairs"}], "rows": [{"task", "combiner",
            "hidden", "score", "gain"}]}`; scores and gains in points, `{"value", "low", "high"}`.
    """
    plain = [(task, cell) for task, cell in board.cells if cell.noise == 0.0]
    digest = hashlib.sha256()
    for task, cell in plain:
        digest.update(json.dumps([RESAMPLES, task, board.sources[task].key, asdict(cell)]).encode())
        digest.update(np.ascontiguousarray(board.cells[task, cell].predicted).tobytes())
    key = digest.hexdigest()
    if path.is_file() and read_json(path).get("key") == key:
        return
    rows: list[dict[str, Any]] = []
    for index, (task, source) in enumerate(board.sources.items()):
        # One seed for all cells of a task: the same pairs and seeds are drawn for each, so that gains are paired.
        drawn = {
            cell: over_test(board.statistics(task, cell.features, hidden=cell.hidden), source, seed=index)
            for where, cell in plain
            if where == task
        }
        for cell, found in drawn.items():
            base = drawn[Cell(CONCATENATION, cell.hidden)]
            gain = found - base
            row = {"task": task, "combiner": cell.name, "hidden": cell.hidden}
            rows.append(row | {"score": found.interval().to_json(), "gain": gain.interval().to_json()})
    tasks = [
        {"task": task, "metric": metric_of(source), "pairs": len(source.rows["test"])}
        for task, source in board.sources.items()
    ]
    seeds = max(len(found.test) for found in board.cells.values())
    against = Cell(CONCATENATION, False).name
    write_json(path, {"key": key, "against": against, "seeds": seeds, "tasks": tasks, "rows": rows})


def all_cells(*, quick: bool = False) -> list[Cell]:
    """Every combiner with a linear head and with a hidden layer; a quick run takes the combination and its parts."""
    chosen = (CONCATENATION, DIFFERENCE, PRODUCT, COMBINATION) if quick else COMBINERS
    return [Cell(features, hidden) for hidden in (False, True) for features in chosen]
