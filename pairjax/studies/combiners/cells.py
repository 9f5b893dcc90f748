"""A cell of the combiners' table: one combiner and head on one task.

A cell is tuned on dev with tuning seeds, then run with other seeds. The mean dev score of the tuning seeds chooses the
learning rate and the weight decay. Only the test scores of the other seeds count. So each combiner has its own best
settings, and no test label influences a choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from pairjax.base.config import OptimConfig
from pairjax.base.model_config import CombineConfig, Feature, HeadConfig, ModelConfig
from pairjax.base.types import DropoutRates, Hypers
from pairjax.evaluation import metrics
from pairjax.evaluation.counts import Statistic, constant
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
        rates: The learning rates to try.
        decays: The weight decays to try, each with each learning rate.
        tuning_seeds: The seeds that choose among them.
        seeds: The seeds whose scores count.
        steps: Updates of a run.
        batch_size: Pairs per update.
        hidden_parameters: The approximate number of parameters of a head with one hidden layer, for any combiner.
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
    """A combiner and a head.

    Attributes:
        features: The features that the combiner concatenates.
        hidden: Whether the head has a hidden layer (of the design's size); otherwise it is linear.
        noise: The fraction of the training labels that are made wrong.
    """

    features: tuple[Feature, ...]
    hidden: bool
    noise: float = 0.0

    @property
    def name(self) -> str:
        """The combiner as tables name it, for example [u; v]."""
        return "[" + "; ".join(self.features) + "]"


@dataclass(frozen=True)
class CellResult:
    """The scores of a cell.

    Attributes:
        rate: The chosen learning rate.
        decay: The chosen weight decay.
        tuning: float64 [rates, decays]; mean dev score of the tuning seeds.
        dev: float64 [seeds]; dev scores.
        test: float64 [seeds]; test scores, NaN for a seed that diverged.
        predicted: [seeds, N]; predictions on test: class indices, or scores standardised as the head learns them.
        width: The width of the hidden layer; 0 for a linear head.
        notes: Members that diverged, and a chosen rate at the edge of the grid.
    """

    rate: float
    decay: float
    tuning: Float64[np.ndarray, "rates decays"]
    dev: Float64[np.ndarray, " seeds"]
    test: Float64[np.ndarray, " seeds"]
    predicted: np.ndarray
    width: int
    notes: tuple[str, ...]


def metric_of(source: HeadTask) -> str:
    """Returns the metric of a task: accuracy for classes, Spearman's correlation for scores."""
    return "accuracy" if source.task.kind == "classification" else "spearman"


def hidden_width(source: HeadTask, cell: Cell, design: CellDesign) -> int:
    """Returns the hidden width for a head of about `design.hidden_parameters`; 0 for a linear head."""
    if not cell.hidden:
        return 0
    inputs = source.vectors.shape[1] * len(cell.features)
    return max(1, round((design.hidden_parameters - source.task.outputs) / (inputs + 1 + source.task.outputs)))


def noisy_target(source: HeadTask, noise: float, *, seed: int = 0) -> np.ndarray:
    """Returns the targets of all pairs, with a fraction of those of train made wrong (`make_wrong`)."""
    generator, index = np.random.default_rng(seed), source.rows["train"]
    wrong = generator.permutation(index)[: round(noise * len(index))]
    return make_wrong(source.target, wrong, source.task, generator)


def cell_identity(source: HeadTask, cell: Cell, design: CellDesign) -> str:
    """Returns the SHA-256 of everything that determines a cell's result, except versions and machine."""
    parts: list[Any] = [FORMAT, source.key, asdict(cell), asdict(design)]
    return hash_json(parts)


def run_cell(source: HeadTask, cell: Cell, design: CellDesign, *, folder: Path) -> CellResult:
    """Tunes and runs a cell, or reads its result if it was run before.

    Args:
        source: The task.
        cell: The combiner and head.
        design: The grid, the seeds and the steps.
        folder: The folder of finished cells, which are named by identity.
    """
    identity = cell_identity(source, cell, design)
    arrays, _ = cached_arrays(folder, identity, lambda: _run(source, cell, design))
    notes = tuple(str(note) for note in arrays["notes"])
    rate, decay = (float(value) for value in arrays["chosen"])
    return CellResult(
        rate, decay, arrays["tuned"], arrays["dev"], arrays["test"], arrays["predicted"], int(arrays["width"]), notes
    )


def _run(source: HeadTask, cell: Cell, design: CellDesign) -> dict[str, np.ndarray]:
    """Tunes and runs a cell; returns the arrays to keep."""
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
    rate, decay = grid[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))]
    final = train(design.seeds, [rate], [decay], ["dev", "test"])
    notes = [*final.notes()]
    if len(design.rates) > 1 and rate in (min(design.rates), max(design.rates)):
        notes.append(f"the chosen rate {rate:g} is {AT_EDGE}")
    outputs = final.outputs["test"][:, 0]
    diverged = ~np.isfinite(outputs).all(axis=(1, 2))
    classes = source.task.kind == "classification"
    predicted = np.where(diverged[:, None], -1, outputs.argmax(axis=-1)).astype(np.int8) if classes else outputs[..., 0]
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
"""Takes a task and one run's predictions on test, and returns a statistic with the metric `value`."""


def _diverged(source: HeadTask, predicted: np.ndarray) -> bool:
    """Returns whether a run diverged: it then has no class (-1) or no finite score.

    Its metric is undefined, so the interval of the effect is undefined, too.
    """
    return bool((predicted < 0).any() if source.task.kind == "classification" else not np.isfinite(predicted).all())


def main_metric(source: HeadTask, predicted: Float[np.ndarray, " pairs"] | np.ndarray) -> Statistic:
    """Returns accuracy or Spearman's correlation in points (percent); undefined for a run that diverged."""
    if _diverged(source, predicted):
        return constant(np.nan)
    return metrics.points_of(source.task, predicted, source.label("test"))


def class_f1(name: str) -> Measure:
    """Builds the measure "F1 of one class", in points; undefined for a run that diverged."""

    def measure(source: HeadTask, predicted: np.ndarray) -> Statistic:
        if _diverged(source, predicted):
            return constant(np.nan)
        label, index = source.label("test"), source.task.labels.index(name)

        def statistic(counts: np.ndarray) -> Mapping[str, np.ndarray]:
            tallied = metrics.tally(
                label.astype(np.int64), predicted.astype(np.int64), counts, classes=source.task.outputs
            )
            return {"value": 100.0 * metrics.f1(tallied)[:, index]}

        return statistic  # type: ignore[return-value]

    return measure
