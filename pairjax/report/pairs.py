"""The section of a run on pairs: summary in words, scores, curves, confusion, calibration, slices, errors."""

from collections.abc import Mapping, Sequence
from typing import Any

from pairjax.evaluation.scores import base_metric, group_metrics
from pairjax.evaluation.tables import OF_POSITIVE
from pairjax.report.analysis import class_scores, hardest, reliability, slices_of
from pairjax.report.blocks import Block, Cell, Drawing, Example, Examples, Paragraph, Section, Table, cells
from pairjax.report.draw import BINS, Bar, Line, binned, curves, forest, reliability_diagram
from pairjax.report.figures import evaluations
from pairjax.report.folder import RunRecord, probability_of
from pairjax.report.language import Language, Score
from pairjax.report.provenance import provenance_block

ERRORS = 10
MOST_CLASSES = 10
"""More classes than a page shows side by side: then the commonest confusions are listed."""
LONGEST = 700
"""Characters of a text that are shown."""


def pair_section(run: RunRecord, *, id: str, language: Language) -> Section:
    """Everything about one run."""
    if run.result is None:
        return Section(id, run.name, unfinished_blocks(run, language=language), subtitle=str(run.path))
    say = language.say
    blocks: list[Block] = [Paragraph(first_sentence(run, language=language), "lead")]
    more = " ".join(further_sentences(run, language=language))
    blocks += [Paragraph(more)] if more else []
    blocks += [
        Paragraph(line.removeprefix("WARNING: "), "warning", foreign=True) for line in run.result.get("warnings", [])
    ]
    blocks += _baseline_figure(run, language=language)
    blocks += curve_figures(run, language=language)
    blocks += _reliability(run, language=language)
    blocks += _slices(run, language=language)
    blocks.append(metrics_table(run, language=language))
    blocks += _classes(run, language=language)
    blocks += _confusion(run, language=language)
    blocks += _errors(run, language=language)
    if run.main_split is not None and run.main_split not in run.predictions:
        blocks.append(Paragraph(say("errors.no_predictions", split=language.name("split", run.main_split)), "note"))
    blocks.append(provenance_block(run, language=language))
    return Section(id, run.name, blocks, subtitle=str(run.path))


# --------------------------------------------------------------------------------------------------------------- words


def data_name(run: RunRecord) -> str:
    """Of the pairs: what the result says, else what the config asked for."""
    source = ((run.result or {}).get("provenance") or {}).get("data") or {}
    data = run.config["data"]
    rules = f"rules/{data['rules']}" if data.get("rules") else None
    return str(source.get("name") or data.get("path") or data.get("tfds") or data.get("train") or rules or "?")


def train_pairs(run: RunRecord) -> int | None:
    """How many pairs the run learnt from, where its folder says so."""
    result = run.result or {}
    source = (result.get("provenance") or {}).get("data") or {}
    rows = result.get("rows") or source.get("rows") or {}
    if "train" in rows:
        return int(rows["train"])
    return int(source["sizes"][0]) if source.get("sizes") else None


def described(run: RunRecord, *, language: Language) -> str:
    """`A cross-encoder (NAME)`."""
    model = run.config["model"]
    return language.say(f"summary.{model['kind']}", encoder=model["encoder"])


def baselines_of(run: RunRecord, split: str) -> dict[str, Score]:
    """The leading metric of each baseline on a split."""
    rows = ((run.result or {}).get("baselines") or {}).get(split, {})
    found = {name: row.get(run.metric) for name, row in rows.items()}
    return {name: score for name, score in found.items() if score is not None and score["value"] is not None}


def first_sentence(run: RunRecord, *, language: Language) -> str:
    """What was trained on what, and the score with its interval against the baselines."""
    say, split, result = language.say, run.main_split, run.result
    assert result is not None
    pairs, steps = train_pairs(run), result["train"]["steps"]
    trained = say(
        "summary.trained" if pairs is not None else "summary.trained_unknown",
        model=described(run, language=language),
        pairs=language.count(pairs or 0),
        data=data_name(run),
        steps=language.count(steps),
        seed=run.config["train"]["seed"],
    )
    if split is None:
        return say("summary.no_scores", trained=trained)
    score = result["metrics"][split].get(run.metric)
    scored = say(
        "summary.scored",
        trained=trained,
        metric=language.name("metric", run.metric),
        score=language.score(score),
        split=language.name("split", split),
    )
    against = sorted(baselines_of(run, split).items(), key=lambda item: -(item[1]["value"] or 0.0))
    if not against:
        return scored + "."
    told = [
        say("summary.baseline", score=language.number(one["value"]), name=language.name("baseline", name))
        for name, one in against
    ]
    return say("summary.against", scored=scored, baselines=language.listed(told))


def further_sentences(run: RunRecord, *, language: Language) -> list[str]:
    """What the first sentence means, and what else stands out."""
    split, result, say = run.main_split, run.result, language.say
    assert result is not None
    if split is None:
        return []
    found, metrics = [], result["metrics"][split]
    against = baselines_of(run, split)
    score = metrics.get(run.metric)
    if against and score is not None and score["value"] is not None:
        name = max(against, key=lambda one: against[one]["value"] or 0.0)
        best = against[name]
        clear = score["low"] is not None and best["high"] is not None and score["low"] > best["high"]
        key = "clear" if clear else "touching" if score["value"] > (best["value"] or 0.0) else "below"
        found.append(say(f"summary.{key}", name=language.name("baseline", name)))
    before, after = metrics.get("ece"), metrics.get("ece_calibrated")
    if before and before["value"] is not None and after and after["value"] is not None:
        found.append(
            say(
                "summary.calibration",
                before=language.number(before["value"]),
                after=language.number(after["value"]),
                temperature=language.number(run.temperature, 2),
            )
        )
    agree = metrics.get("swap_agreement")
    if agree and agree["value"] is not None:
        found.append(say("summary.swap", share=language.percent(agree["value"])))
    report = result["classes"].get(split)
    if report:
        worst = min(report["per_class"], key=lambda name: report["per_class"][name]["f1"])
        found.append(
            say("summary.weakest", name=worst, score=language.number(report["per_class"][worst]["f1"]), metric="F1")
        )
    return found


def unfinished_blocks(run: RunRecord, *, language: Language) -> list[Block]:
    """What there is of a run without a result."""
    say, most = language.say, run.config["train"].get("max_steps")
    last = run.curve[-1]["step"] if run.curve else 0
    key = "unfinished.none" if not run.curve else "unfinished.of" if most else "unfinished.at"
    blocks: list[Block] = [
        Paragraph(say(key, step=language.count(last), total=language.count(most or 0)), "warning"),
    ]
    scored = [line for line in run.curve if any(name.startswith("dev/") for name in line)]
    if scored:
        numbers = {name.removeprefix("dev/"): value for name, value in scored[-1].items() if name.startswith("dev/")}
        told = [f"{language.name('metric', name)} {language.number(value)}" for name, value in numbers.items()]
        blocks.append(
            Paragraph(say("unfinished.last", step=language.count(scored[-1]["step"]), scores=", ".join(told)))
        )
    blocks += curve_figures(run, language=language)
    blocks.append(provenance_block(run, language=language))
    return blocks


# ------------------------------------------------------------------------------------------------------------- figures


def _baseline_figure(run: RunRecord, *, language: Language) -> list[Block]:
    split, result = run.main_split, run.result
    if split is None or result is None:
        return []
    against = baselines_of(run, split)
    score = result["metrics"][split].get(run.metric)
    if not against or score is None:
        return []
    metric, where = language.name("metric", run.metric), language.name("split", split)
    bars = [Bar(language.say("baselines.model"), score, 0)]
    order = sorted(against, key=lambda name: -(against[name]["value"] or 0.0))
    bars += [Bar(language.name("baseline", name), against[name], 5) for name in order]
    title = language.say("baselines.title", metric=metric, split=where)
    svg = forest(bars, language=language, axis=metric, alt=title)
    return [Drawing(svg, title, language.say("baselines.note"))]


def curve_figures(run: RunRecord, *, language: Language) -> list[Block]:
    """Loss of train and dev, and the metric that chose the kept step."""
    say, blocks = language.say, list[Block]()
    steps, loss = evaluations(run, "loss")
    lines = []
    if len(steps) > 1:
        lines.append(Line(say("curves.train"), *binned(steps, loss), series=0, points=False))
    # A regression learns standardised scores: its loss has another unit than dev's error.
    if evaluations(run, "dev/nll")[0]:
        lines.append(Line(say("curves.dev"), *evaluations(run, "dev/nll"), series=1))
    best = (run.result or {}).get("train", {}).get("best_step")
    kept = (say("curves.kept"), float(best)) if best and run.config["train"].get("keep") == "best" else None
    if lines:
        title = say("curves.loss_title")
        svg = curves(
            lines, language=language, x_axis=say("curves.steps"), y_axis=say("curves.loss"), alt=title, best=kept
        )
        blocks.append(Drawing(svg, title, loss_note(len(steps), language=language)))
    names = {name for line in run.curve for name in line if name.startswith("dev/")}
    wanted = [f"dev/{name}" for name in ((run.result or {}).get("train", {}).get("metric"), run.metric) if name]
    chosen = next((name for name in wanted if name in names), None)
    if chosen is not None and len(evaluations(run, chosen)[0]) > 1:
        metric = language.name("metric", chosen.removeprefix("dev/"))
        title = say("curves.metric_title", metric=metric)
        svg = curves(
            [Line("dev", *evaluations(run, chosen), series=1)],
            language=language,
            x_axis=say("curves.steps"),
            y_axis=metric,
            alt=title,
            best=kept,
        )
        blocks.append(Drawing(svg, title, say("curves.metric_note")))
    return blocks


def loss_note(steps: int, *, language: Language) -> str:
    """How many steps each point of the train loss is the mean of."""
    each = round(steps / BINS)
    return (
        language.say("curves.loss_note", steps=language.count(each)) if each > 1 else language.say("curves.each_note")
    )


def _reliability(run: RunRecord, *, language: Language) -> list[Block]:
    split, task = run.main_split, run.task
    if split is None or task is None or task.kind == "regression" or split not in run.predictions:
        return []
    found = run.predictions[split]
    if found.label is None:
        return []
    before, after = (
        reliability(probability_of(found, temperature=temperature), found.label)
        for temperature in (1.0, run.temperature)
    )
    title = language.say("reliability.title", split=language.name("split", split))
    svg = reliability_diagram(before, after, language=language, classes=task.outputs, alt=title)
    note = language.say("reliability.note", temperature=language.number(run.temperature, 2))
    return [Drawing(svg, title, note)]


def _slices(run: RunRecord, *, language: Language) -> list[Block]:
    split, task, say = run.main_split, run.task, language.say
    if split is None or task is None or split not in run.predictions:
        return []
    found = slices_of(task, run.predictions[split])
    if not found:
        return []
    bars = []
    for one in found:
        digits = 2 if one.by == "overlap" else 0
        label = (
            say(f"slices.negation_{int(one.low)}")
            if one.by == "negation"
            else say(f"slices.{one.by}", low=language.number(one.low, digits), high=language.number(one.high, digits))
        )
        size = say("slices.size", pairs=language.count(one.pairs))
        series = ("overlap", "length", "negation").index(one.by)
        bars.append(Bar(f"{label} ({size})", one.score.to_json(), series))
    metric = language.name("metric", run.metric)
    title = say("slices.title", metric=metric, split=language.name("split", split))
    whole = (run.result or {})["metrics"][split][run.metric]["value"]
    references = [(say("slices.all"), whole)] if whole is not None else []
    svg = forest(bars, language=language, axis=metric, alt=title, references=references, digits=2)
    return [Drawing(svg, title, say("slices.note"))]


# -------------------------------------------------------------------------------------------------------------- tables


def score_cell(score: Score | None, *, language: Language) -> Cell:
    """A value with its interval below it."""
    if score is None:
        return Cell(language.number(None))
    return Cell(language.number(score["value"]), language.interval(score))


def metrics_table(run: RunRecord, *, language: Language) -> Table:
    """All metrics with intervals, splits side by side; in parts, as the terminal shows them."""
    say, result = language.say, run.result
    assert result is not None
    metrics: Mapping[str, Mapping[str, Score]] = result["metrics"]
    names = group_metrics(metrics.values())
    threshold = result["calibration"].get("threshold")
    positive = result["task"]["positive"]
    cut = "" if threshold is None else say("metrics.threshold", threshold=language.number(threshold, 2))
    parts = (
        ("", names.plain),
        (say("metrics.calibrated"), names.calibrated),
        (cut, names.at_threshold),
        (say("metrics.swapped"), names.swapped),
    )
    rows: list[list[Cell]] = []
    for heading, members in parts:
        if heading and members:
            rows.append([Cell(heading)])
        for name in members:
            plain = base_metric(name)
            shown = language.name("metric", plain)
            if positive is not None and plain in OF_POSITIVE:
                shown += f" ({positive})"
            strong = name == run.metric
            rows.append(
                [
                    Cell(shown, strong=strong),
                    *(score_cell(split.get(name), language=language) for split in metrics.values()),
                ]
            )
    head = [say("metrics.metric"), *(language.name("split", split) for split in metrics)]
    return Table(say("metrics.title"), head, rows, note=say("metrics.note"))


def _classes(run: RunRecord, *, language: Language) -> list[Block]:
    split, task, say, result = run.main_split, run.task, language.say, run.result
    if split is None or task is None or result is None or not result["classes"].get(split):
        return []
    report = result["classes"][split]["per_class"]
    found = run.predictions.get(split)
    scores = class_scores(task, found) if found is not None and found.label is not None else {}
    rows = []
    for name, row in report.items():
        figures = [
            score_cell(scores[name][column].to_json(), language=language)
            if name in scores
            else Cell(language.number(row[column]))
            for column in ("precision", "recall", "f1")
        ]
        rows.append([Cell(name), *figures, Cell(language.count(row["support"]))])
    head = [say("classes.class"), *(language.name("metric", one) for one in OF_POSITIVE), say("classes.pairs")]
    return [Table(say("classes.title", split=language.name("split", split)), head, rows)]


def _confusion(run: RunRecord, *, language: Language) -> list[Block]:
    split, say, result = run.main_split, language.say, run.result
    if split is None or result is None or not result["classes"].get(split):
        return []
    report, where = result["classes"][split], language.name("split", split)
    labels, counts = report["labels"], report["confusion"]
    if len(labels) > MOST_CLASSES:
        return [_commonest(labels, counts, title=say("confusion.commonest", split=where), language=language)]
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
    title = say("confusion.title", split=where)
    return [Table(title, [say("confusion.corner"), *labels], rows, note=say("confusion.note"))]


def _commonest(labels: Sequence[str], counts: Sequence[Sequence[int]], *, title: str, language: Language) -> Table:
    wrong = [
        (count, row, column)
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if count and row != column
    ]
    rows = [
        cells(labels[row], labels[column], language.count(count), language.percent(count / sum(counts[row])))
        for count, row, column in sorted(wrong, key=lambda cell: -cell[0])[:10]
    ]
    say = language.say
    head = [say("confusion.true"), say("confusion.predicted"), say("classes.pairs"), say("confusion.share")]
    return Table(title, head, rows, left=2)


def clipped(text: str, *, language: Language) -> str:
    """A text of at most `LONGEST` characters, with what is left out."""
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST] + language.say("errors.more", characters=language.count(len(text) - LONGEST))


def _errors(run: RunRecord, *, language: Language) -> list[Block]:
    split, task, say = run.main_split, run.task, language.say
    if split is None or task is None or split not in run.predictions:
        return []
    found = run.predictions[split]
    chosen = hardest(task, found, count=ERRORS)
    if not chosen or found.label is None:
        return []
    where = language.name("split", split)
    items = []
    probability = probability_of(found, temperature=run.temperature) if task.kind == "classification" else None
    for index in chosen:
        if probability is None:
            facts = [
                (say("errors.true"), language.number(float(found.label[index]), 2)),
                (say("errors.predicted"), language.number(float(found.outputs[index, 0]), 2)),
            ]
        else:
            true, answer = int(found.label[index]), int(found.outputs[index].argmax())
            facts = [
                (say(f"errors.{key}"), f"{task.labels[one]} ({language.percent(float(probability[index, one]))})")
                for key, one in (("true", true), ("predicted", answer))
            ]
        texts = [clipped(side[index], language=language) for side in (found.first, found.second)]
        items.append(Example(texts[0], texts[1], facts))
    kind = "classes" if task.kind == "classification" else "scores"
    return [Examples(say("errors.title", split=where, count=len(items)), say(f"errors.note_{kind}"), items)]


def overview_row(run: RunRecord, *, language: Language) -> tuple[str, dict[str, Any] | None]:
    """What the table of several runs says of one: (trained on what, leading score)."""
    split = run.main_split
    score = None if run.result is None or split is None else run.result["metrics"][split].get(run.metric)
    return f"{described(run, language=language)}, {data_name(run)}", score
