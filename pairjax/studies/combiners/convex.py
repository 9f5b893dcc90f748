"""Combiners of two frozen vectors under convex heads: one optimum each, so that replicates are encoders and subsets.

A head is a logistic regression on standardised features, whose penalty is chosen on dev. All relations are binary and
have one metric, the area under the ROC curve. Three relations of SICK share their pairs, so that only the relation
differs between them.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Int8, UInt8

from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import Feature
from pairjax.base.types import PairData, Pairs
from pairjax.data.subsets import sample_pairs, take_pairs
from pairjax.evaluation.baselines import second_words
from pairjax.evaluation.clusters import text_clusters
from pairjax.evaluation.counts import Counts, Statistic, difference_of, once
from pairjax.evaluation.intervals import Sampled, combine, two_way_bootstrap
from pairjax.evaluation.ranking import auc
from pairjax.evaluation.words import overlap_features
from pairjax.population.features import cached_features
from pairjax.storage.arrays import cached_arrays
from pairjax.storage.hashes import hash_json, hash_pairs
from pairjax.studies.claim import RESAMPLES, ClaimRun
from pairjax.studies.combiners.board import COMBINERS
from pairjax.studies.sets import real_pairs
from pairjax.weights import encoder_content

FORMAT = 1
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths C of the L2 penalty, of which dev chooses one."""
TOLERANCE, MOST_ITERATIONS = 1e-5, 5000
TRAIN_PAIRS, TEST_PAIRS = 1000, 1000
"""Pairs of a training subset, and the most test pairs; a fixed sample of test is taken."""
BASELINES = ("second text alone", "word overlap")

Relation = Callable[[], PairData]
Pool = Literal["cls", "mean"]
Vectors = Mapping[str, Float[np.ndarray, "pairs 2 dim"]]


def name_of(features: Sequence[Feature]) -> str:
    """Returns a combiner as tables name it, for example [u; v]."""
    return "[" + "; ".join(features) + "]"


def binary(data: PairData, positive: Callable[[np.ndarray], np.ndarray], *, test_pairs: int = TEST_PAIRS) -> PairData:
    """Returns a task's pairs with label 1 for positive pairs and 0 for others, with a fixed sample of test.

    Args:
        data: The pairs.
        positive: Maps the labels of a split to bool [N].
        test_pairs: The most test pairs.
    """
    splits = {}
    for name, pairs in data.splits.items():
        assert pairs.label is not None
        relabelled = replace(pairs, label=positive(pairs.label).astype(np.int32))
        splits[name] = sample_pairs(relabelled, test_pairs) if name == "test" else relabelled
    return replace(data, splits=splits)


def _of_class(name: str, label: str) -> Relation:
    """Builds the relation `label or not` of a data set."""

    def read() -> PairData:
        data = real_pairs(name)
        index = data.task.labels.index(label)
        return binary(data, lambda labels: labels == index)

    return read


def _above_median(name: str) -> Relation:
    """Builds the relation `score at least the median of train` of a data set with scores."""

    def read() -> PairData:
        data = real_pairs(name)
        scores = data.splits["train"].label
        assert scores is not None
        middle = np.median(scores)
        return binary(data, lambda labels: labels >= middle)

    return read


RELATIONS: Mapping[str, Relation] = {
    "sick: contradiction": _of_class("sick", "contradiction"),
    "sick: entailment": _of_class("sick", "entailment"),
    "sick: related": _above_median("sick-relatedness"),
    "mrpc: paraphrase": _of_class("mrpc", "paraphrase"),
    "stsb: similar": _above_median("stsb"),
    "assin2: entailment": _of_class("assin2", "entailment"),
}


def training_subset(pairs: Pairs, *, size: int, seed: int) -> Pairs:
    """Returns a random subset of the training pairs; all of them if there are no more than `size`."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    return take_pairs(pairs, np.sort(order[:size]))


def combined(vectors: Float[np.ndarray, "pairs 2 dim"], features: Sequence[Feature]) -> Float[np.ndarray, "pairs size"]:
    """Computes and concatenates features of the two vectors of each pair."""
    u, v = vectors[:, 0], vectors[:, 1]
    parts: Mapping[Feature, np.ndarray] = {"u": u, "v": v, "u-v": u - v, "|u-v|": np.abs(u - v), "u*v": u * v}
    return np.concatenate([parts[feature] for feature in features], axis=1)


@dataclass(frozen=True)
class Fitted:
    """A head at its optimum.

    Attributes:
        penalty: The inverse strength C that dev chose.
        score: float64 [N]; the logits on test.
    """

    penalty: float
    score: Float[np.ndarray, " test"]


def fit_head(inputs: Mapping[str, Any], label: Mapping[str, np.ndarray]) -> Fitted:
    """Fits logistic regressions on standardised features and keeps the penalty with the lowest dev loss.

    Args:
        inputs: By split (train, dev, test), [N, size]. Sparse features (TF-IDF) are not standardised.
        label: By split (train, dev), int [N]; 0 or 1.

    Raises:
        RuntimeError: The solver did not converge.
    """
    from scipy import sparse
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    scaled = inputs
    if not sparse.issparse(inputs["train"]):
        scaler = StandardScaler().fit(inputs["train"])
        scaled = {split: scaler.transform(values) for split, values in inputs.items()}
    model = LogisticRegression(tol=TOLERANCE, max_iter=MOST_ITERATIONS, warm_start=True)
    best, lowest = Fitted(0.0, np.zeros(0)), np.inf
    for penalty in PENALTIES:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.set_params(C=penalty).fit(scaled["train"], label["train"])
            except ConvergenceWarning as warning:
                raise RuntimeError(f"no optimum at C = {penalty:g}: {warning}") from warning
        loss = log_loss(label["dev"], model.predict_proba(scaled["dev"])[:, 1], labels=[0, 1])
        if loss < lowest:
            best, lowest = Fitted(penalty, model.decision_function(scaled["test"])), loss
    return best


def score_levels(score: Float[np.ndarray, " pairs"]) -> UInt8[np.ndarray, " pairs"]:
    """Returns the rank of each score in 256 levels, which is all that the metric reads, in one byte a pair."""
    rank = np.unique(score, return_inverse=True)[1].astype(np.int64)
    return (rank * 256 // max(int(rank.max(initial=0)) + 1, 1)).astype(np.uint8)


def head_scores(vectors: Vectors, label: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fits a head for each combiner.

    Args:
        vectors: By split, the vectors of both texts of each pair.
        label: By split, the labels.

    Returns:
        `score`: uint8 [combiners, N], the levels of the scores on test; `penalty`: float32 [combiners].
    """
    fitted = [fit_head({s: combined(v, features) for s, v in vectors.items()}, label) for features in COMBINERS]
    return {
        "score": np.stack([score_levels(head.score) for head in fitted]),
        "penalty": np.array([head.penalty for head in fitted], np.float32),
    }


def baseline_scores(splits: Mapping[str, Pairs], label: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fits the same heads on the words of the second text alone, and on the overlap of words."""
    seconds = [second_words(splits["train"], splits[name]) for name in ("dev", "test")]
    words = {"train": seconds[0][0], "dev": seconds[0][1], "test": seconds[1][1]}
    overlap = {name: overlap_features(splits[name]) for name in ("train", "dev", "test")}
    return {"score": np.stack([score_levels(fit_head(inputs, label).score) for inputs in (words, overlap)])}


@dataclass(frozen=True)
class Replicates:
    """The scores of one relation.

    Attributes:
        label: int8 [N]; the labels of test.
        clusters: int32 [N]; the cluster of each test pair (`text_clusters`).
        scores: uint8 [encoders, poolings, subsets, combiners, N].
        baselines: uint8 [subsets, baselines, N].
    """

    label: Int8[np.ndarray, " pairs"]
    clusters: Int[np.ndarray, " pairs"]
    scores: UInt8[np.ndarray, "encoders poolings subsets combiners pairs"]
    baselines: UInt8[np.ndarray, "subsets baselines pairs"]

    def statistics(self, combiner: Sequence[Feature]) -> list[Statistic]:
        """Returns the metric of a combiner for each encoder, as the mean over poolings and training subsets.

        Poolings of one encoder are no independent replicates, so they are averaged before the bootstrap.
        """
        chosen = self.scores[:, :, :, COMBINERS.index(tuple(combiner))]
        rows = chosen.reshape(len(chosen), -1, chosen.shape[-1])
        return [mean_statistic([auc(self.label, row) for row in encoder]) for encoder in rows]

    def with_pooling(self, index: int) -> "Replicates":
        """Returns the scores with one of the poolings only."""
        return replace(self, scores=self.scores[:, index : index + 1])

    def baseline(self, index: int) -> float:
        """Returns the metric of a baseline, as the mean over training subsets."""
        statistic = mean_statistic([auc(self.label, row) for row in self.baselines[:, index]])
        return float(statistic(once(len(self.label)))["value"][0])

    def sampled(self, statistics: Sequence[Statistic], *, seed: int) -> Sampled:
        """Returns the mean over encoders with its bootstrap over encoders and test pairs."""
        return two_way_bootstrap(
            statistics, len(self.label), resamples=RESAMPLES, seed=seed, runs_seed=0, clusters=self.clusters
        )["value"]


def mean_statistic(parts: Sequence[Statistic]) -> Statistic:
    """Builds the statistic whose metric `value` is the mean of that of several."""

    def statistic(counts: Counts) -> dict[str, np.ndarray]:
        return {"value": np.mean([part(counts)["value"] for part in parts], axis=0)}

    return statistic


def run_relation(
    claim: ClaimRun,
    name: str,
    read: Relation,
    encoders: Mapping[str, str],
    poolings: Sequence[Pool],
    *,
    subsets: int,
) -> Replicates:
    """Fits all heads of a relation; each encoder, pooling and training subset is a unit of the claim.

    Units that were recorded need neither the pairs nor the encoder.

    Args:
        claim: The run.
        name: The relation.
        read: Reads its pairs, with labels 0 and 1.
        encoders: The encoders by name.
        poolings: How tokens become a vector.
        subsets: Number of training subsets.
    """
    data = cache(read)

    def target() -> dict[str, np.ndarray]:
        test = data().splits["test"]
        return {"label": np.asarray(test.label, np.int8), "clusters": text_clusters(test).astype(np.int32)}

    def unit(label: str, seed: int, config: FeatureConfig | None) -> np.ndarray:
        claim.check_time()
        make = partial(_run_unit, data, config, folder=claim.root, name=f"{name}/{label}", seed=seed)
        score = claim.unit(f"{name}/{label}/subset {seed}", make)["score"]
        claim.cells_run += 1
        return score

    def rows(label: str, place: str, pooling: Pool) -> np.ndarray:
        config = FeatureConfig(encoder=place, pooling=pooling)
        return np.stack([unit(f"{label}, {pooling}", seed, config) for seed in range(subsets)])

    found = claim.unit(name, target)
    scores = [np.stack([rows(label, place, pooling) for pooling in poolings]) for label, place in encoders.items()]
    baselines = np.stack([unit("baselines", seed, None) for seed in range(subsets)])
    return Replicates(found["label"], found["clusters"], np.stack(scores), baselines)


def _run_unit(
    read: Relation, config: FeatureConfig | None, *, folder: Path, name: str, seed: int
) -> Mapping[str, np.ndarray]:
    """Fits the heads of all combiners on a training subset, or reads them; without an encoder, the baselines."""
    data = read()
    splits = {"train": training_subset(data.splits["train"], size=TRAIN_PAIRS, seed=seed)}
    splits |= {split: data.splits[split] for split in ("dev", "test")}
    label = {split: np.asarray(pairs.label) for split, pairs in splits.items()}
    # What the vectors depend on: the weights by their content, and the pooling.
    source = None if config is None else [encoder_content(config.encoder), config.pooling]
    digest = hash_pairs(replace(data, splits=splits)).hexdigest()

    def fit() -> dict[str, np.ndarray]:
        if config is None:
            return baseline_scores(splits, label)
        place = folder / "features" / "-".join(re.findall(r"[\w-]+", name))
        features = cached_features(data.splits.values(), place, config)
        pooled = np.asarray(features.pooled).astype(np.float32)
        return head_scores({split: pooled[features.sides(pairs)] for split, pairs in splits.items()}, label)

    identity = hash_json([FORMAT, source, digest, PENALTIES, TOLERANCE])
    return cached_arrays(folder / "convex", identity, fit)[0]


def gain(relation: Replicates, first: Sequence[Feature], second: Sequence[Feature], *, seed: int) -> Sampled:
    """Returns the metric of one combiner minus that of another, paired by encoder and test pair."""
    pairs = zip(relation.statistics(first), relation.statistics(second), strict=True)
    return relation.sampled([difference_of(a, b) for a, b in pairs], seed=seed)


def score_table(relations: Mapping[str, Replicates]) -> list[list[str]]:
    """Tabulates the mean over encoders ± the standard deviation over encoders, and the baselines."""
    rows = [["combiner", *relations]]
    for features in COMBINERS:
        cells = []
        for relation in relations.values():
            values = [float(s(once(len(relation.label)))["value"][0]) for s in relation.statistics(features)]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{spread}")
        rows.append([name_of(features), *cells])
    rows.append(["majority", *["50.00"] * len(relations)])
    for index, name in enumerate(BASELINES):
        rows.append([name, *(f"{relation.baseline(index):.2f}" for relation in relations.values())])
    return rows


def worst_regrets(relations: Mapping[str, Replicates]) -> dict[str, Sampled]:
    """Returns the worst regret of each combiner: its largest distance from the best combiner of a relation.

    The mean over encoders is compared, and the bootstrap draws the same encoders for all relations. The maximum of
    noisy scores is biased upwards, for the best combiner and for the worst relation alike.
    """
    scores = [
        [relation.sampled(relation.statistics(features), seed=number) for features in COMBINERS]
        for number, relation in enumerate(relations.values())
    ]
    flat = [score for row in scores for score in row]

    def regret(index: int) -> Callable[[np.ndarray], np.ndarray]:
        def worst(values: np.ndarray) -> np.ndarray:
            by_relation = values.reshape(len(scores), len(COMBINERS), -1)
            return (by_relation.max(axis=1) - by_relation[:, index]).max(axis=0)

        return worst

    return {name_of(features): combine(flat, regret(index)) for index, features in enumerate(COMBINERS)}
