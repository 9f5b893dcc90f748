"""Batches: rows written by hand for each kind and family, and the same stream from any step and process."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from pairjax.base.data_config import DataConfig
from pairjax.base.types import Batch
from pairjax.data.encode import EncodedPairs, encode_pairs
from pairjax.data.layout import Layout, choose_layout, plan_in_order, steps_per_epoch
from pairjax.data.pipeline import eval_batches, make_batch, train_batches
from pairjax.data.tokenizer import PairTokenizer

CLS, SEP, PAD = 2, 3, 0


def tokenizer(family: str) -> PairTokenizer:
    """Builds a tokeniser in which the words a..z are 10..35."""
    vocabulary = {"[PAD]": PAD, "[UNK]": 1, "[CLS]": CLS, "[SEP]": SEP} | {chr(97 + i): 10 + i for i in range(26)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PairTokenizer(backend, family, CLS, SEP, PAD)


def encode(pairs: list[tuple[str, str]], family: str = "bert", kind: str = "cross") -> EncodedPairs:
    first, second = zip(*pairs, strict=True)
    return encode_pairs(first, second, tokenizer(family), kind=kind, max_length=32)


def many(count: int, kind: str = "cross") -> tuple[EncodedPairs, np.ndarray]:
    rng = np.random.default_rng(1)
    texts = [" ".join(chr(97 + int(c)) for c in rng.integers(0, 26, rng.integers(1, 14))) for _ in range(2 * count)]
    return encode(list(zip(texts[:count], texts[count:], strict=True)), kind=kind), (np.arange(count) % 3).astype(
        np.int32
    )


def same(left: Batch, right: Batch) -> bool:
    return all(
        (a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b))
        for a, b in zip(left, right, strict=True)
    )


CROSS = {
    "input_ids": [CLS, 10, 11, SEP, 12, 13, 14, SEP, PAD, PAD],
    "token_type_ids": [0, 0, 0, 0, 1, 1, 1, 1, 0, 0],
    "position_ids": [0, 1, 2, 3, 4, 5, 6, 7, 1, 1],
    "pair_ids": [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
    "side_ids": [0, 0, 0, 0, 1, 1, 1, 1, 0, 0],
}
BI = {
    "input_ids": [CLS, 10, 11, SEP, CLS, 12, 13, 14, SEP, PAD],
    "token_type_ids": [0] * 10,
    "position_ids": [0, 1, 2, 3, 0, 1, 2, 3, 4, 1],
    "pair_ids": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0],
    "side_ids": [0, 0, 0, 0, 1, 1, 1, 1, 1, 0],
}
ROBERTA = BI | {
    "input_ids": [CLS, 10, 11, SEP, SEP, 12, 13, 14, SEP, PAD],
    "position_ids": [0, 1, 2, 3, 4, 5, 6, 7, 8, 1],
}
ROWS = {
    ("cross", "bert"): CROSS,
    ("cross", "distilbert"): CROSS | {"token_type_ids": [0] * 10},
    ("cross", "roberta"): ROBERTA,
    ("bi", "bert"): BI,
    ("bi", "xlm-roberta"): BI,
}


@pytest.mark.parametrize(("kind", "family"), ROWS)
def test_rows_equal_rows_written_by_hand(kind: str, family: str) -> None:
    encoded = encode([("z", "z"), ("a b", "c d e")], family, kind)
    batch = make_batch(encoded, np.array([5, 2], np.int32), np.array([[1], [-1]], np.int32), 10)
    for name, row in ROWS[kind, family].items():
        array = getattr(batch, name)
        assert array.dtype == np.int32
        assert array[0].tolist() == row, name
    assert batch.input_ids[1].tolist() == [PAD] * 10
    assert batch.pair_ids[1].tolist() == [0] * 10
    assert (batch.label.tolist(), batch.label.dtype) == ([[2], [0]], np.int32)
    assert (batch.weight.tolist(), batch.weight.dtype) == ([[1.0], [0.0]], np.float32)
    assert (batch.example_id.tolist(), batch.example_id.dtype) == ([[1], [-1]], np.int32)


@pytest.mark.parametrize("kind", ["cross", "bi"])
def test_several_pairs_of_a_row_follow_one_another(kind: str) -> None:
    encoded = encode([("a", "b c"), ("d e f", ""), ("", "g")], kind=kind)
    packed = make_batch(encoded, None, np.array([[2, 0, 1], [1, -1, -1]], np.int32), 24)
    for row, slots in ((0, [2, 0, 1]), (1, [1])):
        start = 0
        for slot, pair in enumerate(slots):
            alone = make_batch(encoded, None, np.array([[pair]], np.int32), int(encoded.lengths[pair]))
            part = slice(start, start + int(encoded.lengths[pair]))
            for name in ("input_ids", "token_type_ids", "position_ids", "side_ids"):
                assert getattr(packed, name)[row, part].tolist() == getattr(alone, name)[0].tolist(), name
            assert set(packed.pair_ids[row, part].tolist()) == {slot + 1}
            start = part.stop
        assert not packed.pair_ids[row, start:].any()
    assert packed.weight.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert packed.example_id.tolist() == [[2, 0, 1], [1, -1, -1]]


def test_only_a_sequences_first_token_has_position_zero() -> None:
    for kind, firsts in (("cross", 1), ("bi", 2)):
        encoded, label = many(40, kind)
        batch = make_batch(encoded, label, np.arange(40, dtype=np.int32)[:, None], 40)
        assert ((batch.position_ids == 0).sum(axis=1) == firsts).all()
        assert (batch.input_ids[batch.position_ids == 0] == CLS).all()


def test_scores_stay_floats_and_missing_labels_are_zero() -> None:
    encoded = encode([("a", "b"), ("c", "d")])
    index = np.array([[1], [0]], np.int32)
    batch = make_batch(encoded, np.array([0.5, 4.5], np.float32), index, 8)
    assert (batch.label.tolist(), batch.label.dtype) == ([[4.5], [0.5]], np.float32)
    assert make_batch(encoded, None, index, 8).label.tolist() == [[0], [0]]


def test_a_row_that_cannot_hold_its_pairs_is_an_error() -> None:
    encoded = encode([("a b c", "d")])
    with pytest.raises(ValueError, match="a row of 6 slots cannot hold 7"):
        make_batch(encoded, None, np.array([[0]], np.int32), 6)


@pytest.mark.parametrize("kind", ["padded", "bucketed"])
def test_each_epoch_of_the_stream_reads_every_pair_once_with_its_label(kind: str) -> None:
    encoded, label = many(101)
    layout = choose_layout(DataConfig(layout=kind, buckets=3), encoded.lengths)
    steps = steps_per_epoch(101, 16)
    stream = train_batches(encoded, label, seed=3, layout=layout, batch_size=16, start_step=0, stop_step=2 * steps)
    seen: list[list[int]] = [[], []]
    shapes = set()
    for wanted, (step, batch) in enumerate(stream):
        assert step == wanted
        shapes.add(batch.input_ids.shape)
        filled = batch.weight > 0
        seen[step // steps] += batch.example_id[filled].tolist()
        assert np.array_equal(batch.label[filled], label[batch.example_id[filled]])
        assert np.array_equal(
            (batch.pair_ids > 0).sum(axis=1)[:, None][filled], encoded.lengths[batch.example_id[filled]]
        )
    assert wanted == 2 * steps - 1
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(101))
    assert seen[0] != seen[1]
    assert shapes <= {(16, rung) for rung in layout.ladder}
    assert len(shapes) <= (3 if kind == "bucketed" else 1)


@pytest.mark.parametrize("prefetch", [0, 1, 7])
def test_the_stream_resumes_at_any_step_with_any_prefetch(prefetch: int) -> None:
    encoded, label = many(50)
    layout = choose_layout(DataConfig(buckets=2), encoded.lengths)
    arguments = {"seed": 0, "layout": layout, "batch_size": 8, "stop_step": 16}
    batches = list(train_batches(encoded, label, start_step=0, **arguments))
    for start in (0, 1, 6, 7, 13, 16):
        rest = list(train_batches(encoded, label, start_step=start, prefetch=prefetch, **arguments))
        assert [step for step, _ in rest] == list(range(start, 16))
        assert all(same(batch, batches[step][1]) for step, batch in rest)


def test_a_subset_gives_the_batches_of_those_pairs_alone() -> None:
    encoded, label = many(50)
    subset = np.random.default_rng(0).permutation(50)[:23]
    layout = choose_layout(DataConfig(buckets=2), encoded.lengths)
    stream = train_batches(
        encoded, label, seed=0, layout=layout, batch_size=8, start_step=0, stop_step=6, subset=subset
    )
    seen: list[list[int]] = [[], []]
    for step, batch in stream:
        filled = batch.weight > 0
        index = batch.example_id[filled]
        seen[step // 3] += index.tolist()
        assert np.array_equal(batch.label[filled], label[index])
        assert np.array_equal((batch.pair_ids > 0).sum(axis=1)[:, None][filled], encoded.lengths[index])
        assert (batch.example_id[~filled] == -1).all()
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(subset.tolist())
    assert seen[0] != seen[1]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_read_slices_of_the_rows_that_one_process_reads(processes: int) -> None:
    encoded, label = many(45)
    layout = choose_layout(DataConfig(buckets=2), encoded.lengths)
    arguments = {"seed": 0, "layout": layout, "batch_size": 10, "start_step": 2, "stop_step": 9, "multiple": 4}
    batches = train_batches(encoded, label, **arguments)
    parts = [
        train_batches(encoded, label, process_index=index, process_count=processes, **arguments)
        for index in range(processes)
    ]
    for (step, batch), *slices in zip(batches, *parts, strict=True):
        assert all(own == step for own, _ in slices)
        assert len(batch.weight) == 12
        joined = Batch(
            *(None if f[0] is None else np.concatenate(f) for f in zip(*(b for _, b in slices), strict=True))
        )
        assert same(joined, batch)


def test_evaluation_reads_the_plan_in_its_order_and_in_slices() -> None:
    encoded, label = many(37)
    plan = plan_in_order(encoded.lengths, Layout("bucketed", (16, 32)), 8, multiple=4)
    batches = list(eval_batches(encoded, label, plan))
    ids = np.concatenate([batch.example_id[batch.weight > 0] for batch in batches])
    assert np.array_equal(ids, plan.index[plan.index >= 0])
    assert [batch.input_ids.shape[1] for batch in batches] == plan.length.tolist()
    halves = [list(eval_batches(encoded, label, plan, process_index=i, process_count=2)) for i in range(2)]
    for batch, left, right in zip(batches, *halves, strict=True):
        assert np.array_equal(batch.input_ids, np.concatenate([left.input_ids, right.input_ids]))
        assert np.array_equal(batch.label, np.concatenate([left.label, right.label]))


def test_rows_that_do_not_divide_over_processes_are_an_error() -> None:
    encoded, label = many(20)
    plan = plan_in_order(encoded.lengths, Layout("padded", (32,)), 5)
    with pytest.raises(ValueError, match="5 rows do not divide over 2 processes"):
        next(eval_batches(encoded, label, plan, process_index=0, process_count=2))


def test_the_data_layer_loads_neither_jax_nor_grain_before_a_batch_is_asked_for() -> None:
    import subprocess
    import sys

    code = (
        "import sys, pairjax.data.pipeline, pairjax.data.encode; "
        "print([m for m in ('jax', 'grain', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
