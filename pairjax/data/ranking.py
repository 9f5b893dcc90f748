"""Data for ranking: groups of candidates, texts with their matches, and triplets with a text that does not match."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
from jaxtyping import Int32

from pairjax.base.errors import UserError
from pairjax.base.types import Pairs, TaskSpec
from pairjax.data.clean import clean_text
from pairjax.data.table import RawSplit

OTHER, MATCH = "other", "match"
"""The classes of `--data.task ranking`."""
CANDIDATES = 10
"""Candidates of a text of dev or test without negatives: its match and the matches of other texts."""


def ranking_task() -> TaskSpec:
    """Returns the task of `--data.task ranking`: whether the second text matches the first."""
    return TaskSpec("classification", (OTHER, MATCH), positive=MATCH)


def label_ranking(raw: RawSplit, *, train: bool, seed: int) -> RawSplit:
    """Returns a split of texts and matches as labelled pairs.

    A row of train stays one pair with its negative. Each row of another split becomes a match and a pair that does not
    match, its negative; a split without negatives gets the matches of other rows as candidates.

    Args:
        raw: The split; its second texts match the first ones.
        train: Whether it is the train split.
        seed: Seeds the choice of candidates.
    """
    if train:
        return replace(raw, label=[MATCH] * len(raw.first))
    matches: defaultdict[str, set[str]] = defaultdict(set)
    for first, second in zip(raw.first, raw.second, strict=True):
        matches[first].add(second)
    rng, negatives = np.random.default_rng(seed), read_negatives(raw)
    rows: list[tuple[int, str, str]] = []
    for index, first in enumerate(raw.first):
        rows.append((index, raw.second[index], MATCH))
        others = [negatives[index]] if negatives else _draw_others(raw.second, matches[first], rng)
        rows += [(index, text, OTHER) for text in others]
    taken = raw.take([index for index, _, _ in rows])
    return replace(
        taken,
        columns=raw.columns._replace(negative=None, group=raw.columns.first),
        second=[text for _, text, _ in rows],
        label=[label for _, _, label in rows],
        extra={raw.columns.first: taken.first},
    )


def read_negatives(raw: RawSplit) -> tuple[str, ...]:
    """Returns the text of each pair that does not match its first one; empty if the split has none.

    Raises:
        UserError: A text is empty or not a string.
    """
    column = raw.columns.negative
    if column is None:
        return ()
    texts = tuple(
        clean_text(text, place=raw.locate(index), column=column) for index, text in enumerate(raw.extra[column])
    )
    if "" in texts:
        raise UserError(f"{raw.locate(texts.index(''))}: {column} is empty", fix="fill it in, or drop the row")
    return texts


def _draw_others(texts: list[str], matches: set[str], rng: np.random.Generator) -> list[str]:
    """Returns up to CANDIDATES - 1 distinct texts that are no match."""
    drawn: dict[str, None] = {}
    for index in rng.permutation(len(texts))[: 4 * CANDIDATES]:
        if texts[index] not in matches and len(drawn) < CANDIDATES - 1:
            drawn[texts[index]] = None
    return list(drawn)


def number_groups(raw: RawSplit) -> Int32[np.ndarray, " pairs"] | None:
    """Returns the group of each pair, numbered in order of appearance; None if the split has no groups.

    Raises:
        UserError: A pair has no group, or a group has one pair, so nothing can be ranked.
    """
    column = raw.columns.group
    if column is None:
        return None
    names, numbers = raw.extra[column], dict[str, int]()
    for index, name in enumerate(names):
        if name in (None, ""):
            raise UserError(f"{raw.locate(index)}: {column} is empty", fix="fill it in, or drop the row")
    group = np.fromiter((numbers.setdefault(str(name), len(numbers)) for name in names), np.int32, len(names))
    sizes = np.bincount(group)
    if (sizes == 1).any():
        index = int(np.flatnonzero(sizes[group] == 1)[0])
        raise UserError(
            f"{raw.locate(index)}: the only pair of its group, so there is nothing to rank",
            got=f"{column} {names[index]!s:.60}",
            expected="two pairs or more in each group",
            fix="add candidates, or drop the row",
        )
    return group


def expand_triplets(pairs: Pairs, task: TaskSpec) -> Pairs:
    """Returns triplets as labelled pairs: each text with its match, then with its negative.

    Args:
        pairs: Matches with their negatives.
        task: The task; its positive class is that of the matches.

    Raises:
        UserError: There are no negatives, so all pairs would have one class.
    """
    if not pairs.negative:
        raise UserError(
            "train has matches only, and a classifier needs pairs that do not match too",
            fix="use --loss.kind in-batch with --model.kind bi, or add a column of negatives (pairjax data mine)",
        )
    positive = task.positive_index
    assert positive is not None
    rows = np.repeat(np.arange(len(pairs)), 2)
    second = [text for both in zip(pairs.second, pairs.negative, strict=True) for text in both]
    return Pairs(
        first=tuple(pairs.first[row] for row in rows),
        second=tuple(second),
        label=np.tile(np.array([positive, 1 - positive], np.int32), len(pairs)),
        where=tuple(pairs.where[row] for row in rows) if pairs.where else (),
    )
