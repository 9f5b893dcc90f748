"""Training on few pairs: training arms that differ only in the encoder's learning rate, and the measurements of each.

Both claims on overfitting use this module. An arm trains on a subset of a task. Its last parameters are scored on that
subset, on dev and on test, and one loss and one hit per pair are kept. The frozen arm trains on cached features as a
population; it is the same model with an encoder learning rate of 0.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from sklearn.model_selection import train_test_split

from pairjax.base.config import Config, EvalConfig, OptimConfig, TrainConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.model_config import CombineConfig, DropoutConfig, Feature, ModelConfig
from pairjax.base.types import DropoutRates, Hypers, PairData
from pairjax.data.subsets import sample_pairs, take_pairs
from pairjax.evaluation import metrics
from pairjax.evaluation.clusters import text_clusters
from pairjax.evaluation.counts import Statistic, difference_of, mean
from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.inference.load import load
from pairjax.population.engine import make_hypers, train_population
from pairjax.population.members import make_runs
from pairjax.population.pooled import HeadTask, head_program
from pairjax.storage.files import to_json, write_text
from pairjax.studies.claim import RESAMPLES
from pairjax.studies.kept_runs import MeasureRun, run_unit

Arm = Literal["frozen", "low", "full", "gradual"]
FEATURES: tuple[Feature, ...] = ("u", "v", "|u-v|", "u*v")
RATES: Mapping[Arm, float] = {"low": 5e-6, "full": 5e-5, "gradual": 5e-5}
"""The encoder's learning rate; 0 in the frozen arm."""
HEAD_RATE = 3e-3
"""The classifier's learning rate in every arm."""
LADDER = (32, 64)
"""Row lengths. All subsets have the same lengths, so they share compiled programs."""
GRADUAL = 0.5
"""Fraction of the run during which the gradual arm unfreezes its layers."""
SCORED_TRAIN = 1000
"""Most training pairs that an arm is scored on."""
WHAT = "loss and hit of each pair, 1"


@dataclass(frozen=True)
class ArmSetting:
    """A run, except for its seed.

    Attributes:
        arm: How the encoder is trained.
        size: Number of training pairs.
        steps: Number of updates.
        dropout: All four dropout rates.
        decay: Weight decay.
        batch_size: Pairs per update.
    """

    arm: Arm
    size: int
    steps: int
    dropout: float = 0.1
    decay: float = 0.01
    batch_size: int = 32


@dataclass(frozen=True)
class RunMeasures:
    """The losses and hits of a run.

    Attributes:
        train_loss: Mean loss over the training pairs, without dropout, in nats.
        train_accuracy: Accuracy on the training pairs, without dropout.
        dev_loss: Mean loss over dev, in nats.
        loss: float [N]; loss of each test pair, in nats.
        hits: float [N]; 1 for each test pair that is classified correctly, else 0.
        clusters: int [N]; cluster of each test pair (`text_clusters`).
        extra: Further measurements by name.
    """

    train_loss: float
    train_accuracy: float
    dev_loss: float
    loss: Float[np.ndarray, " pairs"]
    hits: Float[np.ndarray, " pairs"]
    clusters: Int[np.ndarray, " pairs"]
    extra: Mapping[str, np.ndarray]

    @property
    def test_loss(self) -> float:
        """Mean loss over test, in nats."""
        return float(self.loss.mean())


def subset(data: PairData, size: int, *, seed: int) -> Int[np.ndarray, " size"]:
    """Draws a subset of the training pairs, stratified by class; all of them if there are no more than `size`.

    Args:
        data: The task.
        size: Number of pairs.
        seed: Seeds the draw.

    Returns:
        int [size]; indices of the pairs in ascending order.
    """
    label = data.splits["train"].label
    assert label is not None
    if size >= len(label):
        return np.arange(len(label))
    index, _ = train_test_split(np.arange(len(label)), train_size=size, stratify=label, random_state=seed)
    return np.sort(index)


def write_pairs(data: PairData, index: Int[np.ndarray, " subset"], folder: Path) -> Path:
    """Writes some training pairs, and dev, as a data folder named by its content; returns that folder."""
    texts = {}
    for split, pairs in {"train": take_pairs(data.splits["train"], index), "dev": data.splits["dev"]}.items():
        assert pairs.label is not None
        lines = [
            to_json({"sentence1": a, "sentence2": b, "label": data.task.labels[int(label)]}) + "\n"
            for a, b, label in zip(pairs.first, pairs.second, pairs.label, strict=True)
        ]
        texts[f"{split}.jsonl"] = "".join(lines)
    subset_folder = folder / hashlib.sha256("\0".join(texts.values()).encode()).hexdigest()[:20]
    subset_folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(subset_folder / name, text)
    return subset_folder


def tuned_config(setting: ArmSetting, *, encoder: str, data: Path, seed: int) -> Config:
    """Returns the config of an arm that trains the encoder: bi-encoder, mean pooling, linear classifier."""
    rate = RATES[setting.arm]
    return Config(
        data=DataConfig(path=str(data), ladder=LADDER),
        model=ModelConfig(
            encoder=encoder,
            kind="bi",
            combine=CombineConfig(features=FEATURES),
            dropout=DropoutConfig(*[setting.dropout] * 4),
        ),
        optim=OptimConfig(
            learning_rate=rate,
            head_multiplier=HEAD_RATE / rate,
            weight_decay=setting.decay,
            gradual=GRADUAL if setting.arm == "gradual" else 0.0,
        ),
        train=TrainConfig(
            max_steps=setting.steps,
            batch_size=setting.batch_size,
            eval_every=setting.steps,
            seed=seed,
            metric="nll",
            keep="last",
        ),
        evaluation=EvalConfig(bootstrap=100, swap=False, fit=False),
    )


def losses_and_hits(
    logits: Float[np.ndarray, "pairs classes"], label: Int[np.ndarray, " pairs"]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Returns each pair's cross-entropy in nats, and 1 if its most probable class is correct, else 0."""
    return metrics.nll_each(logits, label), (logits.argmax(axis=1) == label).astype(np.float64)


def make_measure(data: PairData, index: Int[np.ndarray, " subset"], extra: MeasureRun) -> MeasureRun:
    """Builds the measurement of a run: losses and hits by split, and the further measurements of `extra`."""
    splits = {"train": take_pairs(data.splits["train"], index[:SCORED_TRAIN]), "dev": data.splits["dev"]}
    splits["test"] = data.splits["test"]

    def measure(folder: Path) -> dict[str, np.ndarray]:
        model = load(folder)
        order = [model.task.labels.index(name) for name in data.task.labels]
        arrays: dict[str, np.ndarray] = {}
        for split, pairs in splits.items():
            assert pairs.label is not None
            logits = model.outputs(pairs.first, pairs.second)[:, order]
            arrays[f"{split}/loss"], arrays[f"{split}/right"] = losses_and_hits(logits, pairs.label)
        return arrays | {f"more/{name}": value for name, value in extra(folder).items()}

    return measure


def read_measures(arrays: Mapping[str, np.ndarray], clusters: Int[np.ndarray, " pairs"]) -> RunMeasures:
    """Returns the measures of a run from its kept arrays and the clusters of its test pairs."""
    return RunMeasures(
        float(arrays["train/loss"].mean()),
        float(arrays["train/right"].mean()),
        float(arrays["dev/loss"].mean()),
        arrays["test/loss"],
        arrays["test/right"],
        clusters,
        {name.removeprefix("more/"): value for name, value in arrays.items() if name.startswith("more/")},
    )


def no_extra_measures(_: Path) -> dict[str, np.ndarray]:
    """Returns no further measurements."""
    return {}


def run_tuned(
    setting: ArmSetting,
    data: PairData,
    *,
    encoder: str,
    seed: int,
    folder: Path,
    extra: MeasureRun = no_extra_measures,
    what: str = "",
) -> RunMeasures:
    """Runs an arm that trains the encoder, or reads its measures if it was run before.

    Args:
        setting: The arm and its settings.
        data: The task; the subset is drawn from its train split.
        encoder: The encoder, as in --model.encoder.
        seed: Seeds the subset, the order, dropout and the classifier.
        folder: Runs are kept in `folder/units` and subsets in `folder/subsets`.
        extra: Further measurements of the finished run.
        what: Identifies these further measurements.
    """
    index = subset(data, setting.size, seed=seed)
    config = tuned_config(setting, encoder=encoder, data=write_pairs(data, index, folder / "subsets"), seed=seed)
    test = hashlib.sha256("\0".join(data.splits["test"].first).encode()).hexdigest()[:12]
    measure = make_measure(data, index, extra)
    arrays = run_unit(config, folder / "units", measure=measure, what=f"{WHAT}; test {test}; {what}")
    return read_measures(arrays, text_clusters(data.splits["test"]))


def run_frozen(
    settings: Sequence[ArmSetting], source: HeadTask, data: PairData, *, seeds: Sequence[int]
) -> dict[tuple[ArmSetting, int], RunMeasures]:
    """Trains the frozen arm on cached features: all settings, each with every seed, as one program.

    Args:
        settings: The settings. They may differ in dropout and weight decay only.
        source: The task's cached features.
        data: The task.
        seeds: The seeds of the runs.

    Returns:
        The measures by setting and seed.

    Raises:
        ValueError: The settings differ in size, steps or batch size.
    """
    sizes = {(setting.size, setting.steps, setting.batch_size) for setting in settings}
    if len(sizes) != 1:
        raise ValueError(f"settings of one program differ in (size, steps, batch_size): {sorted(sizes)}")
    ((size, steps, batch_size),) = sizes
    model = ModelConfig(kind="bi", combine=CombineConfig(features=FEATURES))
    program = head_program(source, model, optim=OptimConfig(), steps=steps, dropout=True)
    subsets = [subset(data, size, seed=seed) for seed in seeds]
    hypers = make_hypers(
        Hypers(HEAD_RATE, 0.0, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0)),
        head=[setting.dropout for setting in settings],
        weight_decay=[setting.decay for setting in settings],
    )
    runs = make_runs(
        [source.rows["train"][index] for index in subsets],
        seeds=seeds,
        hypers=hypers,
        batch_size=batch_size,
        steps=steps,
    )
    outputs = train_population(program, runs, evaluate=source.rows).outputs
    measures = {}
    for group, (seed, index) in enumerate(zip(seeds, subsets, strict=True)):
        for variant, setting in enumerate(settings):
            arrays: dict[str, np.ndarray] = {}
            for split in ("train", "dev", "test"):
                scored = index[:SCORED_TRAIN] if split == "train" else np.arange(len(source.rows[split]))
                logits, label = outputs[split][group, variant][scored], source.label(split)[scored]
                arrays[f"{split}/loss"], arrays[f"{split}/right"] = losses_and_hits(logits, label)
            measures[setting, seed] = read_measures(arrays, source.test_clusters)
    return measures


RunStatistic = Callable[[RunMeasures], Statistic]
"""Takes a run and returns a statistic over test pairs with the metric `value`."""


def loss_of(run: RunMeasures) -> Statistic:
    """Returns the mean test loss, in hundredths of a nat."""
    return lambda counts: {"value": 100.0 * mean(run.loss, counts)}


def accuracy_of(run: RunMeasures) -> Statistic:
    """Returns the test accuracy, in points."""
    return lambda counts: {"value": 100.0 * mean(run.hits, counts)}


def gap_of(run: RunMeasures) -> Statistic:
    """Returns accuracy on the training pairs minus accuracy on test, in points."""
    return lambda counts: {"value": 100.0 * (run.train_accuracy - mean(run.hits, counts))}


READINGS: Mapping[str, Callable[[RunMeasures], float]] = {
    "Test accuracy, points": lambda run: 100 * float(run.hits.mean()),
    "Gap: train minus test accuracy, points": lambda run: 100 * float(run.train_accuracy - run.hits.mean()),
    "Test loss, nats": lambda run: run.test_loss,
    "Dev loss, nats": lambda run: run.dev_loss,
    "Train loss, nats": lambda run: run.train_loss,
}
"""The numbers of a run that tables show."""


def run_line(run: RunMeasures) -> str:
    """Returns a line with the scores of a run."""
    return (
        f"train {100 * run.train_accuracy:6.2f} test {100 * run.hits.mean():6.2f} "
        f"loss train {run.train_loss:.3f} dev {run.dev_loss:.3f} test {run.test_loss:.3f}"
    )


def difference(
    pairs: Sequence[Sequence[tuple[RunMeasures, RunMeasures]]], statistic: RunStatistic, *, seed: int = 0
) -> Sampled:
    """Returns the mean difference between two runs, left minus right, paired by seed and test pair.

    Args:
        pairs: For each seed, the pairs of runs (left, right) whose mean is its value, for example one pair per size.
        statistic: The statistic of a run.
        seed: Seeds the bootstrap.
    """

    def of_seed(both: Sequence[tuple[RunMeasures, RunMeasures]]) -> Statistic:
        parts = [difference_of(statistic(left), statistic(right)) for left, right in both]
        return lambda counts: {"value": np.mean([part(counts)["value"] for part in parts], axis=0)}

    clusters = pairs[0][0][0].clusters
    runs = [of_seed(both) for both in pairs]
    return two_way_bootstrap(runs, len(clusters), resamples=RESAMPLES, seed=seed, clusters=clusters)["value"]


def cut_test(data: PairData, size: int) -> PairData:
    """Returns the task with a fixed sample of at most `size` test pairs."""
    test = sample_pairs(data.splits["test"], size)
    return data if test is data.splits["test"] else replace(data, splits={**data.splits, "test": test})
