"""What an encoder still knows of other tasks: linear probes on its frozen vectors, before and after it was tuned."""

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

from pairjax.base.config import FeatureConfig
from pairjax.base.types import PairData
from pairjax.data.folds import text_clusters
from pairjax.data.subsets import sample_pairs
from pairjax.evaluation.intervals import Sampled, two_way_bootstrap
from pairjax.evaluation.metrics import difference_of, once, points_of
from pairjax.population.features import cached_features
from pairjax.storage.arrays import cached_arrays
from pairjax.storage.hashes import hash_pairs
from pairjax.studies.claim import RESAMPLES
from pairjax.weights import encoder_content

CUT = {"train": 600, "dev": 300, "test": 1000}
"""Most pairs of each split that a probe reads; encoding them is what costs."""


def cut(data: PairData, sizes: Mapping[str, int] = CUT) -> PairData:
    """The task with a fixed sample of each split."""
    return replace(data, splits={split: sample_pairs(data.splits[split], size) for split, size in sizes.items()})


def probe_encoder(encoder: str, tasks: Mapping[str, PairData]) -> dict[str, np.ndarray]:
    """Each task's test predictions by a linear probe on [u; v; |u-v|; u*v] of the encoder's mean-pooled vectors.

    Args:
        encoder: As --model.encoder.
        tasks: By name, cut to size.
    """
    place = Path(tempfile.mkdtemp(prefix="pairjax-probe-"))
    found = {}
    try:
        for name, data in tasks.items():
            features = cached_features(data.splits.values(), place / name, FeatureConfig(encoder=encoder))
            inputs = {}
            for split, pairs in data.splits.items():
                u, v = (np.asarray(features.pooled, np.float32)[side] for side in features.sides(pairs).T)
                inputs[split] = np.concatenate([u, v, np.abs(u - v), u * v], axis=1)
            found[name] = linear_probe(data, inputs)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found


def probes_key(tasks: Mapping[str, PairData]) -> str:
    """Names what `probe_encoder` measures on these tasks."""
    digest = hashlib.sha256(b"linear probes 1")
    for name, data in tasks.items():
        digest.update(name.encode() + hash_pairs(data).digest())
    return digest.hexdigest()[:20]


def probe_kept(encoder: str, tasks: Mapping[str, PairData], *, folder: Path) -> dict[str, np.ndarray]:
    """As `probe_encoder`, of an encoder that is not tuned; read where it was measured before."""
    identity = hashlib.sha256(f"{encoder_content(encoder)} {probes_key(tasks)}".encode()).hexdigest()
    found, _ = cached_arrays(folder, identity, lambda: probe_encoder(encoder, tasks))
    return dict(found)


def make_probe_look(tasks: Mapping[str, PairData]) -> Callable[[Path], dict[str, np.ndarray]]:
    """Measures a finished run's encoder, for `run_tuned`."""
    return lambda folder: probe_encoder(str(folder / "model" / "encoder"), tasks)


def probe_score(data: PairData, predicted: np.ndarray) -> float:
    """A probe's score on test, in points."""
    label = data.splits["test"].label
    assert label is not None
    return float(points_of(data.task, predicted, label)(once(len(predicted)))["value"][0])


def probe_difference(
    data: PairData, one: Sequence[np.ndarray], other: Sequence[np.ndarray], *, seed: int = 0
) -> Sampled:
    """Mean of one probe's score less the other's, run by run, over test pairs and runs.

    Args:
        data: The probed task.
        one: Test predictions of each run.
        other: Likewise; the same runs in the same order.
        seed: Of the bootstrap.
    """
    label = data.splits["test"].label
    assert label is not None
    runs = [
        difference_of(points_of(data.task, a, label), points_of(data.task, b, label))
        for a, b in zip(one, other, strict=True)
    ]
    test = data.splits["test"]
    return two_way_bootstrap(runs, len(test), resamples=RESAMPLES, seed=seed, clusters=text_clusters(test))["value"]


STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty that a linear probe chooses among."""


def linear_probe(
    data: PairData, inputs: Mapping[str, Float[np.ndarray, "pairs features"]]
) -> Float[np.ndarray, " scored"]:
    """What a linear model of given features says of the test pairs: class indices, or scores.

    Features are standardised on train; the penalty is the one of `STRENGTHS` that is best on dev (accuracy, or
    Spearman's correlation), the strongest of equals.

    Args:
        data: Labels of train and dev.
        inputs: Features of train, dev and test.
    """
    train, dev = data.splits["train"].label, data.splits["dev"].label
    assert train is not None
    assert dev is not None
    scaler = StandardScaler().fit(inputs["train"])
    scaled = {split: scaler.transform(values) for split, values in inputs.items()}
    best, chosen = -np.inf, np.zeros(len(inputs["test"]))
    for strength in STRENGTHS:
        regression = data.task.kind == "regression"
        model = Ridge(alpha=1.0 / strength) if regression else LogisticRegression(C=strength, max_iter=1000)
        model.fit(scaled["train"], train)
        found = points_of(data.task, model.predict(scaled["dev"]), dev)(once(len(dev)))["value"][0]
        if found > best:
            best, chosen = found, model.predict(scaled["test"])
    return chosen.astype(np.float64)
