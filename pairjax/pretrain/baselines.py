"""Baselines for the segments' label that need no pretraining; a pretrained model must beat them.

Each is fitted on train examples and predicts the same held-out examples as the model, with the segments truncated as
the model reads them. `second_alone` and `lengths` look for a leak in the sampler: with next segments neither should
beat chance. With swapped segments `second_alone` may, because the second segment can be the start of a document, which
it never is in order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import MINILM, ModelConfig
from pairjax.base.types import Batch, Params
from pairjax.data.encode import encode_pairs
from pairjax.data.layout import choose_layout, plan_in_order
from pairjax.data.masking import RowMaker
from pairjax.data.pipeline import eval_batches
from pairjax.data.tokenizer import load_tokenizer
from pairjax.evaluation.intervals import Interval
from pairjax.models.build import build_pair_model
from pairjax.pretrain.held_out import accuracy_interval
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder

BATCH = 64
"""Pairs per batch of the frozen encoder."""


class SegmentTexts(NamedTuple):
    """Pairs of segments as text.

    Attributes:
        first: Segment A of each example, as the model reads it.
        second: Segment B of each example.
        lengths: float64 [N, 2]; number of tokens of A and of B.
        label: int [N]; 0 or 1.
        document: int [N]; the document of A.
    """

    first: list[str]
    second: list[str]
    lengths: np.ndarray
    label: np.ndarray
    document: np.ndarray


def segment_texts(maker: RowMaker, examples: int) -> SegmentTexts:
    """Returns examples 0 to `examples - 1` of a split, decoded."""
    segments = [maker.sampler.draw(index) for index in range(examples)]
    decode = maker.tokenizer.backend.decode
    return SegmentTexts(
        [decode(pair.first.tolist()) for pair in segments],
        [decode(pair.second.tolist()) for pair in segments],
        np.array([(len(pair.first), len(pair.second)) for pair in segments], np.float64),
        np.array([pair.label for pair in segments]),
        np.array([maker.sampler.document_of(index) for index in range(examples)]),
    )


class BaselineScores(NamedTuple):
    """The scores of the baselines.

    Attributes:
        accuracy: Accuracy by split and baseline, with intervals from resampled documents.
        margin: The model's accuracy minus the baseline's, with intervals from the same resamples.
        notes: Lines about baselines that were left out.
    """

    accuracy: dict[str, dict[str, Interval]]
    margin: dict[str, dict[str, Interval]]
    notes: tuple[str, ...]


def baseline_scores(
    train: SegmentTexts, held_out: Mapping[str, SegmentTexts], correct: Mapping[str, np.ndarray], *, bootstrap: int
) -> BaselineScores:
    """Fits the baselines and scores them against the model.

    Args:
        train: The examples to fit the baselines on.
        held_out: The examples to score, by split.
        correct: bool [N] by split; whether the model's prediction of each of these examples is correct.
        bootstrap: Number of resamples.
    """
    from sklearn.linear_model import LogisticRegression

    features, notes = _features(train, held_out)
    scores: dict[str, dict[str, Interval]] = {split: {} for split in held_out}
    margins: dict[str, dict[str, Interval]] = {split: {} for split in held_out}
    for split, texts in held_out.items():
        predictions = {"majority": np.full(len(texts.label), np.bincount(train.label).argmax())}
        for name, inputs in features.items():
            model = LogisticRegression(max_iter=1000).fit(inputs[TRAIN], train.label)
            predictions[name] = model.predict(inputs[split])
        for name, prediction in predictions.items():
            hits = prediction == texts.label
            scores[split][name] = accuracy_interval(texts.document, hits, bootstrap=bootstrap)
            margin = correct[split].astype(np.float64) - hits
            margins[split][name] = accuracy_interval(texts.document, margin, bootstrap=bootstrap)
    return BaselineScores(scores, margins, notes)


TRAIN = ""
"""Key of the training examples among the splits of `_features`; no split has this name."""


def _features(
    train: SegmentTexts, held_out: Mapping[str, SegmentTexts]
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Returns each baseline's inputs by split, arrays or sparse matrices, and notes on baselines that are left out."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import StandardScaler

    texts = {TRAIN: train, **held_out}
    features: dict[str, dict[str, Any]] = {}
    notes: tuple[str, ...] = ()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    words.fit(train.second)
    features["second_alone"] = {split: words.transform(pairs.second) for split, pairs in texts.items()}
    scaler = StandardScaler().fit(_length_features(train))
    features["lengths"] = {split: scaler.transform(_length_features(pairs)) for split, pairs in texts.items()}
    overlap = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit([*train.first, *train.second])
    features["tfidf_overlap"] = {
        split: np.asarray(overlap.transform(pairs.first).multiply(overlap.transform(pairs.second)).sum(axis=1))
        for split, pairs in texts.items()
    }
    try:
        features["frozen_minilm"] = _cosines(texts)
    except UserError as error:
        notes = (f"the frozen encoder's cosine is left out: {error}",)
    return features, notes


def _length_features(texts: SegmentTexts) -> np.ndarray:
    """Returns float64 [N, 4]: both lengths, their sum and their absolute difference."""
    a, b = texts.lengths.T
    return np.column_stack([a, b, a + b, np.abs(a - b)])


def _cosines(texts: Mapping[str, SegmentTexts]) -> dict[str, np.ndarray]:
    """Returns float64 [N, 1] by split: the cosine of a frozen sentence encoder's vectors of both segments.

    Raises:
        UserError: The encoder's package is not installed.
    """
    folder = resolve_encoder(MINILM)
    spec = read_encoder_spec(folder)
    tokenizer = load_tokenizer(folder, family=spec.family)
    fns = build_pair_model(ModelConfig(kind="bi", pooling="mean"), spec, 2)
    params = {"encoder": load_encoder(folder, spec).params}

    @jax.jit
    def vectors(params: Params, batch: Batch) -> jax.Array:
        return fns.vectors(params, batch)

    def cosine(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        encoded = encode_pairs(first, second, tokenizer, kind="bi", max_length=128)
        layout = choose_layout(DataConfig(buckets=2), encoded.lengths)
        cosines = np.zeros((len(encoded), 1))
        for batch in eval_batches(encoded, None, plan_in_order(encoded.lengths, layout, BATCH)):
            u, v = np.moveaxis(np.asarray(vectors(params, batch), np.float64)[:, 0], 1, 0)
            real = batch.example_id[:, 0] >= 0
            size = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
            cosines[batch.example_id[real, 0], 0] = ((u * v).sum(axis=1) / np.maximum(size, 1e-9))[real]
        return cosines

    return {split: cosine(pairs.first, pairs.second) for split, pairs in texts.items()}
