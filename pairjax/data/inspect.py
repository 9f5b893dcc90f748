"""Summarises pairs before training and prints the summary: `pairjax data inspect`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pairjax.base.terminal import plain_table, shorten
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.data.groups import describe_groups
from pairjax.data.quality import Quality, measure_quality

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
QUANTILE_NAMES = ("min", "25 %", "median", "75 %", "95 %", "99 %", "max")
SCORE_BANDS = 5
WORD = re.compile(r"\w+")
UNLABELLED = "(none)"
TEXT_LENGTH = 160
"""Most characters shown of a text."""


@dataclass(frozen=True)
class SplitSummary:
    """The figures of one split.

    Attributes:
        size: Number of pairs, N.
        group: Indices of the pairs by class name, by band of scores, or under `(none)` if there are no labels.
        words: int64 [N, 2]; words of each text, separated by white space.
        characters: int64 [N, 2]; characters of each text.
        overlap: float64 [N], 0 to 1; Jaccard overlap of the two texts' word sets, case folded.
    """

    size: int
    group: Mapping[str, Int64[np.ndarray, " members"]]
    words: Int64[np.ndarray, "pairs 2"]
    characters: Int64[np.ndarray, "pairs 2"]
    overlap: Float64[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Summary:
    """The figures of all splits.

    Attributes:
        data: The data.
        splits: The figures by split.
        quality: Repeats, leaks and contradictions.
    """

    data: PairData
    splits: Mapping[str, SplitSummary]
    quality: Quality


def jaccard(first: str, second: str) -> float:
    """Computes |A and B| / |A or B| of the two texts' word sets, case folded; 0 if neither has a word."""
    left, right = set(WORD.findall(first.casefold())), set(WORD.findall(second.casefold()))
    return len(left & right) / len(left | right) if left or right else 0.0


def _bands(score: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the indices of the pairs in each band of scores."""
    band = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, len(edges) - 2)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return {name: np.flatnonzero(band == index) for index, name in enumerate(names)}


def _groups(pairs: Pairs, task: TaskSpec, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `SplitSummary.group`."""
    if pairs.label is None:
        return {UNLABELLED: np.arange(len(pairs))}
    if task.kind == "regression":
        return _bands(pairs.label, edges)
    if task.kind == "multi-label":
        groups = {name: np.flatnonzero(pairs.label[:, index]) for index, name in enumerate(task.labels)}
        return groups | {"(no label)": np.flatnonzero(pairs.label.sum(axis=1) == 0)}
    return {name: np.flatnonzero(pairs.label == index) for index, name in enumerate(task.labels)}


def _score_edges(data: PairData) -> np.ndarray:
    """Returns the bounds of bands of equal width over all scores."""
    scores = [pairs.label for pairs in data.splits.values() if pairs.label is not None]
    if data.task.kind != "regression" or not scores:
        return np.array([0.0, 1.0])
    joined = np.concatenate(scores)
    low, high = float(joined.min()), float(joined.max())
    return np.linspace(low, high if high > low else low + 1.0, SCORE_BANDS + 1)


def inspect_pairs(data: PairData) -> Summary:
    """Counts classes, lengths, overlap, repeats and leaks.

    Args:
        data: The data, from `load_pairs`.
    """
    edges = _score_edges(data)
    splits = {}
    for name, pairs in data.splits.items():
        texts = list(zip(pairs.first, pairs.second, strict=True))
        splits[name] = SplitSummary(
            size=len(pairs),
            group=_groups(pairs, data.task, edges),
            words=np.array([[len(text.split()) for text in pair] for pair in texts], np.int64).reshape(-1, 2),
            characters=np.array([[len(text) for text in pair] for pair in texts], np.int64).reshape(-1, 2),
            overlap=np.array([jaccard(*pair) for pair in texts], np.float64),
        )
    return Summary(data, splits, measure_quality(data.task, data.splits))


# ------------------------------------------------------------------------------------------------------------- tables


def _class_table(summary: Summary) -> Table:
    """Builds the table of classes by split."""
    kind = "scores" if summary.data.task.kind == "regression" else "classes"
    names = list(dict.fromkeys(name for split in summary.splits.values() for name in split.group))
    table = plain_table(f"Pairs by {kind}", ["", *summary.splits])
    for name in names:
        cells = []
        for split in summary.splits.values():
            count = len(split.group[name]) if name in split.group else None
            cells.append("-" if count is None else f"{count:,} ({count / max(split.size, 1):.1%})")
        table.add_row(escape(name), *cells)
    table.add_section()
    table.add_row("all", *(f"{split.size:,}" for split in summary.splits.values()))
    return table


def _length_table(summary: Summary) -> Table:
    """Builds the table of text lengths by split."""
    table = plain_table("Lengths", ["split", "text", "unit", *QUANTILE_NAMES], left=3)
    for name, split in summary.splits.items():
        for side, title in enumerate(("first", "second")):
            for unit, values in (("words", split.words), ("characters", split.characters)):
                cells = np.quantile(values[:, side], QUANTILES, method="higher")
                split_name = name if side == 0 and unit == "words" else ""
                text_name = title if unit == "words" else ""
                table.add_row(split_name, text_name, unit, *(f"{int(cell):,}" for cell in cells))
        table.add_section()
    return table


def _overlap_table(summary: Summary) -> Table:
    """Builds the table of word overlap by split and class."""
    table = plain_table(
        "Word overlap (Jaccard, case folded)",
        ["split", "class", "mean", "25 %", "median", "75 %"],
        left=2,
    )
    for name, split in summary.splits.items():
        for number, (group, members) in enumerate(split.group.items()):
            overlap = split.overlap[members]
            values = [overlap.mean(), *np.quantile(overlap, (0.25, 0.5, 0.75))] if len(members) else []
            cells = [f"{value:.2f}" for value in values] or ["-"] * 4
            table.add_row(name if number == 0 else "", escape(group), *cells)
        table.add_section()
    return table


def _leak_table(summary: Summary) -> Table:
    """Builds the table of repeated pairs within and between splits."""
    quality = summary.quality
    splits = list(summary.splits)
    columns = ["rows of", "repeated there (swapped)", *(f"also in {early} (swapped)" for early in splits[:-1])]
    table = plain_table("Repeats and leaks", columns)
    for number, late in enumerate(splits):
        cells = [f"{quality.repeated[late]:,} ({quality.reversed[late]:,})"]
        for early_number, early in enumerate(splits[:-1]):
            is_earlier = early_number < number
            cells.append(f"{quality.shared[early, late]:,} ({quality.swapped[early, late]:,})" if is_earlier else "")
        table.add_row(late, *cells)
    return table


def _sample_table(summary: Summary, count: int, seed: int) -> Table:
    """Builds the table of `count` pairs of each class of the first split."""
    split, pairs = next((name, pairs) for name, pairs in summary.data.splits.items())
    table = Table(
        title=f"A few pairs of {split}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name, ratio in (("", 2), ("first", 5), ("second", 5)):
        table.add_column(name, ratio=ratio, overflow="fold")
    rng = np.random.default_rng(seed)
    for group, members in summary.splits[split].group.items():
        for number, index in enumerate(sorted(rng.permutation(members)[:count].tolist())):
            texts = [escape(shorten(text, TEXT_LENGTH)) for text in (pairs.first[index], pairs.second[index])]
            table.add_row(escape(group) if number == 0 else "", *texts)
        table.add_section()
    return table


def print_summary(summary: Summary, console: Console, *, rows: int = 2, seed: int = 0) -> None:
    """Prints the summary as tables that fit in 80 columns.

    Args:
        summary: The summary, from `inspect_pairs`.
        console: Where to print.
        rows: Number of pairs of each class to print.
        seed: Seeds the choice of these pairs.
    """
    source, task = summary.data.source, summary.data.task
    console.print(f"[bold]{escape(str(source.get('name', 'pairs')))}[/bold]: {_title(task)}", highlight=False)
    for line in summary.data.reading:
        console.print(f"- {escape(line)}", highlight=False)
    for table in (
        _class_table(summary),
        _length_table(summary),
        _overlap_table(summary),
        _leak_table(summary),
        _sample_table(summary, rows, seed),
    ):
        console.print()
        console.print(table, highlight=False)
    # The tables show all counts of quality but the contradictions.
    in_tables = set(summary.quality.notes())
    notes = [note for note in summary.data.notes if note not in in_tables]
    if summary.quality.contradictory:
        notes.append(summary.quality.notes()[-1])
    notes += [f"{name}: {describe_groups(pairs)}" for name, pairs in summary.data.splits.items()]
    for note in notes:
        console.print(f"- {escape(note)}", highlight=False)


def _title(task: TaskSpec) -> str:
    """Describes the task in one line."""
    if task.kind == "regression":
        return "scores (regression)"
    positive = f"; positive: {task.positive}" if task.positive else ""
    if task.kind == "multi-label":
        return escape(f"{len(task.labels)} labels, any number for a pair ({', '.join(task.labels)})")
    return escape(f"{len(task.labels)} classes ({', '.join(task.labels)}{positive})")
