"""Draws the figures of a run on pairs: baselines, curves, reliability and slices."""

import numpy as np

from pairjax.evaluation.confidence import risk_coverage
from pairjax.report.analysis import reliability, slices_of
from pairjax.report.blocks import Block, Drawing
from pairjax.report.draw import BINS, GREY, Bar, Line, binned, curves, forest, reliability_diagram
from pairjax.report.figures import evaluations
from pairjax.report.folder import RunRecord, probability_of
from pairjax.report.language import Language, Score

CURVE_POINTS = 200
"""Most points of a risk-coverage curve."""


def baselines_of(run: RunRecord, split: str) -> dict[str, Score]:
    """Returns the leading metric of each baseline on a split."""
    rows = ((run.result or {}).get("baselines") or {}).get(split, {})
    scores = {name: row.get(run.metric) for name, row in rows.items()}
    return {name: score for name, score in scores.items() if score is not None and score["value"] is not None}


def baseline_figure(run: RunRecord, *, language: Language) -> list[Block]:
    """Draws the model's score and those of the baselines; empty if there are none."""
    split, result = run.main_split, run.result
    if split is None or result is None:
        return []
    baselines = baselines_of(run, split)
    score = result["metrics"][split].get(run.metric)
    if not baselines or score is None:
        return []
    metric = language.name("metric", run.metric)
    bars = [Bar(language.phrase("baselines.model"), score, 0)]
    order = sorted(baselines, key=lambda name: -(baselines[name]["value"] or 0.0))
    bars += [Bar(language.name("baseline", name), baselines[name], GREY) for name in order]
    title = language.phrase("baselines.title", metric=metric, split=language.name("split", split))
    svg = forest(bars, language=language, axis=metric, alt=title)
    return [Drawing(svg, title, language.phrase("baselines.note"))]


def curve_figures(run: RunRecord, *, language: Language) -> list[Block]:
    """Draws the loss on train and dev, and the metric that selects the step to keep."""
    phrase, blocks = language.phrase, list[Block]()
    steps, loss = evaluations(run, "loss")
    lines = []
    if len(steps) > 1:
        lines.append(Line(phrase("curves.train"), *binned(steps, loss), series=0, points=False))
    # A regression has no dev/nll: it learns standardised scores, whose loss has another unit than the error on dev.
    if evaluations(run, "dev/nll")[0]:
        lines.append(Line(phrase("curves.dev"), *evaluations(run, "dev/nll"), series=1))
    best_step = (run.result or {}).get("train", {}).get("best_step")
    keeps_best = best_step and run.config["train"].get("keep") == "best"
    best = (phrase("curves.kept"), float(best_step)) if keeps_best else None
    if lines:
        title = phrase("curves.loss_title")
        svg = curves(
            lines, language=language, x_axis=phrase("curves.steps"), y_axis=phrase("curves.loss"), alt=title, best=best
        )
        blocks.append(Drawing(svg, title, loss_note(len(steps), language=language)))
    logged = {name for line in run.curve for name in line if name.startswith("dev/")}
    candidates = [f"dev/{name}" for name in ((run.result or {}).get("train", {}).get("metric"), run.metric) if name]
    selected = next((name for name in candidates if name in logged), None)
    if selected is not None and len(evaluations(run, selected)[0]) > 1:
        metric = language.name("metric", selected.removeprefix("dev/"))
        title = phrase("curves.metric_title", metric=metric)
        svg = curves(
            [Line("dev", *evaluations(run, selected), series=1)],
            language=language,
            x_axis=phrase("curves.steps"),
            y_axis=metric,
            alt=title,
            best=best,
        )
        blocks.append(Drawing(svg, title, phrase("curves.metric_note")))
    return blocks


def loss_note(steps: int, *, language: Language) -> str:
    """Says over how many steps each point of the train loss is averaged."""
    width = round(steps / BINS)
    if width > 1:
        return language.phrase("curves.loss_note", steps=language.count(width))
    return language.phrase("curves.each_note")


def reliability_figure(run: RunRecord, *, language: Language) -> list[Block]:
    """Draws accuracy against confidence before and after calibration; empty without labelled predictions."""
    split, task = run.main_split, run.task
    if split is None or task is None or task.kind == "regression" or split not in run.predictions:
        return []
    predictions = run.predictions[split]
    if predictions.label is None:
        return []
    before, after = (
        reliability(probability_of(predictions, temperature=temperature), predictions.label)
        for temperature in (1.0, run.temperature)
    )
    title = language.phrase("reliability.title", split=language.name("split", split))
    svg = reliability_diagram(before, after, language=language, classes=task.outputs, alt=title)
    note = language.phrase("reliability.note", temperature=language.number(run.temperature, 2))
    return [Drawing(svg, title, note)]


def risk_figure(run: RunRecord, *, language: Language) -> list[Block]:
    """Draws the error of the most confident pairs against their share; empty without labelled classes."""
    split, task = run.main_split, run.task
    if split is None or task is None or task.kind == "regression" or split not in run.predictions:
        return []
    predictions = run.predictions[split]
    if predictions.label is None:
        return []
    probability = probability_of(predictions, temperature=run.temperature)
    coverage, risk, _ = risk_coverage(probability, predictions.label)
    if len(coverage) < 2:
        return []
    # The ends are exact; points between them are thinned, since a page may hold many runs.
    kept = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).round().astype(np.int64))
    title = language.phrase("risk.title", split=language.name("split", split))
    line = Line(language.phrase("risk.line"), coverage[kept].tolist(), risk[kept].tolist(), series=0, points=False)
    svg = curves(
        [line],
        language=language,
        x_axis=language.phrase("risk.coverage"),
        y_axis=language.phrase("risk.error"),
        alt=title,
    )
    return [Drawing(svg, title, language.phrase("risk.note"))]


def slice_figure(run: RunRecord, *, language: Language) -> list[Block]:
    """Draws the leading metric on slices of the main split; empty without labelled predictions."""
    split, task, phrase = run.main_split, run.task, language.phrase
    if split is None or task is None or split not in run.predictions:
        return []
    parts = slices_of(task, run.predictions[split])
    if not parts:
        return []
    bars = []
    for part in parts:
        digits = 2 if part.by == "overlap" else 0
        label = (
            phrase(f"slices.negation_{int(part.low)}")
            if part.by == "negation"
            else phrase(
                f"slices.{part.by}", low=language.number(part.low, digits), high=language.number(part.high, digits)
            )
        )
        size = phrase("slices.size", pairs=language.count(part.pairs))
        series = ("overlap", "length", "negation").index(part.by)
        bars.append(Bar(f"{label} ({size})", part.score.to_json(), series))
    metric = language.name("metric", run.metric)
    title = phrase("slices.title", metric=metric, split=language.name("split", split))
    overall = (run.result or {})["metrics"][split][run.metric]["value"]
    references = [(phrase("slices.all"), overall)] if overall is not None else []
    svg = forest(bars, language=language, axis=metric, alt=title, references=references, digits=2)
    return [Drawing(svg, title, phrase("slices.note"))]
