"""What telling true next segments needs no pretraining for: the figures that a pretrained model must beat.

Each is fitted on train examples and answers the very held-out examples that the model answers, with the segments cut
as the model reads them. `second_alone` and `lengths` look for a leak in the sampler: of next segments neither should
beat chance. Of swapped ones `second_alone` may, since the second can be a document's opening, as it never is in order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pairjax.base.config import MINILM, DataConfig, ModelConfig
from pairjax.base.errors import UserError
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


class Drawn(NamedTuple):
    """Examples as text.

    Attributes:
        first: A, as the model reads it.
        second: B.
        lengths: Tokens of A and of B, [N, 2].
        label: 0 or 1.
        document: A's.
    """

    first: list[str]
    second: list[str]
    lengths: np.ndarray
    label: np.ndarray
    document: np.ndarray


def drawn_texts(maker: RowMaker, examples: int) -> Drawn:
    """Examples 0 to `examples - 1`, decoded."""
    found = [maker.sampler.draw(index) for index in range(examples)]
    decode = maker.tokenizer.backend.decode
    return Drawn(
        [decode(one.first.tolist()) for one in found],
        [decode(one.second.tolist()) for one in found],
        np.array([(len(one.first), len(one.second)) for one in found], np.float64),
        np.array([one.label for one in found]),
        np.array([maker.sampler.document_of(index) for index in range(examples)]),
    )


class BaselineScores(NamedTuple):
    """What the baselines reach.

    Attributes:
        accuracy: By split and baseline, with intervals by resampling documents.
        margin: The model's accuracy less the baseline's, likewise; both from the same resamples.
        notes: What was left out, a line each.
    """

    accuracy: dict[str, dict[str, Interval]]
    margin: dict[str, dict[str, Interval]]
    notes: tuple[str, ...]


def baseline_scores(
    train: Drawn, held_out: Mapping[str, Drawn], right: Mapping[str, np.ndarray], *, bootstrap: int
) -> BaselineScores:
    """Fit the baselines and score them beside the model.

    Args:
        train: What the baselines are fitted on.
        held_out: What they answer.
        right: bool [N] by split; whether the model answered each of these examples rightly.
        bootstrap: Resamples.
    """
    from sklearn.linear_model import LogisticRegression

    notes: list[str] = []
    features = _features(train, held_out, notes)
    scores: dict[str, dict[str, Interval]] = {split: {} for split in held_out}
    margins: dict[str, dict[str, Interval]] = {split: {} for split in held_out}
    for split, drawn in held_out.items():
        answers = {"majority": np.full(len(drawn.label), np.bincount(train.label).argmax())}
        for name, (fitted, inputs) in features.items():
            model = LogisticRegression(max_iter=1000).fit(fitted, train.label)
            answers[name] = model.predict(inputs[split])
        for name, answer in answers.items():
            found = answer == drawn.label
            scores[split][name] = accuracy_interval(drawn.document, found, bootstrap=bootstrap)
            more = right[split].astype(np.float64) - found
            margins[split][name] = accuracy_interval(drawn.document, more, bootstrap=bootstrap)
    return BaselineScores(scores, margins, tuple(notes))


def _features(train: Drawn, held_out: Mapping[str, Drawn], notes: list[str]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Each baseline's inputs, arrays or sparse matrices, for train and for each split."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import StandardScaler

    drawn = {"": train, **held_out}
    made: dict[str, dict[str, Any]] = {}
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    words.fit(train.second)
    made["second_alone"] = {split: words.transform(one.second) for split, one in drawn.items()}
    scaler = StandardScaler().fit(_shape(train))
    made["lengths"] = {split: scaler.transform(_shape(one)) for split, one in drawn.items()}
    overlap = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit([*train.first, *train.second])
    made["tfidf_overlap"] = {
        split: np.asarray(overlap.transform(one.first).multiply(overlap.transform(one.second)).sum(axis=1))
        for split, one in drawn.items()
    }
    try:
        made["frozen_minilm"] = _cosines(drawn)
    except UserError as error:
        notes.append(f"the frozen encoder's cosine is left out: {error}")
    return {name: (rows[""], {split: rows[split] for split in held_out}) for name, rows in made.items()}


def _shape(drawn: Drawn) -> np.ndarray:
    """Lengths, their sum and their difference."""
    a, b = drawn.lengths.T
    return np.column_stack([a, b, a + b, np.abs(a - b)])


def _cosines(drawn: Mapping[str, Drawn]) -> dict[str, np.ndarray]:
    """Cosine of a sentence encoder's two vectors, [N, 1].

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
        found = np.zeros((len(encoded), 1))
        for batch in eval_batches(encoded, None, plan_in_order(encoded.lengths, layout, BATCH)):
            u, v = np.moveaxis(np.asarray(vectors(params, batch), np.float64)[:, 0], 1, 0)
            real = batch.example_id[:, 0] >= 0
            size = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
            found[batch.example_id[real, 0], 0] = ((u * v).sum(axis=1) / np.maximum(size, 1e-9))[real]
        return found

    return {split: cosine(one.first, one.second) for split, one in drawn.items()}
