"""How well a tuned encoder still transfers: linear probes on its frozen vectors, before and after tuning."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from pairjax.base.feature_config import FeatureConfig
from pairjax.base.types import PairData
from pairjax.data.subsets import sample_pairs
from pairjax.evaluation.clusters import text_clusters
from pairjax.evaluation.counts import difference_of, once
from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.evaluation.metrics import points_of
from pairjax.population.features import cached_features
from pairjax.storage.arrays import cached_arrays
from pairjax.storage.hashes import hash_pairs
from pairjax.studies.claim import RESAMPLES
from pairjax.weights import encoder_content

CUT = {"train": 600, "dev": 300, "test": 1000}
"""Most pairs of each split that a probe uses. Encoding them takes most of the time."""


def subsample(data: PairData, sizes: Mapping[str, int] = CUT) -> PairData:
    """Returns the task with a fixed sample of each split."""
    return replace(data, splits={split: sample_pairs(data.splits[split], size) for split, size in sizes.items()})


def probe_encoder(encoder: str, tasks: Mapping[str, PairData]) -> dict[str, np.ndarray]:
    """Returns the test predictions of a linear probe on [u; v; |u-v|; u*v] of the encoder's mean-pooled vectors.

    Args:
        encoder: The encoder, as in --model.encoder.
        tasks: The probed tasks by name, already subsampled.

    Returns:
        The predictions by task.
    """
    folder = Path(tempfile.mkdtemp(prefix="pairjax-probe-"))
    predictions = {}
    try:
        for name, data in tasks.items():
            features = cached_features(data.splits.values(), folder / name, FeatureConfig(encoder=encoder))
            inputs = {}
            for split, pairs in data.splits.items():
                u, v = (np.asarray(features.pooled, np.float32)[side] for side in features.sides(pairs).T)
                inputs[split] = np.concatenate([u, v, np.abs(u - v), u * v], axis=1)
            predictions[name] = linear_probe(data, inputs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return predictions


def probes_key(tasks: Mapping[str, PairData]) -> str:
    """Returns a key that identifies the measurements of `probe_encoder` on these tasks."""
    digest = hashlib.sha256(b"linear probes 1")
    for name, data in tasks.items():
        digest.update(name.encode() + hash_pairs(data).digest())
    return digest.hexdigest()[:20]


def cached_probes(encoder: str, tasks: Mapping[str, PairData], *, folder: Path) -> dict[str, np.ndarray]:
    """Returns the predictions of `probe_encoder`, from the folder if this encoder was probed before."""
    identity = hashlib.sha256(f"{encoder_content(encoder)} {probes_key(tasks)}".encode()).hexdigest()
    predictions, _ = cached_arrays(folder, identity, lambda: probe_encoder(encoder, tasks))
    return dict(predictions)


def make_probe_measure(tasks: Mapping[str, PairData]) -> Callable[[Path], dict[str, np.ndarray]]:
    """Builds the measurement that probes a finished run's encoder, for `run_tuned`."""
    return lambda folder: probe_encoder(str(folder / "model" / "encoder"), tasks)


def probe_score(data: PairData, predicted: np.ndarray) -> float:
    """Returns a probe's test score, in points."""
    label = data.splits["test"].label
    assert label is not None
    return float(points_of(data.task, predicted, label)(once(len(predicted)))["value"][0])


def probe_difference(
    data: PairData, left: Sequence[np.ndarray], right: Sequence[np.ndarray], *, seed: int = 0
) -> Sampled:
    """Returns the mean difference between two probes' scores, left minus right, paired by run and test pair.

    Args:
        data: The probed task.
        left: Test predictions of each run.
        right: Test predictions of the same runs in the same order.
        seed: Seeds the bootstrap.
    """
    label = data.splits["test"].label
    assert label is not None
    runs = [
        difference_of(points_of(data.task, a, label), points_of(data.task, b, label))
        for a, b in zip(left, right, strict=True)
    ]
    test = data.splits["test"]
    return two_way_bootstrap(runs, len(test), resamples=RESAMPLES, seed=seed, clusters=text_clusters(test))["value"]


STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty; a linear probe chooses one of them."""


def linear_probe(
    data: PairData, inputs: Mapping[str, Float[np.ndarray, "pairs features"]]
) -> Float[np.ndarray, " scored"]:
    """Returns the test predictions of a linear model: class indices, or scores.

    Features are standardised on train. The penalty is the best of `STRENGTHS` on dev (accuracy, or Spearman's
    correlation), the strongest one among equals.

    Args:
        data: The task, with labels of train and dev.
        inputs: Features of train, dev and test by split.
    """
    train, dev = data.splits["train"].label, data.splits["dev"].label
    assert train is not None
    assert dev is not None
    scaler = StandardScaler().fit(inputs["train"])
    scaled = {split: scaler.transform(values) for split, values in inputs.items()}
    best, predicted = -np.inf, np.zeros(len(inputs["test"]))
    for strength in STRENGTHS:
        regression = data.task.kind == "regression"
        model = Ridge(alpha=1.0 / strength) if regression else LogisticRegression(C=strength, max_iter=1000)
        model.fit(scaled["train"], train)
        score = points_of(data.task, model.predict(scaled["dev"]), dev)(once(len(dev)))["value"][0]
        if score > best:
            best, predicted = score, model.predict(scaled["test"])
    return predicted.astype(np.float64)
