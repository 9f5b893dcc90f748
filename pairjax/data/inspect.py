"""What a person wants to see of their pairs before training on them: `pairjax data inspect`."""

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
from pairjax.data.quality import Quality, measure_quality

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
QUANTILE_NAMES = ("min", "25 %", "median", "75 %", "95 %", "99 %", "max")
SCORE_BANDS = 5
WORD = re.compile(r"\w+")
UNLABELLED = "(none)"


@dataclass(frozen=True)
class SplitSummary:
    """One split in figures.

    Attributes:
        rows: Pairs.
        group: By class name (or band of scores, or `(none)` where there are no labels), the row numbers.
        words: Words of each text [rows, 2] (white space between them).
        characters: Characters of each text [rows, 2].
        overlap: Jaccard overlap of the two texts' word sets, case folded, [rows]; 0 to 1.
    """

    rows: int
    group: Mapping[str, Int64[np.ndarray, " members"]]
    words: Int64[np.ndarray, "rows 2"]
    characters: Int64[np.ndarray, "rows 2"]
    overlap: Float64[np.ndarray, " rows"]


@dataclass(frozen=True)
class Summary:
    """All splits in figures, as `pairjax data inspect` shows them.

    Attributes:
        data: What was summarised.
        splits: By split.
        quality: Repeats, leaks and contradictions.
    """

    data: PairData
    splits: Mapping[str, SplitSummary]
    quality: Quality


def jaccard(first: str, second: str) -> float:
    """|A and B| / |A or B| of the two texts' word sets, case folded; 0 where neither has a word."""
    one, two = set(WORD.findall(first.casefold())), set(WORD.findall(second.casefold()))
    return len(one & two) / len(one | two) if one or two else 0.0


def _bands(score: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Rows by band of scores."""
    band = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, len(edges) - 2)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return {name: np.flatnonzero(band == index) for index, name in enumerate(names)}


def _groups(pairs: Pairs, task: TaskSpec, edges: np.ndarray) -> dict[str, np.ndarray]:
    if pairs.label is None:
        return {UNLABELLED: np.arange(len(pairs))}
    if task.kind == "regression":
        return _bands(pairs.label, edges)
    return {name: np.flatnonzero(pairs.label == index) for index, name in enumerate(task.labels)}


def _score_edges(data: PairData) -> np.ndarray:
    """Bounds of equal bands over all scores."""
    scores = [pairs.label for pairs in data.splits.values() if pairs.label is not None]
    if data.task.kind != "regression" or not scores:
        return np.array([0.0, 1.0])
    every = np.concatenate(scores)
    low, high = float(every.min()), float(every.max())
    return np.linspace(low, high if high > low else low + 1.0, SCORE_BANDS + 1)


def inspect_pairs(data: PairData) -> Summary:
    """Count classes, lengths, overlap, repeats and leaks.

    Args:
        data: From `load_pairs`.
    """
    edges = _score_edges(data)
    splits = {}
    for name, pairs in data.splits.items():
        texts = list(zip(pairs.first, pairs.second, strict=True))
        splits[name] = SplitSummary(
            rows=len(pairs),
            group=_groups(pairs, data.task, edges),
            words=np.array([[len(text.split()) for text in pair] for pair in texts], np.int64).reshape(-1, 2),
            characters=np.array([[len(text) for text in pair] for pair in texts], np.int64).reshape(-1, 2),
            overlap=np.array([jaccard(*pair) for pair in texts], np.float64),
        )
    return Summary(data, splits, measure_quality(data.task, data.splits))


# -------------------------------------------------------------------------------------------------------------- shown


def _class_table(summary: Summary) -> Table:
    kind = "scores" if summary.data.task.kind == "regression" else "classes"
    names = list(dict.fromkeys(name for split in summary.splits.values() for name in split.group))
    table = plain_table(f"Pairs by {kind}", ["", *summary.splits])
    for name in names:
        cells = []
        for split in summary.splits.values():
            count = len(split.group[name]) if name in split.group else None
            cells.append("-" if count is None else f"{count:,} ({count / max(split.rows, 1):.1%})")
        table.add_row(escape(name), *cells)
    table.add_section()
    table.add_row("all", *(f"{split.rows:,}" for split in summary.splits.values()))
    return table


def _length_table(summary: Summary) -> Table:
    table = plain_table("Lengths", ["split", "text", "unit", *QUANTILE_NAMES], left=3)
    for name, split in summary.splits.items():
        for side, title in enumerate(("first", "second")):
            for unit, values in (("words", split.words), ("characters", split.characters)):
                cells = np.quantile(values[:, side], QUANTILES, method="higher")
                shown = name if side == 0 and unit == "words" else ""
                table.add_row(shown, title if unit == "words" else "", unit, *(f"{int(cell):,}" for cell in cells))
        table.add_section()
    return table


def _overlap_table(summary: Summary) -> Table:
    table = plain_table(
        "Word overlap (Jaccard, case folded)",
        ["split", "class", "mean", "25 %", "median", "75 %"],
        left=2,
    )
    for name, split in summary.splits.items():
        for number, (group, rows) in enumerate(split.group.items()):
            overlap = split.overlap[rows]
            cells = [overlap.mean(), *np.quantile(overlap, (0.25, 0.5, 0.75))] if len(rows) else []
            shown = [f"{value:.2f}" for value in cells] or ["-"] * 4
            table.add_row(name if number == 0 else "", escape(group), *shown)
        table.add_section()
    return table


def _leak_table(summary: Summary) -> Table:
    quality = summary.quality
    splits = list(summary.splits)
    columns = ["rows of", "repeated there", *(f"also in {early} (swapped)" for early in splits[:-1])]
    table = plain_table("Repeats and leaks", columns)
    for later, late in enumerate(splits):
        cells = [f"{quality.repeated[late]:,}"]
        for place, early in enumerate(splits[:-1]):
            known = place < later
            cells.append(f"{quality.shared[early, late]:,} ({quality.swapped[early, late]:,})" if known else "")
        table.add_row(late, *cells)
    return table


def _sample_table(summary: Summary, rows: int, seed: int) -> Table:
    split, pairs = next((name, pairs) for name, pairs in summary.data.splits.items())
    table = Table(
        title=f"A few rows of {split}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name, ratio in (("", 2), ("first", 5), ("second", 5)):
        table.add_column(name, ratio=ratio, overflow="fold")
    rng = np.random.default_rng(seed)
    for group, members in summary.splits[split].group.items():
        for number, row in enumerate(sorted(rng.permutation(members)[:rows].tolist())):
            texts = [escape(shorten(text, 160)) for text in (pairs.first[row], pairs.second[row])]
            table.add_row(escape(group) if number == 0 else "", *texts)
        table.add_section()
    return table


def print_summary(summary: Summary, console: Console, *, rows: int = 2, seed: int = 0) -> None:
    """Print the summary as tables; readable from 80 columns on.

    Args:
        summary: From `inspect_pairs`.
        console: Where to.
        rows: Pairs shown of each class.
        seed: Chooses them.
    """
    source, task = summary.data.source, summary.data.task
    console.print(f"[bold]{escape(str(source.get('name', 'pairs')))}[/bold]: {_title(task)}", highlight=False)
    for table in (
        _class_table(summary),
        _length_table(summary),
        _overlap_table(summary),
        _leak_table(summary),
        _sample_table(summary, rows, seed),
    ):
        console.print()
        console.print(table, highlight=False)
    counted = set(summary.quality.notes())
    notes = [note for note in summary.data.notes if note not in counted]
    if summary.quality.contradictory:
        notes.append(summary.quality.notes()[-1])
    for note in notes:
        console.print(f"- {escape(note)}", highlight=False)


def _title(task: TaskSpec) -> str:
    if task.kind == "regression":
        return "scores (regression)"
    positive = f"; positive: {task.positive}" if task.positive else ""
    return escape(f"{len(task.labels)} classes ({', '.join(task.labels)}{positive})")
