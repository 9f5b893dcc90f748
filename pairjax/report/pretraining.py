"""Builds the section of a pretraining run: summary, baselines, curves, metrics and text."""

from collections.abc import Mapping, Sequence

from pairjax.report.blocks import Block, Cell, Drawing, Paragraph, Section, Table, cells
from pairjax.report.draw import GREY, Bar, Line, binned, curves, forest
from pairjax.report.figures import baseline_levels, curve_lines, evaluations
from pairjax.report.folder import RunRecord
from pairjax.report.language import Language, Score
from pairjax.report.pair_figures import loss_note
from pairjax.report.pair_tables import score_cell
from pairjax.report.pairs import unfinished_paragraph
from pairjax.report.provenance import provenance_block

METRICS = (
    "mlm_perplexity",
    "mlm_loss",
    "mlm_accuracy",
    "segment_accuracy",
    "segment_accuracy_unmasked",
    "segment_loss",
)


def pretraining_section(run: RunRecord, *, id: str, language: Language) -> Section:
    """Builds the section of one pretraining run, finished or not."""
    blocks: list[Block] = []
    if run.result is None:
        blocks.append(unfinished_paragraph(run, language=language))
    else:
        blocks.append(Paragraph(first_sentence(run, language=language), "lead"))
        split = run.main_split
        if split is not None and "segment_accuracy" in run.result["metrics"][split]:
            blocks += _baselines(run, split, language=language)
    blocks += pretraining_curves([run], language=language)
    blocks += _train_loss(run, language=language)
    if run.result is not None:
        blocks += [_metrics(run, language=language), _corpus(run, language=language)]
    blocks.append(provenance_block(run, language=language))
    return Section(id, run.name, blocks, subtitle=str(run.path))


def described(run: RunRecord, *, language: Language) -> str:
    """Describes the run: `A new encoder (size mini) learned masked tokens and next segments`."""
    phrase, model = language.phrase, run.config["model"]
    start = (
        phrase("pretraining.continued", encoder=model["encoder"])
        if model.get("encoder")
        else phrase("pretraining.fresh", size=model["size"])
    )
    return phrase(
        "pretraining.described", start=start, objective=phrase(f"objective.{run.config['data']['objective']}")
    )


def segment_accuracy(metrics: Mapping[str, Score]) -> Score:
    """Returns the accuracy on unmasked segments, as the baselines read them; for old runs, on masked ones."""
    return metrics.get("segment_accuracy_unmasked", metrics["segment_accuracy"])


def first_sentence(run: RunRecord, *, language: Language) -> str:
    """Says what was trained on how much text, and the scores on held-out text with intervals."""
    phrase, result, split = language.phrase, run.result, run.main_split
    assert result is not None
    corpus = (result.get("corpus") or {}).get("train") or {}
    trained = phrase(
        "pretraining.trained",
        what=described(run, language=language),
        documents=language.count(corpus.get("documents", 0)),
        tokens=language.count(corpus.get("tokens", 0)),
        steps=language.count(result["train"]["steps"]),
    )
    if split is None:
        return trained + "."
    metrics = result["metrics"][split]
    scored = phrase(
        "pretraining.perplexity",
        trained=trained,
        split=language.name("split", split),
        score=language.score(metrics["mlm_perplexity"], digits=2),
    )
    if "segment_accuracy" not in metrics:
        return scored + "."
    scored = phrase("pretraining.order", scored=scored, score=language.score(segment_accuracy(metrics)))
    levels = sorted(baseline_levels(run, split, language=language), key=lambda level: -level[1])
    if not levels:
        return scored + "."
    return phrase("pretraining.against", scored=scored, name=levels[0][0], score=language.number(levels[0][1]))


def pretraining_curves(runs: Sequence[RunRecord], *, language: Language) -> list[Block]:
    """Draws perplexity and segment accuracy on held-out text over the steps, one line per run."""
    phrase, blocks = language.phrase, list[Block]()
    names = ", ".join(run.name for run in runs)
    for name, log in (("mlm_perplexity", True), ("segment_accuracy", False)):
        lines = curve_lines(runs, f"dev/{name}")
        if not lines:
            continue
        if len(runs) == 1:
            lines = [Line("dev", line.x, line.y, 1) for line in lines]
        levels = [] if log else [level for run in runs for level in baseline_levels(run, "dev", language=language)]
        best = sorted(levels, key=lambda level: level[1])[-1:]
        metric = language.name("metric", name)
        title = phrase("pretraining.metric_title", metric=metric)
        svg = curves(
            lines,
            language=language,
            x_axis=phrase("curves.steps"),
            y_axis=metric,
            alt=f"{title}: {names}",
            levels=best,
            log=log,
        )
        blocks.append(Drawing(svg, title, phrase("pretraining.log_note" if log else "pretraining.segment_note")))
    return blocks


def _train_loss(run: RunRecord, *, language: Language) -> list[Block]:
    phrase = language.phrase
    lines = []
    for series, name in enumerate(("mlm_loss", "segment_loss")):
        steps, values = evaluations(run, name)
        if len(steps) > 1:
            lines.append(Line(language.name("train_loss", name), *binned(steps, values), series=series, points=False))
    if not lines:
        return []
    title = phrase("pretraining.train_title")
    svg = curves(lines, language=language, x_axis=phrase("curves.steps"), y_axis=phrase("curves.loss"), alt=title)
    return [Drawing(svg, title, loss_note(len(evaluations(run, "mlm_loss")[0]), language=language))]


def _baselines(run: RunRecord, split: str, *, language: Language) -> list[Block]:
    result = run.result or {}
    baselines = (result.get("baselines") or {}).get(split, {})
    bars = [Bar(language.phrase("baselines.model"), segment_accuracy(result["metrics"][split]), 0)]
    order = sorted(baselines, key=lambda name: -(baselines[name]["value"] or 0.0))
    bars += [Bar(language.name("segment_baseline", name), baselines[name], GREY) for name in order]
    metric = language.name("metric", "segment_accuracy")
    title = language.phrase("baselines.title", metric=metric, split=language.name("split", split))
    svg = forest(bars, language=language, axis=metric, alt=title)
    return [Drawing(svg, title, language.phrase("pretraining.baseline_note"))]


def _metrics(run: RunRecord, *, language: Language) -> Table:
    assert run.result is not None
    metrics = run.result["metrics"]
    present = [name for name in METRICS if any(name in split for split in metrics.values())]
    rows = [
        [
            Cell(language.name("metric", name)),
            *(score_cell(split.get(name), language=language) for split in metrics.values()),
        ]
        for name in present
    ]
    head = [language.phrase("metrics.metric"), *(language.name("split", split) for split in metrics)]
    return Table(language.phrase("metrics.title"), head, rows, note=language.phrase("pretraining.metrics_note"))


def _corpus(run: RunRecord, *, language: Language) -> Table:
    phrase, corpus = language.phrase, (run.result or {}).get("corpus") or {}
    columns = ("documents", "sentences", "tokens")
    rows = [
        cells(language.name("split", split), *(language.count(facts.get(name, 0)) for name in columns))
        for split, facts in corpus.items()
    ]
    return Table(phrase("pretraining.corpus"), ["", *(phrase(f"pretraining.{name}") for name in columns)], rows)
