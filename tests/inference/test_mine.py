"""Mining hard negatives: ranks, margins and sampling on vectors made by hand, and the command with a tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.base.mine_config import MineConfig
from pairjax.base.types import Pairs, TaskSpec
from pairjax.cli.main import main
from pairjax.data.ranking import ranking_task
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.mine import as_pairs, choose_negatives, matches_of, mine_negatives, nearest
from tests.inference.tiny_model import write_tiny_model

ANGLES = {"q": 0.0, "match": 0.5, "near": 0.2, "mid": 0.6, "far": 1.0, "away": 2.0, "r": 2.1, "other match": 1.9}


class Angles(PairClassifier):
    """A bi-encoder whose vectors are angles in a plane."""

    def __init__(self) -> None:
        """Loads nothing."""

    def embed(self, texts: list[str], *, batch_size: int) -> np.ndarray:
        angle = np.array([ANGLES[text] for text in texts])
        return 3.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


PAIRS = Pairs(
    ("q", "r", "q", "q", "q", "q"),
    ("match", "other match", "near", "mid", "far", "away"),
    np.array([1, 1, 0, 0, 0, 0], np.int32),
)


def negatives(**options: object) -> dict[str, list[str]]:
    mined = mine_negatives(Angles(), PAIRS, ranking_task(), MineConfig(**options))
    found: dict[str, list[str]] = {"q": [], "r": []}
    for first, _, negative in mined.rows:
        found[first].append(negative)
    return found


@pytest.mark.parametrize(
    ("options", "of_q"),
    [
        ({"negatives": 2}, ["near", "mid"]),
        ({"negatives": 2, "first_rank": 2}, ["mid", "far"]),
        ({"negatives": 9, "last_rank": 2}, ["near", "mid"]),
        # cos(0.5) = 0.878: mid has 0.825, far 0.540.
        ({"negatives": 9, "margin": 0.02, "last_rank": 3}, ["mid", "far"]),
        ({"negatives": 9, "relative_margin": 0.1, "last_rank": 3}, ["far"]),
        ({"negatives": 9, "max_score": 0.6, "last_rank": 3}, ["far"]),
    ],
)
def test_ranks_and_margins_choose_the_negatives(options: dict, of_q: list[str]) -> None:
    assert negatives(**options)["q"] == of_q


def test_no_text_is_a_negative_of_its_matches_or_of_itself() -> None:
    pairs = Pairs(("q", "q", "match"), ("match", "near", "far"), None)
    mined = mine_negatives(Angles(), pairs, ranking_task(), MineConfig(negatives=9))  # type: ignore[arg-type]
    found = {(first, negative) for first, _, negative in mined.rows}
    assert found == {("q", "far"), ("match", "near")}
    assert (mined.pairs, mined.lacking, mined.empty) == (3, 3, 0)


def test_random_sampling_is_seeded_and_stays_within_the_ranks() -> None:
    score, config = np.linspace(0.9, 0.1, 40), MineConfig(negatives=5, first_rank=3, last_rank=20, sampling="random")
    draws = [choose_negatives(score, 1.0, config, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert all(2 <= position < 20 for draw in draws for position in draw)


def test_a_filter_replaces_the_cosine_in_margins() -> None:
    rescore = lambda pairs: np.array([0.9 if second in ("match", "near", "mid") else 0.1 for _, second in pairs])  # noqa: E731
    config = MineConfig(negatives=9, margin=0.5, last_rank=3)
    mined = mine_negatives(Angles(), PAIRS, ranking_task(), config, rescore=rescore)  # type: ignore[arg-type]
    assert [row[2] for row in mined.rows if row[0] == "q"] == ["far"]


def test_the_nearest_equal_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    for row, (order, cosines) in enumerate(nearest(vectors, vectors, [[i] for i in range(50)], count=7)):
        full = vectors[row] @ vectors.T
        full[row] = -np.inf
        assert order.tolist() == np.argsort(-full, kind="stable")[:7].tolist()
        np.testing.assert_allclose(cosines, full[order], rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: matches_of(PAIRS, TaskSpec("classification", ("a", "b", "c"))), "two classes.*got 3 classes"),
        (lambda: MineConfig(last_rank=2, first_rank=3), "--last-rank is too small"),
        (lambda: MineConfig(relative_margin=1.0), "--relative-margin is out of range"),
        (lambda: MineConfig(negatives=0), "--negatives is too small"),
    ],
)
def test_what_cannot_be_mined_is_refused(build, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_triplets_become_labelled_pairs_without_repeats() -> None:
    assert as_pairs([("a", "m", "x"), ("a", "m", "y")]) == [
        ("a", "m", "match"),
        ("a", "x", "other"),
        ("a", "y", "other"),
    ]


def test_the_command_writes_triplets_and_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny_model(tmp_path / "bi", layers=1, hidden=16)
    train = tmp_path / "train.tsv"
    train.write_text("query\tpassage\tlabel\n" + "".join(f"the man {i}\ta dog {i}\t{i % 2}\n" for i in range(12)))
    out = tmp_path / "out.jsonl"
    command = ["data", "mine", str(model), "--data.train", str(train), "--negatives", "2"]
    assert main([*command, "--output", str(out), "--filter", str(model)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 12
    assert all(row["anchor"][-2:] != row["negative"][-2:] for row in rows)
    assert "12 rows in" in capsys.readouterr().err
    pairs = tmp_path / "out.tsv"
    assert main([*command, "--output", str(pairs), "--format", "pairs"]) == 0
    assert pairs.read_text().startswith("sentence1\tsentence2\tlabel\n")
    assert main([*command, "--output", str(out), "--max-score", "-1"]) == 2
    assert len(out.read_text().splitlines()) == 12
