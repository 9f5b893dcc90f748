"""Builds the section of a run on pairs: a summary in words, then figures, tables, errors and provenance."""

from typing import Any

from pairjax.report.blocks import Block, Paragraph, Section
from pairjax.report.folder import RunRecord
from pairjax.report.language import Language
from pairjax.report.pair_figures import (
    baseline_figure,
    baselines_of,
    curve_figures,
    reliability_figure,
    risk_figure,
    slice_figure,
)
from pairjax.report.pair_tables import class_table, confusion_table, error_examples, metrics_table
from pairjax.report.provenance import provenance_block


def pair_section(run: RunRecord, *, id: str, language: Language) -> Section:
    """Builds the section of one run."""
    if run.result is None:
        return Section(id, run.name, unfinished_blocks(run, language=language), subtitle=str(run.path))
    blocks: list[Block] = [Paragraph(first_sentence(run, language=language), "lead")]
    sentences = " ".join(further_sentences(run, language=language))
    blocks += [Paragraph(sentences)] if sentences else []
    blocks += [
        Paragraph(line.removeprefix("WARNING: "), "warning", foreign=True) for line in run.result.get("warnings", [])
    ]
    blocks += baseline_figure(run, language=language)
    blocks += curve_figures(run, language=language)
    blocks += reliability_figure(run, language=language)
    blocks += risk_figure(run, language=language)
    blocks += slice_figure(run, language=language)
    blocks.append(metrics_table(run, language=language))
    blocks += class_table(run, language=language)
    blocks += confusion_table(run, language=language)
    blocks += error_examples(run, language=language)
    several = run.task is not None and run.task.kind == "multi-label"
    if run.main_split is not None and run.main_split not in run.predictions and not several:
        split = language.name("split", run.main_split)
        blocks.append(Paragraph(language.phrase("errors.no_predictions", split=split), "note"))
    blocks.append(provenance_block(run, language=language))
    return Section(id, run.name, blocks, subtitle=str(run.path))


def unfinished_blocks(run: RunRecord, *, language: Language) -> list[Block]:
    """Builds the blocks of a run without a result."""
    blocks: list[Block] = [unfinished_paragraph(run, language=language)]
    evaluated = [line for line in run.curve if any(name.startswith("dev/") for name in line)]
    if evaluated:
        last = evaluated[-1]
        scores = {name.removeprefix("dev/"): value for name, value in last.items() if name.startswith("dev/")}
        phrases = [f"{language.name('metric', name)} {language.number(value)}" for name, value in scores.items()]
        text = language.phrase("unfinished.last", step=language.count(last["step"]), scores=", ".join(phrases))
        blocks.append(Paragraph(text))
    blocks += curve_figures(run, language=language)
    blocks.append(provenance_block(run, language=language))
    return blocks


def unfinished_paragraph(run: RunRecord, *, language: Language) -> Paragraph:
    """Says that a run has no result, and how far it got."""
    total = run.config["train"].get("max_steps")
    last = run.curve[-1]["step"] if run.curve else 0
    key = "unfinished.none" if not run.curve else "unfinished.of" if total else "unfinished.at"
    return Paragraph(language.phrase(key, step=language.count(last), total=language.count(total or 0)), "warning")


def data_name(run: RunRecord) -> str:
    """Returns the name of the run's pairs, from its result or else from its config."""
    source = ((run.result or {}).get("provenance") or {}).get("data") or {}
    data = run.config["data"]
    rules = f"rules/{data['rules']}" if data.get("rules") else None
    return str(source.get("name") or data.get("path") or data.get("tfds") or data.get("train") or rules or "?")


def train_pairs(run: RunRecord) -> int | None:
    """Returns the number of training pairs; None if it is not recorded."""
    result = run.result or {}
    source = (result.get("provenance") or {}).get("data") or {}
    sizes = result.get("rows") or source.get("rows") or {}
    if "train" in sizes:
        return int(sizes["train"])
    return int(source["sizes"][0]) if source.get("sizes") else None


def described(run: RunRecord, *, language: Language) -> str:
    """Describes the model: `A cross-encoder on NAME`."""
    model = run.config["model"]
    return language.phrase(f"summary.{model['kind']}", encoder=model["encoder"])


def first_sentence(run: RunRecord, *, language: Language) -> str:
    """Says which model was trained on which pairs, and its score with interval next to the baselines."""
    phrase, split, result = language.phrase, run.main_split, run.result
    assert result is not None
    pairs, steps = train_pairs(run), result["train"]["steps"]
    trained = phrase(
        "summary.trained" if pairs is not None else "summary.trained_unknown",
        model=described(run, language=language),
        pairs=language.count(pairs or 0),
        data=data_name(run),
        steps=language.count(steps),
        seed=run.config["train"]["seed"],
    )
    if split is None:
        return phrase("summary.no_scores", trained=trained)
    scored = phrase(
        "summary.scored",
        trained=trained,
        metric=language.name("metric", run.metric),
        score=language.score(result["metrics"][split].get(run.metric)),
        split=language.name("split", split),
    )
    baselines = sorted(baselines_of(run, split).items(), key=lambda item: -(item[1]["value"] or 0.0))
    if not baselines:
        return scored + "."
    phrases = [
        phrase("summary.baseline", score=language.number(score["value"]), name=language.name("baseline", name))
        for name, score in baselines
    ]
    return phrase("summary.against", scored=scored, baselines=language.listed(phrases))


def further_sentences(run: RunRecord, *, language: Language) -> list[str]:
    """Interprets the score, and mentions calibration, swapped texts and the weakest class."""
    split, result, phrase = run.main_split, run.result, language.phrase
    assert result is not None
    if split is None:
        return []
    sentences, metrics = [], result["metrics"][split]
    baselines = baselines_of(run, split)
    score = metrics.get(run.metric)
    if baselines and score is not None and score["value"] is not None:
        name, best = max(baselines.items(), key=lambda item: item[1]["value"] or 0.0)
        clear = score["low"] is not None and best["high"] is not None and score["low"] > best["high"]
        key = "clear" if clear else "touching" if score["value"] > (best["value"] or 0.0) else "below"
        sentences.append(phrase(f"summary.{key}", name=language.name("baseline", name)))
    before, after = metrics.get("ece"), metrics.get("ece_calibrated")
    if before and before["value"] is not None and after and after["value"] is not None:
        sentences.append(
            phrase(
                "summary.calibration",
                before=language.number(before["value"]),
                after=language.number(after["value"]),
                temperature=language.number(run.temperature, 2),
            )
        )
    agreement = metrics.get("swap_agreement")
    if agreement and agreement["value"] is not None:
        sentences.append(phrase("summary.swap", share=language.percent(agreement["value"])))
    report = result["classes"].get(split)
    if report:
        f1 = {name: row["f1"] for name, row in report["per_class"].items()}
        worst = min(f1, key=f1.__getitem__)
        sentences.append(phrase("summary.weakest", name=worst, score=language.number(f1[worst]), metric="F1"))
    return sentences


def overview_row(run: RunRecord, *, language: Language) -> tuple[str, dict[str, Any] | None]:
    """Returns what the table of all runs shows of one: the model with its data, and the leading score."""
    split = run.main_split
    score = None if run.result is None or split is None else run.result["metrics"][split].get(run.metric)
    return f"{described(run, language=language)}, {data_name(run)}", score
