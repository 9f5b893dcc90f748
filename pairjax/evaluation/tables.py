"""Show results as tables on a terminal of 80 columns or more, with or without colour.

Every function takes plain data in the form of result.json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pairjax.base.terminal import Score, format_score, plain_table, print_next, print_warning, shorten
from pairjax.evaluation.scores import base_metric, group_metrics

NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "exact_match": "all labels right",
    "mcc": "MCC",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "calibration error",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "mrr@10": "MRR@10",
    "ndcg@10": "NDCG@10",
    "map": "MAP",
    "average_precision": "average precision",
    "answered": "share answered",
    "accuracy_answered": "accuracy if answered",
    "set_coverage": "coverage of sets",
    "set_size": "classes in a set",
    "swap_agreement": "same class for (b, a)",
    "swap_difference": "|change| for (b, a)",
    "swap_correlation": "Pearson with (b, a)",
}
"""Metrics as tables name them."""
OF_POSITIVE = ("precision", "recall", "f1")
"""Metrics of the positive class, if there are two classes."""
BASELINE_NAMES = {
    "majority": "majority class",
    "length": "lengths alone",
    "hypothesis_only": "second text alone",
    "word_overlap": "word overlap",
}
LABEL_WIDTH = 20
"""Longest name of a class, in characters."""
WIDTH = 78
"""Width of a table, in characters."""


def metrics_table(
    metrics: Mapping[str, Mapping[str, Score]], *, positive: str | None = None, threshold: float | None = None
) -> Table:
    """Builds a table with a row for each metric and a column for each split.

    Metrics of calibrated probabilities, at the threshold and of swapped pairs are in sections of their own.

    Args:
        metrics: Scores by split, then by metric.
        positive: With two classes, the positive class, whose precision, recall and F1 are shown.
        threshold: Threshold fitted on dev, for the heading of its section.
    """
    table = plain_table("Scores (95 % bootstrap intervals)", ["", *metrics])
    names = group_metrics(metrics.values())
    cut = "at thresholds, fitted on dev" if threshold is None else f"at threshold {threshold:.2f}, fitted on dev"
    parts = {
        "": names.plain,
        "after temperature, fitted on dev": names.calibrated,
        cut: names.at_threshold,
        "sides swapped": names.swapped,
    }
    for heading, members in parts.items():
        if members and heading:
            table.add_section()
            table.add_row(Text(heading, style="italic"))
        for name in members:
            plain = base_metric(name)
            title = NAMES.get(plain, plain)
            if positive is not None and plain in OF_POSITIVE:
                title += f" ({shorten(positive, 14)})"
            indent = "  " if heading else ""
            cells = [format_score(split.get(name)) for split in metrics.values()]
            # More than two columns fit only if each interval is below its value.
            cells = [cell.replace(" [", "\n[") if len(cells) > 2 else cell for cell in cells]
            table.add_row(Text(indent + title, no_wrap=True), *cells)
    return table


def confusion_table(report: Mapping[str, Any], *, split: str) -> Table:
    """Builds the confusion matrix: true classes as rows, predicted classes as columns, and shares of each row.

    If the names are too long for columns, rows and columns are numbered and the pairs are left out. If there are too
    many classes for that, the table lists the most frequent confusions instead.

    Args:
        report: From `class_report`.
        split: Name of the split, for the title.
    """
    short = [shorten(label, LABEL_WIDTH) for label in report["labels"]]
    widest = max(map(len, short))
    if widest + sum(max(len(label), 12) + 3 for label in short) <= WIDTH:
        return _confusion_matrix(report, short, short, split=split, pairs=True)
    if widest + 5 + 9 * len(short) <= WIDTH:
        numbers = [f"({number})" for number in range(1, len(short) + 1)]
        rows = [f"{number} {label}" for number, label in zip(numbers, short, strict=True)]
        return _confusion_matrix(report, rows, numbers, split=split, pairs=False)
    return _frequent_confusions(report, split=split)


def _confusion_matrix(
    report: Mapping[str, Any], rows: Sequence[str], columns: Sequence[str], *, split: str, pairs: bool
) -> Table:
    """Builds the matrix with these names of rows and columns; `pairs` adds the number of pairs to each share."""
    table = plain_table(f"Confusion on {split}: rows true, columns predicted", ["true", *columns])
    for index, (name, counts) in enumerate(zip(rows, report["confusion"], strict=True)):
        total = sum(counts)
        cells = []
        for column, count in enumerate(counts):
            share = count / total if total else 0.0
            cell = f"{share:.1%}" + (f" ({count:,})" if pairs else "") if total else "-"
            cells.append(Text(cell, style="bold green" if column == index else "red" if share >= 0.1 else ""))
        table.add_row(Text(name), *cells)
    return table


def _frequent_confusions(report: Mapping[str, Any], *, split: str) -> Table:
    """Builds a table of the ten most frequent confusions."""
    labels = report["labels"]
    table = plain_table(f"Most frequent confusions on {split}", ["true", "predicted", "pairs"], left=2)
    wrong = [
        (count, row, column)
        for row, counts in enumerate(report["confusion"])
        for column, count in enumerate(counts)
        if count and row != column
    ]
    for count, row, column in sorted(wrong, key=lambda cell: -cell[0])[:10]:
        share = count / sum(report["confusion"][row])
        table.add_row(
            *(Text(shorten(labels[index], LABEL_WIDTH)) for index in (row, column)), f"{count:,} ({share:.1%})"
        )
    return table


def class_table(report: Mapping[str, Any], *, split: str) -> Table:
    """Builds a table of precision, recall, F1 and number of pairs of each class."""
    table = plain_table(f"Classes on {split}", ["class", "precision", "recall", "F1", "pairs"])
    for name, row in report["per_class"].items():
        figures = [f"{row[column]:.3f}" for column in ("precision", "recall", "f1")]
        table.add_row(Text(shorten(name, 36)), *figures, f"{row['support']:,}")
    return table


def baselines_table(
    baselines: Mapping[str, Mapping[str, Score]], model: Mapping[str, Score] | None = None, *, split: str
) -> Table:
    """Builds a table of the word-only baselines, with the model for comparison.

    Args:
        baselines: Scores by baseline, then by metric, from `lexical_baselines`.
        model: The model's scores on the same split; None if there is no model.
        split: Name of the split, for the title.
    """
    metric = next((name for row in baselines.values() for name in row), "accuracy")
    title = f"{split}: the model and word-only baselines"
    table = plain_table(title, ["", NAMES.get(metric, metric)])
    for name, row in baselines.items():
        table.add_row(Text(BASELINE_NAMES.get(name, name)), format_score(row.get(metric)))
    if model is not None:
        table.add_section()
        table.add_row(Text("this model", style="bold"), Text(format_score(model.get(metric)), style="bold"))
    return table


SLICE_NAMES = {"overlap": "word overlap", "length": "words in both texts", "negation": "more negations in one text"}


def slices_table(rows: Sequence[Mapping[str, Any]], *, split: str) -> Table:
    """Builds a table of the leading metric on each slice of a split.

    Args:
        rows: The slices, from `slice_scores`; at least one.
        split: Name of the split, for the title.
    """
    metric = rows[0]["metric"]
    table = plain_table(f"Slices of {split}", ["slice", NAMES.get(metric, metric), "pairs"])
    by = ""
    for row in rows:
        if row["by"] != by:
            by = row["by"]
            table.add_section()
        match by:
            case "negation":
                values = "yes" if row["high"] > 0 else "no"
            case "overlap":
                values = f"{row['low']:.2f} to {row['high']:.2f}"
            case _:
                values = f"{row['low']:g} to {row['high']:g}"
        table.add_row(Text(f"{SLICE_NAMES[by]}: {values}"), format_score(row["score"]), f"{row['pairs']:,}")
    return table


def examples_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Builds a table of pairs with their predictions.

    Args:
        rows: `sentence1` and `sentence2` of each pair, with `probabilities` by class or `score`.
    """
    table = Table(
        title="Predictions",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        min_width=40,
    )
    table.add_column("pair", ratio=3, overflow="fold")
    table.add_column("prediction", ratio=2, overflow="fold")
    for number, row in enumerate(rows):
        if number:
            table.add_section()
        pair = Text(f"A: {shorten(row['sentence1'], 200)}\nB: {shorten(row['sentence2'], 200)}")
        table.add_row(pair, _prediction(row))
    return table


def _prediction(row: Mapping[str, Any]) -> Text:
    """Returns the score, or the four most probable classes with the first in bold."""
    if "score" in row:
        return Text(f"{row['score']:.2f}", style="bold")
    if "labels" in row:
        return Text(", ".join(row["labels"]) or "no label", style="bold")
    likely = sorted(row["probabilities"].items(), key=lambda item: -item[1])
    lines = [f"{share:.2f} {shorten(name, LABEL_WIDTH)}" for name, share in likely[:4]]
    text = Text(lines[0], style="bold")
    return text.append("".join(f"\n{line}" for line in lines[1:]), style="not bold dim")


def print_results(
    console: Console,
    *,
    metrics: Mapping[str, Mapping[str, Score]],
    reports: Mapping[str, Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, Mapping[str, Score]]],
    slices: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    warnings: Sequence[str] = (),
    commands: Sequence[tuple[str, str]] = (),
    positive: str | None = None,
    threshold: float | None = None,
) -> None:
    """Prints all tables of a finished run or evaluation.

    Args:
        console: The console.
        metrics: Scores by split, then by metric.
        reports: Class reports by split, from `class_report`; empty ones (regression) are skipped.
        baselines: Scores by split, baseline and metric; empty if none were fitted.
        slices: Slices by split, from `slice_scores`.
        examples: Predicted pairs, as `examples_table` takes them.
        warnings: Warnings, which are printed first.
        commands: (purpose, command) of each suggested command.
        positive: With two classes, the positive class.
        threshold: Threshold fitted on dev.
    """
    for line in warnings:
        print_warning(console, line)
    tables = [metrics_table(metrics, positive=positive, threshold=threshold)] if metrics else []
    for split, report in reports.items():
        if report:
            tables += [confusion_table(report, split=split)] if "confusion" in report else []
            tables.append(class_table(report, split=split))
    tables += [baselines_table(rows, metrics[split], split=split) for split, rows in baselines.items() if rows]
    tables += [slices_table(rows, split=split) for split, rows in (slices or {}).items() if rows]
    if examples:
        tables.append(examples_table(examples))
    for table in tables:
        console.print()
        console.print(table, highlight=False)
    if commands:
        print_next(console, commands)
