"""Labels make a task: its kind, the order of its names, and errors that name the row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.columns import Columns
from pairjax.data.labels import is_numeric, label_name
from pairjax.data.subsets import cut_dev
from pairjax.data.table import RawSplit
from pairjax.data.tasks import encode_labels, read_task, relabel


def raw(labels, *, name: str = "train.tsv", class_names: tuple[str, ...] | None = None) -> RawSplit:
    texts = [f"text {i}" for i in range(len(labels))]
    return RawSplit(
        place=f"data/{name}",
        short=name,
        unit="line",
        columns=Columns("a", "b", "label"),
        first=texts,
        second=texts,
        label=list(labels),
        number=list(range(2, len(labels) + 2)),
        class_names=class_names,
    )


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        (["yes", "no", "yes"], "classification", ("no", "yes")),
        (["10", "2", "1"], "classification", ("1", "2", "10")),
        (["-1", "1", "0"], "classification", ("-1", "0", "1")),
        (["1", "2+", "many"], "classification", ("1", "2+", "many")),
        ([1, 0, 1], "classification", ("0", "1")),
        ([True, False], "classification", ("false", "true")),
        ([" x", "x ", "y"], "classification", ("x", "y")),
        (["1", "2.5", "3"], "regression", ()),
        ([".5", "1e-3", "-2"], "regression", ()),
        ([1.0, 2.0], "classification", ("1", "2")),
        (["0.0", "1", "1.0"], "classification", ("0", "1")),
        ([float(value) for value in range(11)], "regression", ()),
        ([1, 2.5], "regression", ()),
    ],
)
def test_the_kind_and_the_order_of_names_follow_the_labels(labels, kind, names):
    task = read_task(raw(labels), DataConfig())
    assert (task.kind, task.labels) == (kind, names)


def test_the_kind_can_be_chosen():
    assert read_task(raw(["1", "2", "3"]), DataConfig(task="regression")).kind == "regression"
    named = read_task(raw(["1.5", "0.5", "1.5"]), DataConfig(task="classification"))
    assert named.labels == ("0.5", "1.5")
    assert read_task(raw([1.0, 0.0]), DataConfig(task="classification")).labels == ("0", "1")


def test_the_sources_own_order_of_classes_is_kept():
    names = ("not_equivalent", "equivalent", "unused")
    split = raw([1, 0, 1], class_names=names)
    task = read_task(split, DataConfig())
    assert task.labels == ("not_equivalent", "equivalent")
    assert task.positive == "equivalent"
    assert encode_labels(split, task, may_lack=False).tolist() == [1, 0, 1]
    with pytest.raises(UserError, match=r"data/train\.tsv, line 3: no class has the number 7; expected 0 to 2"):
        read_task(raw([1, 7], class_names=names), DataConfig())


def test_the_positive_class_is_usual_or_chosen():
    assert read_task(raw(["paraphrase", "zzz"]), DataConfig()).positive == "paraphrase"
    assert read_task(raw(["0", "1"]), DataConfig()).positive == "1"
    assert read_task(raw(["0", "1"]), DataConfig(positive="0")).positive == "0"
    assert read_task(raw(["a", "b", "c"]), DataConfig()).positive is None


@pytest.mark.parametrize(
    ("labels", "positive", "words"),
    [
        (["x", "y"], "z", ["--data.positive is not a class", "got z", "one of x, y"]),
        (["x", "y", "z"], "z", ["--data.positive needs two classes", "got 3"]),
        (["1.5", "2.5"], "1.5", ["--data.positive needs two classes", "scores"]),
    ],
)
def test_an_impossible_positive_class_is_an_error(labels, positive, words):
    with pytest.raises(UserError) as caught:
        read_task(raw(labels), DataConfig(positive=positive))
    for word in words:
        assert word in str(caught.value)


def test_class_indices_and_scores_have_their_types():
    task = TaskSpec("classification", ("b", "a"))
    indices = encode_labels(raw(["a", "b", "a"]), task, may_lack=False)
    assert indices.dtype == np.int32
    assert indices.tolist() == [1, 0, 1]
    scores = encode_labels(raw(["1", "2.5", 3]), TaskSpec("regression"), may_lack=False)
    assert scores.dtype == np.float32
    assert scores.tolist() == [1.0, 2.5, 3.0]


NAMED = TaskSpec("classification", ("no", "yes"))
NUMBERED = TaskSpec("classification", tuple(map(str, range(8))))
SCORED = TaskSpec("regression")


@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        (
            NAMED,
            ["yes", "maybe"],
            ["line 3", "a label that train does not have", "got maybe", "one of no, yes", "drop"],
        ),
        (
            NAMED,
            ["0", "1"],
            ["line 2", "is a number, but those of train are names", "got 0", "the same way in every split"],
        ),
        (NUMBERED, ["yes"], ["line 2", "is a name, but those of train are numbers", "got yes"]),
        (NUMBERED, ["11"], ["line 2", "got 11", "--data.task regression"]),
        (SCORED, ["1.5", "high"], ["line 3", "is not a number", "'high'", "--data.task classification"]),
        (SCORED, ["1.5", "nan"], ["line 3", "not a finite number"]),
        (SCORED, [1.5, float("inf")], ["line 3", "not a finite number"]),
        (SCORED, [True], ["line 2", "is not a number"]),
    ],
)
def test_a_label_that_train_does_not_know_is_an_error_with_its_place(task, labels, words):
    with pytest.raises(UserError) as caught:
        encode_labels(raw(labels, name="dev.tsv"), task, may_lack=False)
    text = str(caught.value)
    assert text.startswith("data/dev.tsv")
    for word in words:
        assert word in text


def test_names_are_compared_in_nfc():
    split = raw(["na\u0303o", "não", "sim"])
    assert read_task(split, DataConfig()).labels == ("não", "sim")


@pytest.mark.parametrize(
    ("label", "numeric"),
    [
        *(("1", True), ("-1.5e3", True), (".5", True), ("1.", True), (2.5, True), (3, True)),
        *(("nan", False), ("1,5", False), ("", False), ("1_000", False), (True, False), (float("nan"), False)),
    ],
)
def test_what_counts_as_a_number(label, numeric):
    assert is_numeric(label) is numeric


def test_labels_that_are_not_strings_have_names():
    assert [label_name(label) for label in (True, False, 1, 1.0, 0.5, " x ")] == ["true", "false", "1", "1", "0.5", "x"]


def test_relabelling_matches_names():
    own, task = TaskSpec("classification", ("a", "b")), TaskSpec("classification", ("c", "b", "a"))
    pairs = Pairs(("x", "y"), ("x", "y"), np.array([0, 1], np.int32))
    assert relabel(pairs, own, task, place="test").label.tolist() == [2, 1]
    with pytest.raises(UserError, match="test: a label that the model does not have; got c; expected one of a, b"):
        relabel(pairs, task, own, place="test")
    with pytest.raises(UserError, match="the model is for regression"):
        relabel(pairs, own, TaskSpec("regression"), place="test")


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(2, 60), min_size=2, max_size=5),
    fraction=st.floats(0.02, 0.9),
    seed=st.integers(0, 3),
)
def test_a_cut_takes_the_share_of_each_class_and_leaves_some(counts, fraction, seed):
    label = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    train, dev = cut_dev(label, kind="classification", fraction=fraction, seed=seed)
    assert sorted([*train, *dev]) == list(range(len(label)))
    taken = np.bincount(label[dev], minlength=len(counts))
    for count, share in zip(counts, taken, strict=True):
        assert share < count
        assert abs(share - count * fraction) <= 1 or share == count - 1
    assert np.array_equal(dev, cut_dev(label, kind="classification", fraction=fraction, seed=seed)[1])


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_cut_keeps_clusters_together(kind):
    generator = np.random.default_rng(0)
    cluster = generator.integers(150, size=400)
    label = generator.integers(3, size=400).astype(np.int32)
    train, dev = cut_dev(label, kind=kind, fraction=0.1, seed=0, cluster=cluster)
    assert not set(cluster[train]) & set(cluster[dev])
    assert sorted([*train, *dev]) == list(range(400))
    assert abs(len(dev) - 40) <= 2
    assert kind == "regression" or np.abs(np.bincount(label[dev]) - np.bincount(label) / 10).max() <= 2
    assert np.array_equal(dev, cut_dev(label, kind=kind, fraction=0.1, seed=0, cluster=cluster + 5)[1])


def test_a_cut_of_clusters_that_are_too_large_takes_the_smallest_or_nothing():
    label = np.arange(40, dtype=np.int32) % 2
    cluster = np.array([0] * 30 + [1] * 10)
    assert cut_dev(label, kind="classification", fraction=0.05, seed=0, cluster=cluster)[1].tolist() == [*range(30, 40)]
    with pytest.raises(UserError, match=r"a group of 40 of 40 pairs.*--data\.no-group-texts"):
        cut_dev(label, kind="classification", fraction=0.05, seed=0, cluster=np.zeros(40, np.int64))


def test_a_cut_of_scores_spans_their_range():
    label = np.random.default_rng(0).normal(size=200).astype(np.float32)
    train, dev = cut_dev(label, kind="regression", fraction=0.1, seed=0)
    assert len(dev) == 20
    assert len(train) == 180
    tenth = np.argsort(np.argsort(label)) * 10 // 200
    assert np.bincount(tenth[dev], minlength=10).tolist() == [2] * 10


def test_a_cut_without_pairs_is_an_error():
    with pytest.raises(UserError, match=r"--data\.dev-fraction finds nothing to cut; got 2 rows"):
        cut_dev(np.array([0, 1], np.int32), kind="classification", fraction=0.5, seed=0)
