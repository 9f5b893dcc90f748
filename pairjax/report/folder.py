"""Reads and checks the folders of runs and claims; writes nothing and loads no model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Num

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec, main_split
from pairjax.evaluation.metrics import probabilities
from pairjax.storage.files import read_json
from pairjax.storage.results import with_current_names

COMBINERS_FILE = "combiners.json"
"""The table of combiners with intervals, beside the folders of the claims that it belongs to."""
FLOOR = 5e-7
"""Smallest probability that is read: they are written with six digits, so a smaller one may be written as 0."""


@dataclass(frozen=True)
class Predictions:
    """The pairs of a split with the model's predictions.

    Attributes:
        first: First text of each pair.
        second: Second text of each pair.
        label: int64 [N] class indices or float64 [N] scores; None if the split has no labels.
        outputs: float64 [N, C] logits before the temperature, up to a constant per pair; or [N, 1] scores.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    label: Num[np.ndarray, " pairs"] | None
    outputs: Float64[np.ndarray, "pairs outputs"]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class RunRecord:
    """The folder of a run, finished or not.

    Attributes:
        path: The folder.
        name: The folder's name, for headings and figures.
        kind: Fine-tuning on pairs, or pretraining.
        config: The resolved config.
        origin: Provenance at the start of the run.
        resumes: Number of times that the run was resumed.
        result: Contents of result.json; None if the run did not finish.
        curve: Lines of metrics.jsonl.
        predictions: Predictions by split.
    """

    path: Path
    name: str
    kind: Literal["pairs", "pretraining"]
    config: dict[str, Any]
    origin: dict[str, Any]
    resumes: int
    result: dict[str, Any] | None
    curve: tuple[dict[str, Any], ...]
    predictions: Mapping[str, Predictions]

    @property
    def task(self) -> TaskSpec | None:
        """The task; None for pretraining and for a run without a result."""
        if self.kind == "pretraining" or self.result is None:
            return None
        task = self.result["task"]
        return TaskSpec(task["kind"], tuple(task["labels"]), task["positive"], task["center"], task["scale"])

    @property
    def main_split(self) -> str | None:
        """The split that the report is about: test (or the first of several) if it was scored, else dev."""
        return None if self.result is None else main_split(self.result["metrics"])

    @property
    def metric(self) -> str:
        """The leading metric, by which the baselines are scored too."""
        task = self.task
        if task is not None and task.kind == "multi-label":
            return "micro_f1"
        return "accuracy" if task is None or task.kind == "classification" else "spearman"

    @property
    def temperature(self) -> float:
        """The temperature fitted on dev; 1 if the run has no result."""
        return 1.0 if self.result is None else float(self.result["calibration"]["temperature"])


@dataclass(frozen=True)
class ClaimFolder:
    """The folder of a claim.

    Attributes:
        path: The folder.
        row: Contents of verdict.json.
        combiners: Table of combiners with intervals, from combiners.json next to the folder; None if there is none.
    """

    path: Path
    row: dict[str, Any]
    combiners: dict[str, Any] | None


def read_folder(path: Path) -> RunRecord | ClaimFolder:
    """Reads the folder of a run or of a claim.

    Raises:
        UserError: The folder does not exist, is neither of the two, or holds a file that cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such folder", expected="the folder of a run (--run.dir) or of a claim")
    if (path / "verdict.json").is_file():
        return _read_claim(path)
    if not path.is_dir() or not (path / "config.json").is_file():
        raise UserError(
            f"{path} is not a run folder",
            got="no config.json" if path.is_dir() else "a file",
            expected="the folder of a run (--run.dir) or of a claim (runs/claims/ID)",
        )
    return _read_run(path)


def _read_claim(path: Path) -> ClaimFolder:
    required = ("id", "statement", "verdict", "hypotheses", "seeds", "encoder", "pooling", "commit", "command", "notes")
    row = read_json(path / "verdict.json", kind="a verdict", required=(*required, "tables", "no_verdict_because"))
    board = path.resolve().parent / COMBINERS_FILE
    combiners = None
    if board.is_file():
        combiners = read_json(board, kind="a table of combiners", required=("against", "tasks", "rows"))
    return ClaimFolder(path, row, combiners)


def _read_run(path: Path) -> RunRecord:
    saved = read_json(
        path / "config.json", kind="a run's configuration", required=("pairjax", "config", "provenance", "resumes")
    )
    config = saved["config"]
    parts = [name for name in ("data", "model", "train", "optim") if not isinstance(config.get(name), dict)]
    if parts:
        raise UserError(f"{path / 'config.json'} is not the config of a run", got=f"no {', '.join(parts)} in it")
    kind: Literal["pairs", "pretraining"] = "pretraining" if "objective" in config["data"] else "pairs"
    result = None
    if (path / "result.json").is_file():
        own = ("task", "calibration", "classes") if kind == "pairs" else ("scored", "labels")
        required = ("metrics", "train", "notes", "provenance", *own)
        result = read_json(path / "result.json", kind="a run's result", required=required)
        result = with_current_names(result) if kind == "pretraining" else result
    labels = tuple(result["task"]["labels"]) if result is not None and kind == "pairs" else ()
    predictions = {}
    # The figures of predictions are about one class for each pair.
    if result is not None and kind == "pairs" and result["task"]["kind"] != "multi-label":
        for split in result["metrics"]:
            file = path / f"predictions.{split}.jsonl"
            if file.is_file():
                predictions[split] = read_predictions(
                    file, labels, temperature=float(result["calibration"]["temperature"])
                )
    return RunRecord(
        path=path,
        name=path.resolve().name,
        kind=kind,
        config=config,
        origin=saved["provenance"],
        resumes=len(saved["resumes"]),
        result=result,
        curve=read_curve(path / "metrics.jsonl"),
        predictions=predictions,
    )


def read_curve(path: Path) -> tuple[dict[str, Any], ...]:
    """Reads the lines of metrics.jsonl; an incomplete last line is left out, and a missing file has no lines."""
    if not path.is_file():
        return ()
    entries = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(with_current_names(entry))
    return tuple(entries)


def read_predictions(path: Path, labels: tuple[str, ...], *, temperature: float) -> Predictions:
    """Reads a file predictions.SPLIT.jsonl.

    Args:
        path: The file.
        labels: The classes in the model's order; empty for regression.
        temperature: Temperature fitted on dev. Runs of old versions wrote no logits but the probabilities at this
            temperature, from which logits are computed.

    Raises:
        UserError: A line is not a prediction of this run.
    """
    first, second, label, outputs = [], [], [], []
    index = {name: number for number, name in enumerate(labels)}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                first.append(str(row["sentence1"]))
                second.append(str(row["sentence2"]))
                outputs.append(_outputs(row, labels, temperature))
                if "true" in row:
                    label.append(index[row["true"]] if labels else float(row["true"]))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}: not a prediction of this run", got=f"{type(error).__name__}: {error}"
                ) from error
    width = len(labels) or 1
    labelled = len(label) == len(first) > 0
    return Predictions(
        tuple(first),
        tuple(second),
        np.array(label, np.int64 if labels else np.float64) if labelled else None,
        np.array(outputs, np.float64).reshape(len(first), width),
    )


def _outputs(row: Mapping[str, Any], labels: tuple[str, ...], temperature: float) -> list[float]:
    if not labels:
        return [float(row["score"])]
    if "logits" in row:
        return [float(value) for value in row["logits"]]
    return [temperature * float(np.log(max(row["probabilities"][name], FLOOR))) for name in labels]


def probability_of(predictions: Predictions, *, temperature: float) -> Float64[np.ndarray, "pairs classes"]:
    """Computes the probabilities of the classes at a temperature."""
    return probabilities(predictions.outputs, temperature=temperature)
