"""Fit baselines that count words: a model's score means little unless it is higher.

The baselines are the majority class and three linear models of scikit-learn: on lengths; on the second text alone,
which shows whether B by itself reveals the label; and on the overlap of words, with negations counted.
"""

import numpy as np
from jaxtyping import Shaped
from scipy import sparse
from scipy.stats import rankdata
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs
from pairjax.evaluation.intervals import RESAMPLES, wilson_interval
from pairjax.evaluation.words import length_features, overlap_features


def second_words(train: Pairs, scored: Pairs) -> tuple[sparse.spmatrix, sparse.spmatrix]:
    """Returns TF-IDF features of the second texts, fitted on train; one constant feature if train has no word."""
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    analyze = vectoriser.build_analyzer()
    if not any(analyze(text) for text in train.second):
        return sparse.csr_matrix((len(train), 1)), sparse.csr_matrix((len(scored), 1))
    return vectoriser.fit_transform(train.second), vectoriser.transform(scored.second)


def _scaled(train: np.ndarray, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets of features standardised by train."""
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(scored)


def _spearman(
    predicted: Shaped[np.ndarray, " pairs"], label: Shaped[np.ndarray, " pairs"], seed: int
) -> dict[str, float]:
    """Returns Spearman's correlation with a bootstrap 95 % interval over pairs; NaN if either side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(label) == 0:
        return {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    ranks = np.stack([rankdata(predicted), rankdata(label)])
    value = float(np.corrcoef(ranks)[0, 1])
    generator = np.random.default_rng(seed)
    # Resamples use the ranks of the full sample: new ranks would change the third digit and cost ten times more.
    index = generator.integers(0, ranks.shape[1], (RESAMPLES, ranks.shape[1]))
    x, y = ranks[0][index], ranks[1][index]
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    sampled = (x * y).sum(1)[scale > 0] / scale[scale > 0]
    low, high = np.quantile(sampled, (0.025, 0.975))
    return {"value": value, "low": float(low), "high": float(high)}


def _labelled_splits(data: PairData, split: str) -> tuple[Pairs, Pairs]:
    """Returns train and the split to score; raises UserError unless both have labelled pairs."""
    for name in ("train", split):
        pairs = data.splits.get(name)
        if pairs is None or pairs.label is None or len(pairs) == 0:
            got = "no such split" if pairs is None else "no labels" if pairs.label is None else "no pairs"
            raise UserError(f"the baselines need labelled pairs in {name}", got=got)
    return data.splits["train"], data.splits[split]


def lexical_baselines(data: PairData, *, split: str = "dev", seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """Fits the baselines on train and scores them on another split.

    Args:
        data: A task with a labelled train split.
        split: Name of the labelled split to score.
        seed: Seeds the bootstrap of a regression.

    Returns:
        By baseline (`majority`, `length`, `hypothesis_only`, `word_overlap`): `accuracy` for classes, with Wilson's
        95 % interval, or `spearman` for scores, with a bootstrap interval; each `{"value", "low", "high"}`. Regression
        has no `majority`, because a constant has no rank correlation.

    Raises:
        UserError: Train or `split` is missing, empty or unlabelled.
    """
    if data.task.kind == "multi-label":
        raise UserError("the baselines need one class for each pair, or scores", got="pairs that carry several labels")
    train, scored = _labelled_splits(data, split)
    assert train.label is not None
    assert scored.label is not None
    inputs = {
        "length": _scaled(length_features(train), length_features(scored)),
        "hypothesis_only": second_words(train, scored),
        "word_overlap": _scaled(overlap_features(train), overlap_features(scored)),
    }
    if data.task.kind == "regression":
        predicted = {name: Ridge().fit(x, train.label).predict(z) for name, (x, z) in inputs.items()}
        return {name: {"spearman": _spearman(guess, scored.label, seed)} for name, guess in predicted.items()}
    majority = np.full(len(scored), np.bincount(train.label).argmax())
    guesses = {"majority": majority} | {name: _classify(x, train.label, z) for name, (x, z) in inputs.items()}
    return {
        name: {"accuracy": wilson_interval(int((guess == scored.label).sum()), len(scored))._asdict()}
        for name, guess in guesses.items()
    }


def _classify(inputs: object, label: Shaped[np.ndarray, " pairs"], scored: object) -> Shaped[np.ndarray, " scored"]:
    """Returns the classes that logistic regression predicts; the only class of train if there is just one."""
    if len(np.unique(label)) < 2:
        return np.full(scored.shape[0], label[0])  # type: ignore[attr-defined]
    return LogisticRegression(max_iter=1000, tol=1e-6).fit(inputs, label).predict(scored)
