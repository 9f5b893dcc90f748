"""Packed rows: every pair once, batches of the same size, rows that fit their pairs, a nearly random order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.data.layout import Layout, Plan, choose_layout, padding_share, plan_epoch, plan_in_order, steps_per_epoch
from pairjax.data.packing import pack_pairs

PACKED = DataConfig(layout="packed")


def skewed(count: int, seed: int = 0) -> np.ndarray:
    """Returns lengths distributed like those of real pairs: a hump with a long tail."""
    return np.clip(np.random.default_rng(seed).gamma(8.0, 4.0, count) + 4, 4, 128).astype(np.int32)


def plan(lengths: np.ndarray, layout: Layout, **options: int) -> Plan:
    return plan_epoch(**{"seed": 0, "epoch": 0, "batch_size": 32, **options}, lengths=lengths, layout=layout)


@given(
    lengths=st.lists(st.integers(3, 130), min_size=1, max_size=300).map(lambda x: np.array(x, np.int32)),
    batch_size=st.integers(1, 40),
    multiple=st.sampled_from([1, 2, 8]),
    seed=st.integers(-5, 2**63),
    epoch=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_reads_every_pair_once_in_rows_that_hold_them(
    lengths: np.ndarray, batch_size: int, multiple: int, seed: int, epoch: int
) -> None:
    layout = choose_layout(PACKED, lengths)
    epoch_plan = plan(lengths, layout, seed=seed, epoch=epoch, batch_size=batch_size, multiple=multiple)
    steps, rows, slots = epoch_plan.index.shape
    assert steps == steps_per_epoch(len(lengths), batch_size)
    assert rows % multiple == 0
    assert slots == layout.pairs
    assert (epoch_plan.length == layout.row).all()
    assert sorted(epoch_plan.index[epoch_plan.index >= 0].tolist()) == list(range(len(lengths)))
    counts = (epoch_plan.index >= 0).sum(axis=(1, 2))
    assert counts.max() <= batch_size
    assert (counts < batch_size).sum() == (len(lengths) % batch_size > 0)
    assert np.where(epoch_plan.index >= 0, lengths[epoch_plan.index], 0).sum(axis=2).max() <= layout.row
    again = plan(lengths, layout, seed=seed, epoch=epoch, batch_size=batch_size, multiple=multiple)
    assert np.array_equal(epoch_plan.index, again.index)


def test_epochs_and_seeds_differ() -> None:
    lengths = skewed(500)
    layout = choose_layout(PACKED, lengths)
    orders = {plan(lengths, layout, seed=s, epoch=e).index.tobytes() for s in range(4) for e in range(4)}
    assert len(orders) == 16


def test_all_epochs_have_one_shape() -> None:
    lengths = skewed(3000)
    layout = choose_layout(PACKED, lengths)
    shapes = {plan(lengths, layout, seed=seed, epoch=epoch).index.shape for seed in range(3) for epoch in range(5)}
    assert len(shapes) == 1


def test_packing_pads_less_than_buckets() -> None:
    lengths = skewed(4000)
    shares = {
        kind: padding_share(plan(lengths, choose_layout(DataConfig(layout=kind), lengths)), lengths)
        for kind in ("bucketed", "packed")
    }
    assert shares["packed"] < 0.12 < shares["bucketed"]


def test_a_batch_draws_from_all_lengths_and_its_pairs_are_random() -> None:
    lengths = skewed(32 * 320)
    epoch_plan = plan(lengths, choose_layout(PACKED, lengths))
    batches = epoch_plan.index.reshape(len(epoch_plan.index), -1)
    means = np.array([lengths[row[row >= 0]].mean() for row in batches])
    # Strata make batches more alike than random draws of 32, and no place in the epoch longer than another.
    assert means.std() < 0.5 * lengths.std() / np.sqrt(32)
    assert abs(means[:160].mean() - means[160:].mean()) < 0.09 * lengths.std()
    # Neighbours in the file are not neighbours in a batch: 31 of 10239 others by chance.
    where = np.empty(len(lengths), np.int64)
    for step, row in enumerate(batches):
        where[row[row >= 0]] = step
    together = (where[1:] == where[:-1]).mean()
    assert together < 3 * 31 / (len(lengths) - 1)


def test_evaluation_of_a_packed_run_reads_one_pair_a_row() -> None:
    lengths = skewed(300)
    layout = choose_layout(PACKED, lengths)
    epoch_plan = plan_in_order(lengths, layout, 32)
    assert epoch_plan.index.shape[2] == 1
    assert layout.extend(np.array([200], np.int32)).row == layout.row


def test_a_row_holds_no_more_pairs_than_it_may() -> None:
    lengths = np.full(6, 2, np.int32)
    index = pack_pairs(np.arange(6)[None], lengths, row=100, most=4)
    assert index.shape == (1, 2, 4)
    assert (index[0] >= 0).sum(axis=1).tolist() == [4, 2]


def test_a_row_that_cannot_hold_a_pair_is_an_error_that_names_the_length() -> None:
    lengths = np.array([20, 61, 30], np.int32)
    with pytest.raises(UserError, match=r"row-length 64 or more") as caught:
        choose_layout(DataConfig(layout="packed", row_length=48), lengths)
    assert "a pair of 61" in str(caught.value)
    assert choose_layout(DataConfig(layout="packed", row_length=61), lengths).row == 61
    with pytest.raises(UserError, match=r"--data\.layout packed"):
        DataConfig(row_length=64)
    with pytest.raises(ValueError, match="a pair of 61 slots does not fit a packed row of 40"):
        plan(lengths, Layout("packed", (64,), 40, 2))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["sick", "mrpc"])
def test_real_sets_are_padded_less_than_in_buckets(realdata: Path, name: str) -> None:
    """Counts words, which needs no tokeniser."""
    lines = (realdata / name / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    lengths = np.array([sum(len(text.split()) for text in line.split("\t")[:2]) + 3 for line in lines], np.int32)
    shares = {
        kind: padding_share(plan(lengths, choose_layout(DataConfig(layout=kind), lengths)), lengths)
        for kind in ("bucketed", "packed")
    }
    assert shares["packed"] < shares["bucketed"]
