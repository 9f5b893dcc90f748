import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.evaluation.slices import slice_scores, thirds

TASK = TaskSpec("classification", ("other", "same"), positive="same")
WORDS = [f"word{index}" for index in range(200)]


def pairs_of(rows: int, *, negate: int = 0) -> Pairs:
    """Texts of 4 to 12 words; B shares more with A the later the row; the first `negate` rows have a negation in B."""
    rng = np.random.default_rng(0)
    first, second = [], []
    for row in range(rows):
        words = list(rng.choice(WORDS, 4 + row % 9, replace=False))
        kept = round(len(words) * row / rows)
        first.append(" ".join(words))
        second.append(" ".join([*words[:kept], *(["not"] if row < negate else [])] or ["else"]))
    return Pairs(tuple(first), tuple(second), None)


def test_each_slice_is_scored_on_its_own_pairs() -> None:
    pairs, label = pairs_of(90, negate=20), np.zeros(90, np.int32)
    outputs = np.tile(np.array([[1.0, 0.0]], np.float32), (90, 1))
    outputs[:20] = (0.0, 1.0)  # wrong where B is negated
    rows = slice_scores(TASK, pairs, outputs, label, bootstrap=100)
    assert [row["by"] for row in rows] == ["overlap"] * 3 + ["length"] * 3 + ["negation"] * 2
    assert all(row["metric"] == "accuracy" for row in rows)
    by = {name: [row for row in rows if row["by"] == name] for name in ("overlap", "length", "negation")}
    assert sum(row["pairs"] for row in by["overlap"]) == sum(row["pairs"] for row in by["length"]) == 90
    assert [(row["pairs"], row["score"]["value"]) for row in by["negation"]] == [(70, 1.0), (20, 0.0)]
    low = by["overlap"][0]
    right = round(low["score"]["value"] * low["pairs"])
    bounds = binomtest(right, low["pairs"]).proportion_ci(0.95, method="wilson")
    assert (low["score"]["low"], low["score"]["high"]) == pytest.approx((bounds.low, bounds.high))
    assert low["score"]["value"] < by["overlap"][2]["score"]["value"] == 1.0
    assert by["overlap"][0]["high"] < by["overlap"][1]["low"]


def test_scores_are_ranked_within_a_slice() -> None:
    pairs, rng = pairs_of(60), np.random.default_rng(0)
    label = rng.normal(size=60).astype(np.float32)
    outputs = (label + rng.normal(size=60)).astype(np.float32)[:, None]
    rows = slice_scores(TaskSpec("regression"), pairs, outputs, label, bootstrap=200)
    lengths = np.array([len(f"{a} {b}".split()) for a, b in zip(pairs.first, pairs.second, strict=True)])
    first = next(row for row in rows if row["by"] == "length")
    chosen = (lengths >= first["low"]) & (lengths <= first["high"])
    assert chosen.sum() == first["pairs"]
    assert first["metric"] == "spearman"
    assert first["score"]["value"] == pytest.approx(spearmanr(outputs[chosen, 0], label[chosen]).statistic)
    assert first["score"]["low"] < first["score"]["value"] < first["score"]["high"]


def test_small_slices_and_properties_that_do_not_divide_the_split_are_left_out() -> None:
    pairs = Pairs(("a b",) * 30, ("a b",) * 21 + ("not a b",) * 9, None)
    outputs, label = np.zeros((30, 2), np.float32), np.zeros(30, np.int32)
    assert slice_scores(TASK, pairs, outputs, label, bootstrap=100) == []
    assert thirds(np.array([1.0, 1.0, 1.0, 2.0])).tolist() == [0, 0, 0, 2]
    with pytest.raises(UserError, match="not finite"):
        slice_scores(TASK, pairs, np.full((30, 2), np.nan, np.float32), label, bootstrap=100)
