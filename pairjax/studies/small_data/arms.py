"""Tuning on few rows: subsets of a task, arms that differ in the encoder's rate alone, and what is measured of each.

Both claims on overfitting read it: an arm is trained on a subset, its last parameters are scored on that subset, on
dev and on test, and kept as one loss and one hit a pair. The frozen arm trains on cached features, where it is the
same model with the encoder's rate 0, as a population.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from sklearn.model_selection import train_test_split

from pairjax.base.config import (
    CombineConfig,
    Config,
    DataConfig,
    DropoutConfig,
    EvalConfig,
    Feature,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from pairjax.base.types import DropoutRates, Hypers, PairData
from pairjax.data.folds import text_clusters
from pairjax.data.subsets import sample_pairs, take_pairs
from pairjax.evaluation import metrics
from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.evaluation.metrics import Statistic, difference_of
from pairjax.inference.classifier import load
from pairjax.population.engine import make_hypers, train_population
from pairjax.population.members import make_runs
from pairjax.population.pooled import HeadTask, head_program
from pairjax.storage.files import to_json, write_text
from pairjax.studies.claim import RESAMPLES
from pairjax.studies.kept_runs import Look, run_unit

Arm = Literal["frozen", "low", "full", "gradual"]
FEATURES: tuple[Feature, ...] = ("u", "v", "|u-v|", "u*v")
RATES: Mapping[Arm, float] = {"low": 5e-6, "full": 5e-5, "gradual": 5e-5}
"""The encoder's; the frozen arm's is 0."""
HEAD_RATE = 3e-3
"""The classifier's, in every arm."""
LADDER = (32, 64)
"""Row lengths, the same for every subset, so that all of them run the same compiled programs."""
GRADUAL = 0.5
"""Share of the run over which the gradual arm unfreezes."""
SCORED_TRAIN = 1000
"""Most train pairs that an arm is scored on."""
WHAT = "loss and hit of each pair, 1"


@dataclass(frozen=True)
class ArmSetting:
    """What a run is, but for its seed.

    Attributes:
        arm: How the encoder is tuned.
        size: Rows of train.
        steps: Updates.
        dropout: All rates alike.
        decay: Of the weights.
        batch_size: Pairs a step.
    """

    arm: Arm
    size: int
    steps: int
    dropout: float = 0.1
    decay: float = 0.01
    batch_size: int = 32


@dataclass(frozen=True)
class Measured:
    """A run's losses and hits.

    Attributes:
        train_loss: Mean over the rows that it trained on, without dropout, in nats.
        train_right: Share of hits there.
        dev_loss: Mean, in nats.
        loss: Of each test pair.
        right: Of each test pair, 1 or 0.
        clusters: Of each test pair (`text_clusters`).
        more: What else was measured, by name.
    """

    train_loss: float
    train_right: float
    dev_loss: float
    loss: Float[np.ndarray, " pairs"]
    right: Float[np.ndarray, " pairs"]
    clusters: Int[np.ndarray, " pairs"]
    more: Mapping[str, np.ndarray]

    @property
    def test_loss(self) -> float:
        return float(self.loss.mean())


def subset(data: PairData, size: int, *, seed: int) -> Int[np.ndarray, " size"]:
    """Rows of train, drawn by seed, with each class's share kept; all of them where there are no more."""
    label = data.splits["train"].label
    assert label is not None
    if size >= len(label):
        return np.arange(len(label))
    rows, _ = train_test_split(np.arange(len(label)), train_size=size, stratify=label, random_state=seed)
    return np.sort(rows)


def write_pairs(data: PairData, rows: Int[np.ndarray, " _"], folder: Path) -> Path:
    """A data folder of these rows of train, and dev, named by its content."""
    texts = {}
    for split, pairs in {"train": take_pairs(data.splits["train"], rows), "dev": data.splits["dev"]}.items():
        assert pairs.label is not None
        lines = [
            to_json({"sentence1": a, "sentence2": b, "label": data.task.labels[int(label)]}) + "\n"
            for a, b, label in zip(pairs.first, pairs.second, pairs.label, strict=True)
        ]
        texts[f"{split}.jsonl"] = "".join(lines)
    place = folder / hashlib.sha256("\0".join(texts.values()).encode()).hexdigest()[:20]
    place.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(place / name, text)
    return place


def tuned_config(setting: ArmSetting, *, encoder: str, data: Path, seed: int) -> Config:
    """A run of an arm that tunes the encoder: a bi-encoder with mean pooling and a linear classifier."""
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
    """Cross-entropy in nats, and 1 where the likeliest class is the true one."""
    return metrics.nll_each(logits, label), (logits.argmax(axis=1) == label).astype(np.float64)


def make_look(data: PairData, rows: Int[np.ndarray, " _"], more: Look) -> Look:
    """What is kept of a tuned run: losses and hits by split, and `more` under its own names."""
    splits = {"train": take_pairs(data.splits["train"], rows[:SCORED_TRAIN]), "dev": data.splits["dev"]}
    splits["test"] = data.splits["test"]

    def look(folder: Path) -> dict[str, np.ndarray]:
        model = load(folder)
        order = [model.task.labels.index(name) for name in data.task.labels]
        found: dict[str, np.ndarray] = {}
        for split, pairs in splits.items():
            assert pairs.label is not None
            logits = model.outputs(pairs.first, pairs.second)[:, order]
            found[f"{split}/loss"], found[f"{split}/right"] = losses_and_hits(logits, pairs.label)
        return found | {f"more/{name}": value for name, value in more(folder).items()}

    return look


def measured(found: Mapping[str, np.ndarray], clusters: Int[np.ndarray, " pairs"]) -> Measured:
    """From kept arrays of a run, and the clusters of its test pairs."""
    return Measured(
        float(found["train/loss"].mean()),
        float(found["train/right"].mean()),
        float(found["dev/loss"].mean()),
        found["test/loss"],
        found["test/right"],
        clusters,
        {name.removeprefix("more/"): value for name, value in found.items() if name.startswith("more/")},
    )


def nothing(_: Path) -> dict[str, np.ndarray]:
    """No further measures."""
    return {}


def run_tuned(
    setting: ArmSetting,
    data: PairData,
    *,
    encoder: str,
    seed: int,
    folder: Path,
    more: Look = nothing,
    what: str = "",
) -> Measured:
    """One run of an arm that tunes the encoder, run now or read.

    Args:
        setting: What to run.
        data: The task; its train is the pool that the subset is drawn from.
        encoder: As --model.encoder.
        seed: Of subset, order, dropout and classifier.
        folder: Units lie in `folder/units`, data in `folder/subsets`.
        more: Measures the run's model too.
        what: Names that.
    """
    rows = subset(data, setting.size, seed=seed)
    config = tuned_config(setting, encoder=encoder, data=write_pairs(data, rows, folder / "subsets"), seed=seed)
    test = hashlib.sha256("\0".join(data.splits["test"].first).encode()).hexdigest()[:12]
    look = make_look(data, rows, more)
    found = run_unit(config, folder / "units", look=look, what=f"{WHAT}; test {test}; {what}")
    return measured(found, text_clusters(data.splits["test"]))


def run_frozen(
    settings: Sequence[ArmSetting], source: HeadTask, data: PairData, *, seeds: Sequence[int]
) -> dict[tuple[ArmSetting, int], Measured]:
    """The frozen arm on cached features: settings of one size and length, each with every seed, as one program."""
    size, steps, batch_size = {(s.size, s.steps, s.batch_size) for s in settings}.pop()
    model = ModelConfig(kind="bi", combine=CombineConfig(features=FEATURES))
    program = head_program(source, model, optim=OptimConfig(), steps=steps, dropout=True)
    subsets = [subset(data, size, seed=seed) for seed in seeds]
    hypers = make_hypers(
        Hypers(HEAD_RATE, 0.0, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0)),
        head=[s.dropout for s in settings],
        weight_decay=[s.decay for s in settings],
    )
    runs = make_runs(
        [source.rows["train"][rows] for rows in subsets],
        seeds=seeds,
        hypers=hypers,
        batch_size=batch_size,
        steps=steps,
    )
    outputs = train_population(program, runs, evaluate=source.rows).outputs
    found = {}
    for group, (seed, rows) in enumerate(zip(seeds, subsets, strict=True)):
        for variant, setting in enumerate(settings):
            kept: dict[str, np.ndarray] = {}
            for split in ("train", "dev", "test"):
                chosen = rows[:SCORED_TRAIN] if split == "train" else np.arange(len(source.rows[split]))
                logits, label = outputs[split][group, variant][chosen], source.label(split)[chosen]
                kept[f"{split}/loss"], kept[f"{split}/right"] = losses_and_hits(logits, label)
            found[setting, seed] = measured(kept, source.test_clusters)
    return found


Read = Callable[[Measured], Statistic]
"""From a run to a statistic with the metric `value`, over test pairs."""


def loss_of(run: Measured) -> Statistic:
    """Mean test loss, in hundredths of a nat."""
    return lambda counts: {"value": 100.0 * metrics.mean(run.loss, counts)}


def accuracy_of(run: Measured) -> Statistic:
    """Test accuracy, in points."""
    return lambda counts: {"value": 100.0 * metrics.mean(run.right, counts)}


def gap_of(run: Measured) -> Statistic:
    """Accuracy on the rows that it trained on, less that on test, in points."""
    return lambda counts: {"value": 100.0 * (run.train_right - metrics.mean(run.right, counts))}


READINGS: Mapping[str, Callable[[Measured], float]] = {
    "Test accuracy, points": lambda run: 100 * float(run.right.mean()),
    "Gap: train less test accuracy, points": lambda run: 100 * float(run.train_right - run.right.mean()),
    "Test loss, nats": lambda run: run.test_loss,
    "Dev loss, nats": lambda run: run.dev_loss,
    "Train loss, nats": lambda run: run.train_loss,
}
"""Numbers of a run, for tables."""


def told(run: Measured) -> str:
    """A line on a run."""
    return (
        f"train {100 * run.train_right:6.2f} test {100 * run.right.mean():6.2f} "
        f"loss train {run.train_loss:.3f} dev {run.dev_loss:.3f} test {run.test_loss:.3f}"
    )


def difference(pairs: Sequence[Sequence[tuple[Measured, Measured]]], read: Read, *, seed: int = 0) -> Sampled:
    """Mean of one run's measure less the other's, over seeds and test pairs; both paired.

    Args:
        pairs: For each seed, the pairs of runs that its value is the mean of (one a size, say).
        read: The measure.
        seed: Of the bootstrap.
    """

    def of_seed(both: Sequence[tuple[Measured, Measured]]) -> Statistic:
        made = [difference_of(read(one), read(other)) for one, other in both]
        return lambda counts: {"value": np.mean([found(counts)["value"] for found in made], axis=0)}

    clusters = pairs[0][0][0].clusters
    runs = [of_seed(both) for both in pairs]
    return two_way_bootstrap(runs, len(clusters), resamples=RESAMPLES, seed=seed, clusters=clusters)["value"]


def cut_test(data: PairData, rows: int) -> PairData:
    """The task with a fixed sample of its test pairs, where it has more."""
    test = sample_pairs(data.splits["test"], rows)
    return data if test is data.splits["test"] else replace(data, splits={**data.splits, "test": test})
