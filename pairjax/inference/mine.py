"""Mine hard negatives: for each text, those second texts that a bi-encoder finds near it although they do not match."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64

from pairjax.base.errors import UserError
from pairjax.base.mine_config import MineConfig
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.ranking import MATCH, OTHER
from pairjax.inference.classifier import PairClassifier

QUERIES_AT_ONCE = 512
"""Texts that are compared with all candidates in one matrix product; it bounds the memory."""
PAIRS_AT_ONCE = 128
"""Pairs whose candidates a cross-encoder scores in one call."""


class Mined(NamedTuple):
    """Mined negatives.

    Attributes:
        rows: (first text, match, negative) of each triplet.
        pairs: Number of pairs for which negatives were wanted.
        lacking: Number of them that have fewer negatives than wanted.
        empty: Number of them that have none.
    """

    rows: list[tuple[str, str, str]]
    pairs: int
    lacking: int
    empty: int


Rescore = Callable[[Sequence[tuple[str, str]]], Float[np.ndarray, " pairs"]]
"""Scores pairs of texts; higher means that they match."""


def matches_of(pairs: Pairs, task: TaskSpec) -> Int64[np.ndarray, " matches"]:
    """Returns the indices of the pairs that match: those of the positive class, or all pairs without labels.

    Raises:
        UserError: The labels are not two classes, or no pair matches.
    """
    if pairs.label is None:
        return np.arange(len(pairs), dtype=np.int64)
    if task.positive_index is None:
        raise UserError(
            "mining needs pairs that match: two classes, of which one means a match",
            got=f"{len(task.labels)} classes" if task.labels else "scores",
            fix="give --data.task ranking if all pairs match, or keep the pairs that match only",
        )
    index = np.flatnonzero(pairs.label == task.positive_index).astype(np.int64)
    if not len(index):
        raise UserError("no pair matches", expected=f"pairs of the class {task.positive}")
    return index


def nearest(
    queries: Float32[np.ndarray, "queries dim"],
    candidates: Float32[np.ndarray, "candidates dim"],
    excluded: Sequence[Sequence[int]],
    *,
    count: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the nearest candidates of each query and their cosines, in falling order.

    Args:
        queries: Unit vectors.
        candidates: Unit vectors.
        excluded: Indices of the candidates that each query leaves out.
        count: Most candidates of a query.
    """
    results = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        cosines = queries[start : start + QUERIES_AT_ONCE] @ candidates.T
        for row, left_out in zip(cosines, excluded[start : start + QUERIES_AT_ONCE], strict=True):
            row[list(left_out)] = -np.inf
            most = min(count, len(row) - len(left_out))
            part = np.argpartition(-row, most - 1)[:most] if 0 < most < len(row) else np.arange(len(row))
            order = part[np.lexsort((part, -row[part]))][: max(most, 0)].astype(np.int64)
            results.append((order, row[order]))
    return results


def choose_negatives(
    score: Float[np.ndarray, " ranks"], match: float, config: MineConfig, rng: np.random.Generator
) -> Int64[np.ndarray, " chosen"]:
    """Returns the positions of the negatives among candidates whose scores are given in the order of their ranks.

    Args:
        score: Scores of the candidates.
        match: Score of the pair that matches.
        config: Ranks, margins and sampling.
        rng: For random sampling.
    """
    position = np.arange(len(score))
    allowed = (position >= config.first_rank - 1) & (position < config.last_rank)
    if config.margin > 0:
        allowed &= score <= match - config.margin
    if config.relative_margin > 0:
        allowed &= score <= match * (1.0 - config.relative_margin)
    if config.max_score is not None:
        allowed &= score <= config.max_score
    left = np.flatnonzero(allowed).astype(np.int64)
    if config.sampling == "random" and len(left) > config.negatives:
        left = np.sort(rng.choice(left, config.negatives, replace=False))
    return left[: config.negatives]


def _unit(vectors: Float32[np.ndarray, "texts dim"]) -> Float32[np.ndarray, "texts dim"]:
    """Returns vectors of length 1; zeros stay zeros."""
    scaled: Float32[np.ndarray, "texts dim"] = vectors / np.maximum(
        np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12)
    )
    return scaled


def rescorer(model: PairClassifier, *, batch_size: int) -> Rescore:
    """Returns a function that scores pairs with a model: the probability of its positive class, or its score.

    Args:
        model: A model of two classes or of scores, usually a cross-encoder.
        batch_size: Largest number of rows in a compiled batch.

    Raises:
        UserError: The model has more than two classes.
    """
    task = model.task
    if task.kind == "classification" and task.positive is None:
        raise UserError(
            f"{model.artifact.folder}: this model cannot filter negatives",
            got=f"{len(task.labels)} classes",
            expected="two classes, or scores",
        )

    def rescore(pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, " pairs"]:
        answers = model.predict(list(pairs), batch_size=batch_size)
        if task.positive is None:
            return np.array([answer.score for answer in answers], np.float64)
        return np.array([answer.probabilities[task.positive] for answer in answers], np.float64)

    return rescore


def mine_negatives(
    model: PairClassifier,
    pairs: Pairs,
    task: TaskSpec,
    config: MineConfig,
    *,
    rescore: Rescore | None = None,
    batch_size: int = 64,
) -> Mined:
    """Mines negatives of every pair that matches, among the second texts of all pairs.

    A text is no negative of a first text with which it matches in any pair, nor of itself.

    Args:
        model: A bi-encoder.
        pairs: The pairs.
        task: Their task.
        config: Ranks, margins and sampling.
        rescore: Scores that margins and limits apply to, instead of the cosine; ranks stay those of the cosine.
        batch_size: Largest number of rows in a compiled batch.

    Raises:
        UserError: The model is no bi-encoder, or no pair matches.
    """
    # 1. The texts, each once.
    index = matches_of(pairs, task)
    candidates = {text: number for number, text in enumerate(dict.fromkeys(pairs.second))}
    queries = {text: number for number, text in enumerate(dict.fromkeys(pairs.first[i] for i in index))}
    known: list[set[int]] = [{candidates[text]} if text in candidates else set() for text in queries]
    for i in index:
        known[queries[pairs.first[i]]].add(candidates[pairs.second[i]])
    vectors = [_unit(model.embed(list(texts), batch_size=batch_size)) for texts in (queries, candidates)]
    # 2. The nearest candidates of each query.
    ranked = nearest(vectors[0], vectors[1], [sorted(numbers) for numbers in known], count=config.last_rank)
    # 3. The negatives of each pair.
    texts, rng = list(candidates), np.random.default_rng(config.seed)
    rows: list[tuple[str, str, str]] = []
    lacking = empty = 0
    for start in range(0, len(index), PAIRS_AT_ONCE):
        part = [(pairs.first[i], pairs.second[i]) for i in index[start : start + PAIRS_AT_ONCE]]
        found = [ranked[queries[first]] for first, _ in part]
        scores = [cosines for _, cosines in found]
        own = [float(vectors[0][queries[first]] @ vectors[1][candidates[second]]) for first, second in part]
        if rescore is not None:
            own, scores = _rescore_all(rescore, part, [[texts[n] for n in order] for order, _ in found])
        for (first, second), match, score, (order, _) in zip(part, own, scores, found, strict=True):
            chosen = choose_negatives(score, match, config, rng)
            rows += [(first, second, texts[order[position]]) for position in chosen]
            lacking += len(chosen) < config.negatives
            empty += not len(chosen)
    return Mined(rows, len(index), lacking, empty)


def _rescore_all(
    rescore: Rescore, pairs: Sequence[tuple[str, str]], candidates: Sequence[Sequence[str]]
) -> tuple[list[float], list[Any]]:
    """Returns the scores of the pairs, and of the candidates of each of them, from one call."""
    everything = [*pairs, *((first, text) for (first, _), each in zip(pairs, candidates, strict=True) for text in each)]
    scores = rescore(everything)
    own, rest = scores[: len(pairs)], scores[len(pairs) :]
    return own.tolist(), np.split(rest, np.cumsum([len(each) for each in candidates])[:-1])


def as_pairs(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Returns triplets as labelled pairs (first, second, label): each match once, then its negatives."""
    lines: dict[tuple[str, str, str], None] = {}
    for first, second, negative in rows:
        lines[first, second, MATCH] = None
        lines[first, negative, OTHER] = None
    return list(lines)
