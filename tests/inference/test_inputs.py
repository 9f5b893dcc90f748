"""Pairs and texts from Python: every usual form gives the answers of tuples, and everything else is refused."""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pairjax
from pairjax.base.errors import TruncationWarning, UserError
from pairjax.base.model_config import ModelConfig
from pairjax.data.stream import iter_pairs, iter_rows
from pairjax.data.table import BadRow
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.inputs import read_count, read_pairs, read_texts
from tests.inference.tiny_model import write_tiny_model

A, B, C, D = "the man", "no woman", "a dog", "the dog is not a man"
PAIRS = [(A, B), (C, D)]


class Frame:
    """Stands in for a data frame: named columns, and iteration over the names."""

    def __init__(self, values: dict):
        self.values = values

    columns = property(lambda self: list(self.values))

    def __getitem__(self, name):
        return self.values[name]

    def __iter__(self):
        return iter(self.values)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PairClassifier:
    return pairjax.load(write_tiny_model(tmp_path_factory.mktemp("bi"), max_length=32, layers=1))


@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS,
        tuple(PAIRS),
        [list(pair) for pair in PAIRS],
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        (pair for pair in PAIRS),
        zip((A, C), (B, D), strict=True),
        dict(PAIRS).items(),
        [{"text": A, "text_pair": B}, {"text": C, "text_pair": D}],
        [{"sentence1": A, "sentence2": B, "label": "x", "score": 1}, {"Premise": C, "hypothesis": D}],
        [{"b": B, "a": A}, (C, D)],
        {"question1": [A, C], "question2": np.array([B, D])},
        Frame({"id": [1, 2], "sentence2": [B, D], "sentence1": (A, C)}),
        Frame({0: [A, C], 1: [B, D]}),
        pa.table({"text1": [A, C], "text2": [B, D]}),
        pa.table({"text1": [A, C], "text2": [B, D]}).to_pylist(),
    ],
    ids=lambda pairs: type(pairs).__name__,
)
def test_pairs_in_every_usual_form_are_the_same_pairs(pairs) -> None:
    assert read_pairs(pairs) == PAIRS


def test_data_frames_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(PAIRS, columns=["sentence1", "sentence2"], index=[7, 3])
    for pairs in (frame, frame.values, frame.to_dict("records"), frame.apply(tuple, axis=1), pandas.DataFrame(PAIRS)):
        assert read_pairs(pairs) == PAIRS
    assert read_pairs(frame.itertuples(index=False)) == PAIRS
    assert read_texts(frame["sentence1"]) == [A, C]
    with pytest.raises(UserError, match="pair 2: its first text is not text; got float nan"):
        read_pairs(pandas.DataFrame({"a": [A, float("nan")], "b": [B, D]}))
    with pytest.raises(UserError, match="these are not texts; got DataFrame"):
        read_texts(frame)


@pytest.mark.parametrize("pair", [(A, B), {"text": A, "text_pair": B}, {"text_pair": B, "text": A, "label": 1}])
def test_one_pair_is_one_pair(pair) -> None:
    assert read_pairs(pair) == [(A, B)]


@pytest.mark.parametrize(
    "pairs", [[], (), iter([]), np.zeros((0, 2), str), {"a": [], "b": []}, pa.table({"a": [], "b": []})]
)
def test_no_pair_is_no_pair(pairs, model: PairClassifier) -> None:
    assert model.predict(pairs) == []


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("ab", "one value, or values without an order; got str"),
        (b"ab", "without an order; got bytes"),
        (["ab", "cd"], "pair 1 is not two texts; got str 'ab'"),
        (np.array(["ab", "cd"]), "pair 1 is not two texts; got str"),
        ([(A, B), (A, B, C)], "pair 2 is not two texts; got 3 values"),
        ([(A,)], "pair 1 is not two texts; got 1 values"),
        ([{A, B}], "pair 1 is not two texts; got set"),
        ({(A, B)}, "without an order; got set"),
        ([(A, B), (A, None)], "pair 2: its second text is empty"),
        ([(A, " \t")], "pair 1: its second text is empty"),
        ([(A, 3)], "pair 1: its second text is not text; got int 3"),
        ([(A, b"x")], "pair 1: its second text is not text; got bytes"),
        ([(A, "\ud800")], "pair 1: its second text is not Unicode text"),
        ([None], "pair 1 is not two texts; got NoneType"),
        (None, "this cannot be iterated; got NoneType"),
        (5, "this cannot be iterated; got int"),
        ([{"x": A, "y": B}], "pair 1: no text columns found; got columns x, y"),
        ([{"text": A, "text_pair": B, "hypothesis": C}], "pair 1: more than one pair of text columns"),
        (Frame({"x": [A], "y": [B]}), "pairs: no text columns found"),
        ({"a": [A, C], "b": [B]}, "differ in length; got 2 and 1"),
        ({"a": A}, "pairs: no text columns found"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused_in_one_line(pairs, message: str, model: PairClassifier) -> None:
    for read in (model.predict, lambda pairs: list(model.predict_stream(pairs))):
        with pytest.raises(UserError, match=re.escape(message)) as error:
            read(pairs)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("texts", [A, [A], (A,), np.array([A]), (text for text in [A]), iter([A]), {A: 1}.keys()])
def test_one_text_has_one_vector(texts, model: PairClassifier) -> None:
    assert model.embed(texts).shape == (1, model.artifact.spec.hidden_size)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (b"x", "these are not texts"),
        ({"text": A}, "these are not texts"),
        (Frame({"text": [A]}), "these are not texts"),
        ({A, B}, "without an order"),
        (3, "cannot be iterated"),
        ([A, None], "text 2: the text is empty"),
        ([A, ""], "text 2: the text is empty"),
        ([A, float("nan")], "text 2: the text is not text; got float nan"),
        (np.array([[A, B]]), "text 1: the text is not text"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, message: str, model: PairClassifier) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        model.embed(texts)


@pytest.mark.parametrize("size", [0, -1, 1.5, None, "8", True])
def test_a_count_is_a_positive_integer(size) -> None:
    with pytest.raises(UserError, match="batch_size is not a positive integer; got"):
        read_count(size, "batch_size")


def test_a_batch_size_of_0_is_refused_by_every_method(model: PairClassifier) -> None:
    for call in (
        lambda: model.predict(PAIRS, batch_size=0),
        lambda: model.predict([], batch_size=0),
        lambda: model.embed([A], batch_size=0),
        lambda: model.outputs([A], [B], batch_size=0),
        lambda: model.predict_stream(PAIRS, batch_size=0),
    ):
        with pytest.raises(UserError, match="batch_size is not a positive integer; got 0; expected at least 1"):
            call()
    with pytest.raises(UserError, match="chunk is not a positive integer"):
        model.predict_stream(PAIRS, chunk=0)
    assert model.predict(PAIRS, batch_size=np.int64(2)) == model.predict(PAIRS, batch_size=2)


def test_texts_from_python_are_normalised_as_texts_of_files_are(model: PairClassifier, tmp_path: Path) -> None:
    composed, decomposed = ("café não", "maçã"), tuple(unicodedata.normalize("NFD", t) for t in ("café não", "maçã"))
    (tmp_path / "p.jsonl").write_text(json.dumps({"a": decomposed[0], "b": decomposed[1]}) + "\n")
    assert decomposed != composed
    assert read_pairs([decomposed]) == list(iter_pairs(tmp_path / "p.jsonl")) == [composed]
    assert read_texts(decomposed) == list(composed)
    assert model.predict([decomposed]) == model.predict([composed])
    assert [pair for pair, _ in model.predict_stream([decomposed])] == [composed]
    np.testing.assert_array_equal(model.embed(decomposed), model.embed(composed))
    np.testing.assert_array_equal(model.outputs(*decomposed), model.outputs(*composed))
    assert model.encode(*decomposed).tokens.tolist() == model.encode(*composed).tokens.tolist()
    with pytest.raises(UserError, match="each pair needs two texts; got 2 first and 1 second texts"):
        model.outputs([A, C], [B])


def test_a_cut_text_is_a_warning(model: PairClassifier) -> None:
    long = "the man is not a dog " * 20
    cut = "1 of 2 pairs have a text longer than 32 tokens and were cut (longest_first), 90 tokens lost"
    for call in (
        lambda: model.predict([(A, B), (A, long)]),
        lambda: model.outputs([A, A], [B, long]),
        lambda: list(model.predict_stream([(A, B), (A, long)], chunk=1)),
    ):
        with pytest.warns(TruncationWarning, match=re.escape(cut)):
            call()
    with pytest.warns(TruncationWarning, match="1 of 2 texts are longer than 32 tokens and were cut"):
        model.embed([A, long])


@pytest.mark.filterwarnings("error")
def test_texts_that_fit_give_no_warning(model: PairClassifier) -> None:
    model.predict(PAIRS)
    model.embed(A)


@pytest.mark.parametrize("kind", ["cross", "bi"])
def test_a_pair_that_may_not_be_cut_has_the_number_of_its_row(kind, tmp_path: Path) -> None:
    config = ModelConfig(kind=kind)
    folder = write_tiny_model(tmp_path, config=config, max_length=32, layers=1, truncation="only_second")
    model = pairjax.load(folder)
    long = "the man is not a dog " * 20
    rows = [(A, B)] * 11 + [(long, B)] + [(C, D)] * 3
    with pytest.raises(UserError, match=r"^pair 12: the first text alone fills the row"):
        list(model.predict_stream(rows, chunk=8))
    with pytest.raises(UserError, match=r"^pair 12: the first text"):
        model.predict(rows)
    answers = list(model.predict_rows(rows, chunk=8, mark=True))
    assert [i for i, (row, answer) in enumerate(answers) if answer is None] == [11]
    bad = answers[11][0]
    assert isinstance(bad, BadRow)
    assert bad.number == 12
    assert bad.reason.startswith("pair 12: the first text alone fills the row")
    expected = model.predict(rows[:11] + rows[12:])
    assert [answer.label for _, answer in answers if answer] == [answer.label for answer in expected]
    # In a file the number is that of the line.
    lines = ["sentence1\tsentence2", *("\t".join(row) for row in rows), "\tx"]
    (tmp_path / "p.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"p\.tsv, line 13: the first text alone fills the row"):
        list(model.predict_rows(iter_rows(tmp_path / "p.tsv"), chunk=8))
    marked = [
        row.number for row, _ in model.predict_rows(iter_rows(tmp_path / "p.tsv"), mark=True) if isinstance(row, BadRow)
    ]
    assert marked == [13, 17]


def test_a_row_that_is_no_pair_keeps_its_place_if_it_is_marked(model: PairClassifier) -> None:
    answers = list(model.predict_rows([(A, B), ("", B), "ab", (C, D)], mark=True))
    assert [row.number for row, _ in answers if isinstance(row, BadRow)] == [2, 3]
    assert [answer is None for _, answer in answers] == [False, True, True, False]
