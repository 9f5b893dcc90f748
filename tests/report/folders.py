"""Writes folders of runs and claims as the package does, from random predictions and without training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pairjax import Config, DataConfig, PretrainConfig
from pairjax.base.types import Pairs, TaskSpec
from pairjax.evaluation.intervals import Sampled
from pairjax.evaluation.scores import calibrate, class_report, score, scores_to_json
from pairjax.inference.evaluate import prediction_lines
from pairjax.storage.files import write_json, write_text
from pairjax.storage.provenance import provenance
from pairjax.studies.claim import Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.verdict import verdict_row, write_outcome

CLASSES = ("contradiction", "entailment", "neutral")
SCORE = {"value": 0.41, "low": 0.37, "high": 0.45}


def texts(count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Makes pairs of various overlaps and lengths, some with a negation in one text; no two pairs share a text."""
    words = ["the", "old", "man", "saw", "a", "dog", "near", "some", "house", "by", "that", "river"]
    first = (" ".join(words[i % 5 : i % 5 + 3 + i % 7]) for i in range(count))
    second = (("not " if i % 3 == 0 else "") + " ".join(words[i % 4 : i % 4 + 2 + i % 5]) for i in range(count))
    one, other = (tuple(f"{text} {i}" for i, text in enumerate(side)) for side in (first, second))
    return one, other


def drawn_outputs(task: TaskSpec, label: np.ndarray, *, seed: int, skill: float) -> np.ndarray:
    """Draws logits or scores; with a larger `skill` they agree more often with the label."""
    noise = np.random.default_rng(seed).normal(size=(len(label), task.outputs))
    if task.kind == "regression":
        return (label[:, None] + noise / skill).astype(np.float32)
    return (skill * np.eye(task.outputs)[label] + noise).astype(np.float32)


def write_curve(folder: Path, *, steps: int, dev: dict[str, float], losses: Sequence[str] = ()) -> None:
    """Writes metrics.jsonl with a loss at each step and an evaluation every ten steps."""
    lines = []
    for step in range(1, steps + 1):
        loss = 1.1 - 0.01 * step
        lines.append({"step": step, "epoch": step / 50, "loss": loss} | dict.fromkeys(losses, loss))
        if step % 10 == 0:
            lines.append({"step": step, "epoch": step / 50} | {f"dev/{name}": value for name, value in dev.items()})
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def write_start(folder: Path, config: Config | PretrainConfig) -> None:
    """Writes config.json, as at the start of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    origin = provenance(device_kind="cpu", device_count=1)
    write_json(
        folder / "config.json", {"pairjax": "0.1.0", "config": asdict(config), "provenance": origin, "resumes": []}
    )


def write_pair_run(
    folder: Path,
    *,
    task: TaskSpec | None = None,
    count: int = 90,
    seed: int = 0,
    skill: float = 2.0,
    pairs: tuple[tuple[str, ...], tuple[str, ...]] | None = None,
    baselines: bool = True,
    finished: bool = True,
) -> Path:
    """Writes a run, finished or not; runs with the same task and count have the same pairs."""
    task = task or TaskSpec("classification", CLASSES)
    first, second = pairs or texts(count)
    generator = np.random.default_rng(7)
    label: Any = (
        generator.integers(0, task.outputs, len(first)).astype(np.int32)
        if task.kind == "classification"
        else generator.uniform(0, 5, len(first)).astype(np.float32)
    )
    outputs = drawn_outputs(task, label, seed=seed, skill=skill)
    swapped = drawn_outputs(task, label, seed=seed + 100, skill=skill)
    calibration = calibrate(task, outputs, label)
    scores = scores_to_json(
        score(
            task,
            outputs,
            label,
            bootstrap=100,
            seed=0,
            temperature=calibration.temperature,
            threshold=calibration.threshold,
            swapped_logits=swapped,
        )
    )
    metric = "accuracy" if task.kind == "classification" else "spearman"
    write_start(folder, Config(data=DataConfig(rules="entailment")))
    write_curve(folder, steps=30, dev={metric: 0.6, "nll" if metric == "accuracy" else "mse": 0.9})
    if not finished:
        return folder
    write_text(
        folder / "predictions.test.jsonl",
        prediction_lines(task, Pairs(first, second, label), outputs, calibration=calibration),
    )
    result = {
        "metrics": {"dev": scores, "test": scores},
        "classes": {"test": class_report(task, outputs, label)} if metric == "accuracy" else {},
        "rows": {"train": 8000, "dev": len(first), "test": len(first)},
        "train": {
            "seconds": 20.0,
            "compile_seconds": 5.0,
            "pairs_per_second": 60.0,
            "steps": 30,
            "metric": metric,
            "best_step": 20,
            "ended": "done",
            "examples": 480,
        },
        "calibration": asdict(calibration),
        "task": asdict(task),
        "warnings": [],
        "notes": ["3 pairs were cut"],
        "provenance": {"data": {"name": "rules/entailment", "licence": "Apache-2.0 (generated)"}},
    }
    if baselines:
        result["baselines"] = {"test": {"majority": {metric: SCORE}, "word_overlap": {metric: SCORE | {"value": 0.44}}}}
    write_json(folder / "result.json", result)
    return folder


def write_pretraining_run(folder: Path, *, finished: bool = True) -> Path:
    """Writes a pretraining run with baselines."""
    write_start(folder, PretrainConfig())
    dev = {"mlm_loss": 4.0, "mlm_perplexity": 54.6, "mlm_accuracy": 0.2, "segment_accuracy": 0.7, "segment_loss": 0.6}
    write_curve(folder, steps=30, dev=dev, losses=("mlm_loss", "segment_loss"))
    if not finished:
        return folder
    names = ("mlm_perplexity", "mlm_loss", "mlm_accuracy", "segment_accuracy", "segment_loss")
    values = {"value": 0.7, "low": 0.65, "high": 0.75}
    facts = {"documents": 2000, "sentences": 28126, "tokens": 267565}
    result = {
        "metrics": {split: dict.fromkeys(names, values) for split in ("dev", "test")},
        "scored": {split: {"examples": 100, "documents": 20, "masked_tokens": 900} for split in ("dev", "test")},
        "labels": ["is next", "is of another document"],
        "corpus": {"train": facts, "dev": facts},
        "train": {
            "seconds": 20.0,
            "compile_seconds": 5.0,
            "tokens_per_second": 3000.0,
            "steps": 30,
            "best_step": 30,
            "metric": "loss",
        },
        "notes": [],
        "provenance": {"data": {"train": [{"name": "stories", "sha256": "0" * 64}]}},
        "baselines": {split: {"tfidf_overlap": SCORE, "lengths": SCORE} for split in ("dev", "test")},
    }
    write_json(folder / "result.json", result)
    return folder


def write_claim(folder: Path, *, verdict: bool = True) -> Path:
    """Writes the folder of a claim with its verdict, and the table of combiners next to it."""
    samples = np.random.default_rng(0).normal(3.0, 0.5, 500)
    effect = Sampled(3.0, samples, samples)
    hypotheses = [
        Hypothesis("H1 linear head", effect, 1.0, True, "product less [u; v]"),
        Hypothesis("H2 aside", effect, 5.0, False, "the same, aside", unit="steps"),
    ]
    claim = Claim(id=folder.name, statement="A product can beat [u; v].", seeds=2, run=lambda _: Outcome(hypotheses))
    run = ClaimRun(claim=claim, root=folder.parent, seeds=2, quick=False, deadline=0.0, log=print)
    tables = {"Linear head: test score": [["combiner", "mrpc"], ["[u*v]", "**71.20** ± 0.30"]]}
    outcome = Outcome(hypotheses, tables=tables, notes=["one rate at the edge of the grid"], board="combiners.json")
    row = verdict_row(run, outcome, file=Path(__file__), minutes=3.0)
    if verdict:
        row |= {"verdict": "supported", "no_verdict_because": None, "commit": "0123456789abcdef"}
        row["hypotheses"] = [hypothesis | {"verdict": "supported"} for hypothesis in row["hypotheses"]]
    else:
        row |= {"verdict": None, "no_verdict_because": "a quick run gives no verdict", "commit": None}
    write_outcome(folder, row, outcome)
    gain = {"value": 2.0, "low": 1.0, "high": 3.0}
    rows = [
        {"task": task, "combiner": name, "hidden": hidden, "score": gain, "gain": gain}
        for task in ("mrpc", "sick")
        for name in ("[u; v]", "[u-v]", "[u*v]")
        for hidden in (False, True)
    ]
    tasks = [{"task": "mrpc", "metric": "accuracy", "pairs": 90}, {"task": "sick", "metric": "accuracy", "pairs": 90}]
    board = {"key": "x", "against": "[u; v]", "seeds": 2, "tasks": tasks, "rows": rows}
    write_json(folder.parent / "combiners.json", board)
    return folder
