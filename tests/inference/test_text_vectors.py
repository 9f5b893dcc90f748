"""Predictions of a bi-encoder: each text is encoded once, the answers do not change, and memory is bounded."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pairjax
from pairjax.base.model_config import InteractConfig, ModelConfig
from pairjax.data.sides import build_text_rows, distinct_sides
from pairjax.inference import text_vectors
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.logits import make_predict_logits, one_behind
from pairjax.inference.predictions import Prediction
from tests.data.test_pipeline import encode
from tests.inference.tiny_model import write_tiny_model

TEXTS = ["the man", "a dog is not a man no no", "some woman", "the dog", "no"]
PAIRS = [(a, b) for a in TEXTS for b in TEXTS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PairClassifier:
    return pairjax.load(write_tiny_model(tmp_path_factory.mktemp("bi"), max_length=8))


def test_equal_texts_are_one_row_on_either_side() -> None:
    encoded = encode([("a b", "c"), ("c", "a b"), ("d", "c")], kind="bi")
    sides = distinct_sides(encoded)
    assert sides.pairs.tolist() == [[0, 1], [1, 0], [2, 1]]
    rows = build_text_rows(list(sides.keys), encoded)
    assert len(rows) == 3
    assert rows.lengths.tolist() == rows.first_length.tolist() == [4, 3, 3]
    assert rows.tokens[:4].tolist() == encoded.tokens[:4].tolist()
    with pytest.raises(ValueError, match="joint"):
        distinct_sides(encode([("a", "b")]))


def test_answers_equal_those_of_pairs_encoded_together(model: PairClassifier) -> None:
    first, second = zip(*PAIRS, strict=True)
    encoded = model.encode(first, second)
    assert encoded.truncated > 0
    predict_logits = make_predict_logits(model._fns, model.task, mesh=model._mesh)
    expected = predict_logits(model._params, encoded, layout=model._layout, batch_size=8)
    np.testing.assert_allclose(model.outputs(first, second, batch_size=8), expected, atol=1e-5)


def test_each_text_is_encoded_once(model: PairClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded_counts: list[int] = []
    sides = model._sides
    assert sides is not None
    model.forget()
    inner = sides._encode
    monkeypatch.setattr(sides, "_encode", lambda rows, size: (encoded_counts.append(len(rows)), inner(rows, size))[1])
    before = model.predict(PAIRS)
    assert encoded_counts == [len(TEXTS)]
    assert model.predict(PAIRS) == before
    assert encoded_counts == [len(TEXTS), 0]
    streamed = list(model.predict_stream(iter(PAIRS), chunk=4, batch_size=8))
    assert [pair for pair, _ in streamed] == PAIRS
    assert [answer.label for _, answer in streamed] == [answer.label for answer in before]
    assert sum(encoded_counts) == len(TEXTS)


def test_the_cache_is_bounded(model: PairClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = text_vectors.SideVectors(model._fns, model._params, model._layout, model._mesh)
    monkeypatch.setattr(sides, "_capacity", 3)
    encoded = model.encode(*zip(*PAIRS, strict=True))
    vectors = sides.pairs(encoded, batch_size=8)
    assert len(sides._cache) == 3
    np.testing.assert_allclose(sides.pairs(encoded, batch_size=8), vectors, atol=1e-6)


def test_threads_may_share_a_model(model: PairClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model.predict(PAIRS)
    monkeypatch.setattr(model._sides, "_capacity", 2)
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = [pool.submit(model.predict, PAIRS) for _ in range(8)]
    assert all(np.allclose(_shares(answer.result()), _shares(expected), atol=1e-6) for answer in answers)
    assert len(model._sides._cache) == 2  # type: ignore[union-attr]


def _shares(predictions: list[Prediction]) -> list[list[float]]:
    return [list(prediction.probabilities.values()) for prediction in predictions]


def test_a_stream_fails_and_ends_with_its_source(model: PairClassifier) -> None:
    def broken():
        yield from PAIRS[:5]
        raise pairjax.UserError("line 6 is broken")

    with pytest.raises(pairjax.UserError, match="line 6"):
        list(model.predict_stream(broken(), chunk=4))
    assert list(model.predict_stream(iter([]))) == []


def test_sides_that_attend_to_each_other_are_not_encoded_separately(tmp_path: Path) -> None:
    config = ModelConfig(kind="bi", interact=InteractConfig(kind="cross", heads=2), pooling="mean")
    assert pairjax.load(write_tiny_model(tmp_path, config=config, max_length=8))._sides is None


def test_one_behind_yields_each_item_after_requesting_the_next() -> None:
    requested = []

    def source():
        for item in range(3):
            requested.append(item)
            yield item

    received = [(item, list(requested)) for item in one_behind(source())]
    assert received == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
