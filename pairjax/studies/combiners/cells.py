"""A cell of a table: one combiner and head on one task, tuned on dev by seeds of its own, then run with many seeds.

Rate and decay are chosen by the mean dev score of the tuning seeds, which are none of the seeds whose test scores
count; so every combiner meets its own best settings, and no test label chooses anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from pairjax.base.config import CombineConfig, Feature, HeadConfig, ModelConfig, OptimConfig
from pairjax.base.types import DropoutRates, Hypers
from pairjax.evaluation import metrics
from pairjax.evaluation.metrics import Statistic
from pairjax.population.engine import Trained, make_hypers, train_population
from pairjax.population.members import make_runs, scores_of
from pairjax.population.pooled import HeadTask, head_program
from pairjax.storage.arrays import cached_arrays
from pairjax.storage.hashes import hash_json
from pairjax.studies.sets import make_wrong

FORMAT = 1
AT_EDGE = "at the edge of the grid"


@dataclass(frozen=True)
class CellDesign:
    """How each cell is tuned and run; the same for all cells of a table.

    Attributes:
        rates: Learning rates tried.
        decays: Weight decays tried, each with each rate.
        tuning_seeds: Seeds that choose among them.
        seeds: Seeds whose scores count.
        steps: Updates of a run.
        batch_size: Pairs a step.
        hidden_parameters: About how many parameters a head with one hidden layer has, whatever it reads.
    """

    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    decays: tuple[float, ...] = (0.01, 1.0)
    tuning_seeds: tuple[int, ...] = (1000, 1001)
    seeds: tuple[int, ...] = tuple(range(20))
    steps: int = 1000
    batch_size: int = 32
    hidden_parameters: int = 25_000


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        features: What the combiner lays side by side.
        hidden: Whether the head has a hidden layer (of the design's size) or is linear.
        noise: Share of training labels made wrong.
    """

    features: tuple[Feature, ...]
    hidden: bool
    noise: float = 0.0

    @property
    def name(self) -> str:
        """As in tables: [u; v]."""
        return "[" + "; ".join(self.features) + "]"


@dataclass(frozen=True)
class CellResult:
    """A cell's scores.

    Attributes:
        rate: Chosen learning rate.
        decay: Chosen weight decay.
        tuned: Mean dev score of the tuning seeds, float64 [rates, decays].
        dev: float64 [seeds].
        test: float64 [seeds]; NaN for a seed that diverged.
        predicted: On test, [seeds, N]: class indices, or scores standardised as the head learns them.
        width: Of the hidden layer, 0 for a linear head.
        notes: Members that diverged, a rate at the edge of the grid.
    """

    rate: float
    decay: float
    tuned: Float64[np.ndarray, "rates decays"]
    dev: Float64[np.ndarray, " seeds"]
    test: Float64[np.ndarray, " seeds"]
    predicted: np.ndarray
    width: int
    notes: tuple[str, ...]


def metric_of(source: HeadTask) -> str:
    """Accuracy of classes, Spearman's correlation of scores."""
    return "accuracy" if source.task.kind == "classification" else "spearman"


def hidden_width(source: HeadTask, cell: Cell, design: CellDesign) -> int:
    """Of the hidden layer whose head has about `design.hidden_parameters`; 0 for a linear one."""
    if not cell.hidden:
        return 0
    inputs = source.vectors.shape[1] * len(cell.features)
    return max(1, round((design.hidden_parameters - source.task.outputs) / (inputs + 1 + source.task.outputs)))


def noisy_target(source: HeadTask, noise: float, *, seed: int = 0) -> np.ndarray:
    """Targets of all rows with a share of train's made wrong (`make_wrong`)."""
    generator, rows = np.random.default_rng(seed), source.rows["train"]
    chosen = generator.permutation(rows)[: round(noise * len(rows))]
    return make_wrong(source.target, chosen, source.task, generator)


def cell_identity(source: HeadTask, cell: Cell, design: CellDesign) -> str:
    """SHA-256 of all that decides a cell's result, but for versions and machine."""
    parts: list[Any] = [FORMAT, source.key, asdict(cell), asdict(design)]
    return hash_json(parts)


def run_cell(source: HeadTask, cell: Cell, design: CellDesign, *, folder: Path) -> CellResult:
    """Tune and run a cell, or read it where it was run before.

    Args:
        source: The task.
        cell: The combiner and head.
        design: Grid, seeds, steps.
        folder: Of finished cells, by identity.
    """
    identity = cell_identity(source, cell, design)
    found, _ = cached_arrays(folder, identity, lambda: _run(source, cell, design))
    notes = tuple(str(note) for note in found["notes"])
    rate, decay = (float(value) for value in found["chosen"])
    return CellResult(
        rate, decay, found["tuned"], found["dev"], found["test"], found["predicted"], int(found["width"]), notes
    )


def _run(source: HeadTask, cell: Cell, design: CellDesign) -> dict[str, np.ndarray]:
    metric, width = metric_of(source), hidden_width(source, cell, design)
    model = ModelConfig(
        kind="bi",
        combine=CombineConfig(features=cell.features),
        head=HeadConfig(hidden=(width,) if width else ()),
    )
    target = noisy_target(source, cell.noise) if cell.noise else source.target
    program = head_program(source, model, optim=OptimConfig(), steps=design.steps, dropout=False, target=target)
    base = Hypers(0.0, 0.0, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))

    def train(seeds: Sequence[int], rates: Sequence[float], decays: Sequence[float], splits: Sequence[str]) -> Trained:
        runs = make_runs(
            [source.rows["train"]] * len(seeds),
            seeds=seeds,
            hypers=make_hypers(base, learning_rate=rates, weight_decay=decays),
            batch_size=design.batch_size,
            steps=design.steps,
        )
        return train_population(program, runs, evaluate={split: source.rows[split] for split in splits})

    grid = [(rate, decay) for rate in design.rates for decay in design.decays]
    tuning = train(design.tuning_seeds, [rate for rate, _ in grid], [decay for _, decay in grid], ["dev"])
    scores = scores_of(source.task, tuning.outputs["dev"], source.label("dev"), metric).mean(axis=0)
    best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
    rate, decay = grid[best]
    final = train(design.seeds, [rate], [decay], ["dev", "test"])
    notes = [*final.notes()]
    if len(design.rates) > 1 and rate in (min(design.rates), max(design.rates)):
        notes.append(f"the chosen rate {rate:g} is {AT_EDGE}")
    outputs = final.outputs["test"][:, 0]
    lost = ~np.isfinite(outputs).all(axis=(1, 2))
    classes = source.task.kind == "classification"
    predicted = np.where(lost[:, None], -1, outputs.argmax(axis=-1)).astype(np.int8) if classes else outputs[..., 0]
    by_split = {
        split: scores_of(source.task, final.outputs[split], source.label(split), metric)[:, 0]
        for split in final.outputs
    }
    return {
        "chosen": np.array([rate, decay]),
        "tuned": scores.reshape(len(design.rates), len(design.decays)),
        **by_split,
        "predicted": predicted,
        "width": np.asarray(width),
        "notes": np.asarray(notes, dtype=np.str_),
    }


Measure = Callable[[HeadTask, np.ndarray], Statistic]
"""From a task and one run's predictions on test to a statistic with the metric `value`."""


def _diverged(source: HeadTask, predicted: np.ndarray) -> bool:
    """Such a run has no class (-1) or no finite score. Its metric is undefined, and with it the effect's interval."""
    return bool((predicted < 0).any() if source.task.kind == "classification" else not np.isfinite(predicted).all())


def main_metric(source: HeadTask, predicted: Float[np.ndarray, " pairs"] | np.ndarray) -> Statistic:
    """Accuracy or Spearman's correlation, in points (percent); undefined for a run that diverged."""
    if _diverged(source, predicted):
        return metrics.constant(np.nan)
    return metrics.points_of(source.task, predicted, source.label("test"))


def class_f1(name: str) -> Measure:
    """F1 of one class, in points; undefined for a run that diverged."""

    def measure(source: HeadTask, predicted: np.ndarray) -> Statistic:
        if _diverged(source, predicted):
            return metrics.constant(np.nan)
        label, index = source.label("test"), source.task.labels.index(name)

        def statistic(counts: np.ndarray) -> Mapping[str, np.ndarray]:
            tallied = metrics.tally(
                label.astype(np.int64), predicted.astype(np.int64), counts, classes=source.task.outputs
            )
            return {"value": 100.0 * metrics.f1(tallied)[:, index]}

        return statistic  # type: ignore[return-value]

    return measure
