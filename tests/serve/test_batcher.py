"""Batches: every row once, as few slots as the compiled shapes allow, and tokens shared between requests."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.data.rows import join_rows, select_rows
from pairjax.serve.batcher import Batcher, cut_batches
from pairjax.serve.tokenise import Tokeniser
from tests.data.test_pipeline import encode

LADDER = np.array([8, 16, 24, 32, 64])


def slots(batches: list[np.ndarray], lengths: np.ndarray) -> int:
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17, 40])
def test_batches_hold_every_row_once_and_waste_little(count: int) -> None:
    lengths = np.random.default_rng(count).choice(LADDER, count)
    batches = cut_batches(lengths, (1, 4, 16))
    assert {len(batch) for batch in batches} <= {1, 4, 16}
    rows = [row for batch in batches for row in dict.fromkeys(batch.tolist())]
    assert sorted(rows) == list(range(count))
    in_order = [np.arange(start, min(start + 16, count)) for start in range(0, count, 16)]
    assert slots(batches, lengths) <= 16 * sum(int(lengths[part].max()) for part in in_order)


def test_rows_are_selected_and_joined() -> None:
    first, second = encode([("a b", "c"), ("c", "d")]), encode([("a", "a b c d")])
    joined = join_rows([first, second])
    assert joined.lengths.tolist() == [*first.lengths, *second.lengths]
    assert joined.tokens.tolist() == [*first.tokens, *second.tokens]
    part = select_rows(joined, np.array([2, 0, 0]))
    assert part.tokens.tolist() == [*second.tokens, *first.tokens[:6], *first.tokens[:6]]
    assert part.first_length.tolist() == [*second.first_length, first.first_length[0], first.first_length[0]]


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    batches: list[list[int]] = []

    def compute(rows: Any) -> np.ndarray:
        batches.append(rows.lengths.tolist())
        return rows.lengths[:, None].astype(np.float32)

    async def run() -> None:
        with ThreadPoolExecutor(1) as device:
            batcher = Batcher(compute, device, max_tokens=40, max_rows=1000, wait=0.0)
            large, small = batcher.queue(encode([("a", "b")] * 20)), batcher.queue(encode([("a b c", "d")]))
            assert (await small.future).tolist() == [[7]]
            assert not large.future.done()
            assert (await large.future).tolist() == [[5]] * 20
            await batcher.close()

    asyncio.run(run())
    assert 7 in batches[0]
    assert all(sum(batch) <= 40 for batch in batches)


def test_requests_are_tokenised_together_and_only_the_bad_one_fails() -> None:
    calls: list[int] = []

    def encode_items(items: list[tuple[str, str]]) -> Any:
        calls.append(len(items))
        if ("bad", "b") in items:
            raise UserError("a bad text")
        return encode(items)

    async def run() -> None:
        with ThreadPoolExecutor(2) as threads:
            tokeniser = Tokeniser(encode_items, threads)
            groups = [[("a", "b")], [("a b", "c"), ("c", "d")], [("bad", "b")], [("d", "a b c")]]
            answers = await asyncio.gather(*map(tokeniser.encode, groups), return_exceptions=True)
        for group, answer in zip(groups, answers, strict=True):
            if group == [("bad", "b")]:
                assert isinstance(answer, UserError)
            else:
                assert not isinstance(answer, BaseException)
                assert answer.tokens.tolist() == encode(group).tokens.tolist()
                assert answer.cut is not None
                assert len(answer.cut) == len(group)

    asyncio.run(run())
    assert len(calls) > 1
