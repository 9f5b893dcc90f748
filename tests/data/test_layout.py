"""The planned order: every pair once, a pure function of its arguments, rows no longer than needed."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data import layout as module
from pairjax.data.layout import (
    Layout,
    Plan,
    choose_layout,
    padding_share,
    plan_epoch,
    plan_in_order,
    steps_per_epoch,
)

lengths_of_any_data = st.lists(st.integers(3, 130), min_size=1, max_size=300).map(lambda x: np.array(x, np.int32))
configs = st.builds(DataConfig, layout=st.sampled_from(["padded", "bucketed"]), buckets=st.integers(1, 6))


def skewed(count: int, seed: int = 0) -> np.ndarray:
    """Returns lengths distributed like those of real pairs: a hump with a long tail."""
    return np.clip(np.random.default_rng(seed).gamma(8.0, 4.0, count) + 4, 4, 128).astype(np.int32)


def holds_every_pair_once(plan: Plan, lengths: np.ndarray, layout: Layout, batch_size: int, multiple: int) -> None:
    rows = -(-batch_size // multiple) * multiple
    assert plan.index.shape == (steps_per_epoch(len(lengths), batch_size), rows, 1)
    assert plan.index.dtype == plan.length.dtype == np.int32
    index = plan.index[:, :, 0]
    assert sorted(index[index >= 0].tolist()) == list(range(len(lengths)))
    counts = (index >= 0).sum(axis=1)
    assert (counts < batch_size).sum() == (len(lengths) % batch_size > 0)
    assert counts.max() <= batch_size
    assert set(plan.length.tolist()) <= set(layout.ladder)
    for row, length in zip(index, plan.length, strict=True):
        longest = lengths[row[row >= 0]].max()
        assert length == min(rung for rung in layout.ladder if rung >= longest)


@given(
    lengths=lengths_of_any_data,
    config=configs,
    batch_size=st.integers(1, 40),
    multiple=st.sampled_from([1, 2, 8]),
    seed=st.integers(-5, 2**63),
    epoch=st.integers(0, 10**6),
)
@settings(max_examples=150, deadline=None)
def test_an_epoch_reads_every_pair_once_in_rows_that_fit(
    lengths: np.ndarray, config: DataConfig, batch_size: int, multiple: int, seed: int, epoch: int
) -> None:
    layout = choose_layout(config, lengths)
    arguments = {"seed": seed, "epoch": epoch, "lengths": lengths, "layout": layout, "batch_size": batch_size}
    plan = plan_epoch(**arguments, multiple=multiple)
    holds_every_pair_once(plan, lengths, layout, batch_size, multiple)
    again = plan_epoch(**arguments, multiple=multiple)
    assert np.array_equal(plan.index, again.index)
    assert np.array_equal(plan.length, again.length)


@given(lengths=lengths_of_any_data, config=configs, batch_size=st.integers(1, 40), multiple=st.sampled_from([1, 2, 8]))
@settings(max_examples=100, deadline=None)
def test_evaluation_reads_every_pair_once_longest_first(
    lengths: np.ndarray, config: DataConfig, batch_size: int, multiple: int
) -> None:
    layout = choose_layout(config, lengths)
    plan = plan_in_order(lengths, layout, batch_size, multiple=multiple)
    holds_every_pair_once(plan, lengths, layout, batch_size, multiple)
    order = plan.index[plan.index >= 0]
    assert np.all(np.diff(lengths[order]) <= 0)


def test_no_pairs_need_no_steps() -> None:
    none = np.zeros(0, np.int32)
    for kind in ("padded", "bucketed"):
        layout = choose_layout(DataConfig(layout=kind), np.array([9], np.int32))
        assert plan_in_order(none, layout, 4).index.shape == (0, 4, 1)
        assert plan_epoch(seed=0, epoch=0, lengths=none, layout=layout, batch_size=4).length.shape == (0,)


@pytest.mark.parametrize("kind", ["padded", "bucketed"])
def test_epochs_and_seeds_differ_and_seed_plus_one_is_not_the_next_epoch(kind: str) -> None:
    lengths = skewed(500)
    layout = choose_layout(DataConfig(layout=kind), lengths)
    orders = {
        plan_epoch(seed=seed, epoch=epoch, lengths=lengths, layout=layout, batch_size=32).index.tobytes()
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


def test_the_order_does_not_change_between_versions_and_machines() -> None:
    lengths = np.arange(4, 20, dtype=np.int32)
    plan = plan_epoch(seed=7, epoch=2, lengths=lengths, layout=Layout("padded", (24,)), batch_size=5)
    assert plan.index[:, :, 0].tolist() == [
        [13, 0, 14, 3, 5],
        [1, -1, -1, -1, -1],
        [8, 11, 4, 12, 10],
        [9, 15, 2, 6, 7],
    ]
    plan = plan_epoch(seed=7, epoch=2, lengths=lengths, layout=Layout("bucketed", (8, 16, 24)), batch_size=5)
    assert plan.index[:, :, 0].tolist() == [
        [5, -1, -1, -1, -1],
        [8, 11, 12, 10, 9],
        [0, 3, 1, 4, 2],
        [6, 7, 13, 14, 15],
    ]


def test_the_partial_batch_may_be_anywhere() -> None:
    lengths = skewed(333)
    layout = choose_layout(DataConfig(), lengths)
    places = set()
    for epoch in range(30):
        plan = plan_epoch(seed=0, epoch=epoch, lengths=lengths, layout=layout, batch_size=32)
        places.add(int(np.flatnonzero((plan.index < 0).any(axis=(1, 2)))[0]))
    assert len(places) > 5


def test_batches_of_one_row_length_are_random_draws_in_random_order() -> None:
    lengths = skewed(20000)
    layout = choose_layout(DataConfig(), lengths)
    plan = plan_epoch(seed=0, epoch=0, lengths=lengths, layout=layout, batch_size=32)
    for below, rung in zip((0, *layout.ladder), layout.ladder, strict=False):
        batches = [row[row >= 0] for row in plan.index[plan.length == rung, :, 0]]
        pure = [lengths[row] for row in batches if lengths[row].min() > below and len(row) == 32]
        if len(pure) < 20:
            continue
        inside = lengths[(lengths > below) & (lengths <= rung)]
        means = np.array([batch.mean() for batch in pure])
        assert means.std() < 1.5 * inside.std() / np.sqrt(32) + 1e-9
    steps = np.arange(len(plan.length))
    assert abs(np.corrcoef(steps, plan.length)[0, 1]) < 0.1


@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=200).map(lambda x: np.array(x, np.int32)),
    buckets=st.integers(1, 4),
    window=st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_the_ladder_is_the_cheapest_of_all(lengths: np.ndarray, buckets: int, window: int) -> None:
    def cost(ladder: tuple[int, ...]) -> float:
        settled = [max(0.0, (lengths <= rung).sum() - len(lengths) / (2 * window)) for rung in ladder]
        settled[-1] = len(lengths)
        return float(np.dot(np.diff([0.0, *settled]), ladder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW", window)
        layout = choose_layout(DataConfig(buckets=buckets), lengths)
    top = int(-(-lengths.max() // 8) * 8)
    every = [
        (*lower, top) for count in range(buckets) for lower in combinations(range(8, top, 8), count)
    ]  # fewer rungs included
    assert len(layout.ladder) <= buckets
    assert layout.ladder[-1] == top
    assert all(rung % 8 == 0 for rung in layout.ladder)
    assert cost(layout.ladder) == pytest.approx(min(map(cost, every)))


def test_padded_rows_are_as_long_as_the_data_need_and_no_longer() -> None:
    layout = choose_layout(DataConfig(layout="padded", max_length=128), np.array([5, 33, 12], np.int32))
    assert layout == Layout("padded", (40,))


def test_buckets_pad_less_than_half_of_what_one_length_does() -> None:
    lengths = skewed(4000)
    shares = {}
    for kind in ("padded", "bucketed"):
        layout = choose_layout(DataConfig(layout=kind), lengths)
        plan = plan_epoch(seed=0, epoch=0, lengths=lengths, layout=layout, batch_size=32)
        shares[kind] = padding_share(plan, lengths)
    assert shares["bucketed"] < 0.2 < 0.5 < shares["padded"]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "most"), [("sick", 0.25), ("mrpc", 0.20)])
def test_real_sets_are_padded_less_than_batches_of_random_length(realdata: Path, name: str, most: float) -> None:
    """Counts words, which needs no tokeniser: a row has the words of both texts and three special tokens."""
    lines = (realdata / name / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    lengths = np.array([sum(len(text.split()) for text in line.split("\t")[:2]) + 3 for line in lines], np.int32)
    layout = choose_layout(DataConfig(), lengths)
    plan = plan_epoch(seed=0, epoch=0, lengths=lengths, layout=layout, batch_size=32)
    random = plan_epoch(seed=0, epoch=0, lengths=lengths, layout=Layout("padded", (128,)), batch_size=32)
    own = sum(32 * int(lengths[row[row >= 0]].max()) for row in random.index)
    dynamic = 1 - int(lengths.sum()) / own
    assert padding_share(plan, lengths) < min(most, dynamic)


def test_a_layout_extends_only_if_it_must() -> None:
    bucketed, padded = Layout("bucketed", (16, 32)), Layout("padded", (32,))
    short, long = np.array([5, 32], np.int32), np.array([5, 33], np.int32)
    assert bucketed.extend(short) is bucketed
    assert padded.extend(short) is padded
    assert bucketed.extend(long) == Layout("bucketed", (16, 32, 40))
    assert padded.extend(long) == Layout("padded", (40,))


def test_a_pair_beyond_the_last_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="a pair of 33 slots does not fit the longest row, 32"):
        plan_in_order(np.array([5, 33], np.int32), Layout("bucketed", (16, 32)), 2)


@pytest.mark.parametrize(("kind", "ladder"), [("bucketed", ()), ("bucketed", (16, 8)), ("padded", (8, 16))])
def test_a_ladder_that_does_not_ascend_is_an_error(kind: str, ladder: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"ladder|one row length"):
        Layout(kind, ladder)


def test_a_given_ladder_is_used_unchanged() -> None:
    lengths = np.array([5, 9, 30, 41], np.int32)
    assert choose_layout(DataConfig(ladder=(16, 48)), lengths).ladder == (16, 48)
    with pytest.raises(UserError, match=r"--data.ladder cannot hold every pair; got rows of 40 .* a pair of 41; .*48"):
        choose_layout(DataConfig(ladder=(16, 40)), lengths)
    for fields in ({"ladder": (48, 16)}, {"ladder": (16, 16)}, {"ladder": (16,), "layout": "padded"}):
        with pytest.raises(UserError, match=r"--data.ladder goes with"):
            DataConfig(**fields)
