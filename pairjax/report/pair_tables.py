"""Builds the tables of a run on pairs: metrics, classes, confusion matrix, and the worst errors with their texts."""

from collections.abc import Mapping, Sequence

from pairjax.evaluation.scores import base_metric, group_metrics
from pairjax.evaluation.tables import OF_POSITIVE
from pairjax.report.analysis import class_scores, hardest
from pairjax.report.blocks import Block, Cell, Example, Examples, Table, cells
from pairjax.report.folder import RunRecord, probability_of
from pairjax.report.language import Language, Score

MAX_ERRORS = 10
"""Errors that a report shows."""
MAX_CLASSES = 10
"""With more classes than this, the most frequent confusions are listed instead of the matrix."""
MAX_CONFUSIONS = 10
"""Confusions that are listed."""
MAX_LENGTH = 700
"""Characters of a text that are shown."""


def score_cell(score: Score | None, *, language: Language) -> Cell:
    """Makes a cell of a value with its interval below it."""
    if score is None:
        return Cell(language.number(None))
    return Cell(language.number(score["value"]), language.interval(score))


def metrics_table(run: RunRecord, *, language: Language) -> Table:
    """Tabulates all metrics with intervals, splits side by side, in the same parts as on the terminal."""
    phrase, result = language.phrase, run.result
    assert result is not None
    metrics: Mapping[str, Mapping[str, Score]] = result["metrics"]
    names = group_metrics(metrics.values())
    threshold = result["calibration"].get("threshold")
    positive = result["task"]["positive"]
    at_threshold = phrase("metrics.thresholds")
    if threshold is not None:
        at_threshold = phrase("metrics.threshold", threshold=language.number(threshold, 2))
    parts = (
        ("", names.plain),
        (phrase("metrics.calibrated"), names.calibrated),
        (at_threshold, names.at_threshold),
        (phrase("metrics.swapped"), names.swapped),
    )
    rows: list[list[Cell]] = []
    for heading, members in parts:
        if heading and members:
            rows.append([Cell(heading)])
        for name in members:
            base_name = base_metric(name)
            label = language.name("metric", base_name)
            if positive is not None and base_name in OF_POSITIVE:
                label += f" ({positive})"
            rows.append(
                [
                    Cell(label, strong=name == run.metric),
                    *(score_cell(split.get(name), language=language) for split in metrics.values()),
                ]
            )
    head = [phrase("metrics.metric"), *(language.name("split", split) for split in metrics)]
    return Table(phrase("metrics.title"), head, rows, note=phrase("metrics.note"))


def class_table(run: RunRecord, *, language: Language) -> list[Block]:
    """Tabulates precision, recall and F1 of each class; empty for a regression."""
    split, task, phrase, result = run.main_split, run.task, language.phrase, run.result
    if split is None or task is None or result is None or not result["classes"].get(split):
        return []
    report = result["classes"][split]["per_class"]
    predictions = run.predictions.get(split)
    labelled = predictions is not None and predictions.label is not None
    scores = class_scores(task, predictions) if predictions is not None and labelled else {}
    rows = []
    for name, row in report.items():
        figures = [
            score_cell(scores[name][column].to_json(), language=language)
            if name in scores
            else Cell(language.number(row[column]))
            for column in OF_POSITIVE
        ]
        rows.append([Cell(name), *figures, Cell(language.count(row["support"]))])
    head = [phrase("classes.class"), *(language.name("metric", name) for name in OF_POSITIVE), phrase("classes.pairs")]
    return [Table(phrase("classes.title", split=language.name("split", split)), head, rows)]


def confusion_table(run: RunRecord, *, language: Language) -> list[Block]:
    """Tabulates the confusion matrix, or the most frequent confusions if there are many classes."""
    split, phrase, result = run.main_split, language.phrase, run.result
    if split is None or result is None or "confusion" not in result["classes"].get(split, {}):
        return []
    report, split_name = result["classes"][split], language.name("split", split)
    labels, counts = report["labels"], report["confusion"]
    if len(labels) > MAX_CLASSES:
        title = phrase("confusion.commonest", split=split_name)
        return [_most_frequent(labels, counts, title=title, language=language)]
    rows = []
    for name, row in zip(labels, counts, strict=True):
        total = sum(row)
        shares = [count / total if total else 0.0 for count in row]
        rows.append(
            [
                Cell(name),
                *(
                    Cell(language.percent(share), language.count(count), share=share)
                    for share, count in zip(shares, row, strict=True)
                ),
            ]
        )
    title = phrase("confusion.title", split=split_name)
    return [Table(title, [phrase("confusion.corner"), *labels], rows, note=phrase("confusion.note"))]


def _most_frequent(labels: Sequence[str], counts: Sequence[Sequence[int]], *, title: str, language: Language) -> Table:
    """Lists the most frequent confusions."""
    wrong = [
        (count, row, column)
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if count and row != column
    ]
    rows = [
        cells(labels[row], labels[column], language.count(count), language.percent(count / sum(counts[row])))
        for count, row, column in sorted(wrong, key=lambda cell: -cell[0])[:MAX_CONFUSIONS]
    ]
    phrase = language.phrase
    head = [phrase("confusion.true"), phrase("confusion.predicted"), phrase("classes.pairs"), phrase("confusion.share")]
    return Table(title, head, rows, left=2)


def clipped(text: str, *, language: Language) -> str:
    """Cuts a text to `MAX_LENGTH` characters and adds how many were left out."""
    if len(text) <= MAX_LENGTH:
        return text
    return text[:MAX_LENGTH] + language.phrase("errors.more", characters=language.count(len(text) - MAX_LENGTH))


def error_examples(run: RunRecord, *, language: Language) -> list[Block]:
    """Shows the worst errors on the main split with their texts; empty without labelled predictions."""
    split, task, phrase = run.main_split, run.task, language.phrase
    if split is None or task is None or split not in run.predictions:
        return []
    predictions = run.predictions[split]
    worst = hardest(task, predictions, count=MAX_ERRORS)
    if not worst or predictions.label is None:
        return []
    items = []
    probability = probability_of(predictions, temperature=run.temperature) if task.kind == "classification" else None
    for index in worst:
        if probability is None:
            facts = [
                (phrase("errors.true"), language.number(float(predictions.label[index]), 2)),
                (phrase("errors.predicted"), language.number(float(predictions.outputs[index, 0]), 2)),
            ]
        else:
            true, predicted = int(predictions.label[index]), int(predictions.outputs[index].argmax())
            facts = [
                (
                    phrase(f"errors.{key}"),
                    f"{task.labels[label]} ({language.percent(float(probability[index, label]))})",
                )
                for key, label in (("true", true), ("predicted", predicted))
            ]
        texts = [clipped(side[index], language=language) for side in (predictions.first, predictions.second)]
        items.append(Example(texts[0], texts[1], facts))
    kind = "classes" if task.kind == "classification" else "scores"
    title = phrase("errors.title", split=language.name("split", split), count=len(items))
    return [Examples(title, phrase(f"errors.note_{kind}"), items)]
