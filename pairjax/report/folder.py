"""What run folders and claims' folders hold, read and checked; nothing is written and no model is loaded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Num

from pairjax.base.errors import UserError
from pairjax.base.types import TaskSpec
from pairjax.evaluation.metrics import probabilities
from pairjax.storage.files import read_json
from pairjax.storage.results import with_current_names

FLOOR = 5e-7
"""Probabilities are written with six digits: less than half a unit of the last is read as this."""


@dataclass(frozen=True)
class Predictions:
    """One split's pairs with their answers.

    Attributes:
        first: A's texts.
        second: B's texts.
        label: int64 class indices or float64 scores [N]; None where the split has none.
        outputs: Logits [N, C] up to a constant a row, before the temperature; or scores [N, 1].
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    label: Num[np.ndarray, " pairs"] | None
    outputs: Float64[np.ndarray, "pairs outputs"]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class RunRecord:
    """A run's folder, finished or not.

    Attributes:
        path: The folder.
        name: For headings and figures: the folder's name.
        kind: Fine-tuning on pairs, or pretraining.
        config: The resolved config.
        origin: Provenance of the start.
        resumes: How often it was taken up again.
        result: result.json; None where the run did not finish.
        curve: The lines of metrics.jsonl.
        predictions: By split.
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
        """What is predicted; None where the run does not say."""
        if self.kind == "pretraining" or self.result is None:
            return None
        task = self.result["task"]
        return TaskSpec(task["kind"], tuple(task["labels"]), task["positive"], task["center"], task["scale"])

    @property
    def main_split(self) -> str | None:
        """The split that the report is about: test where it is scored, else the last."""
        if self.result is None or not self.result["metrics"]:
            return None
        return "test" if "test" in self.result["metrics"] else list(self.result["metrics"])[-1]

    @property
    def metric(self) -> str:
        """The metric that leads: the one that baselines are scored by."""
        task = self.task
        return "accuracy" if task is None or task.kind == "classification" else "spearman"

    @property
    def temperature(self) -> float:
        return 1.0 if self.result is None else float(self.result["calibration"]["temperature"])


@dataclass(frozen=True)
class ClaimFolder:
    """A claim's verdict.

    Attributes:
        path: The folder.
        row: verdict.json.
        combiners: The table of combiners with intervals (combiners.json beside the folder); None where there is none.
    """

    path: Path
    row: dict[str, Any]
    combiners: dict[str, Any] | None


def read_folder(path: Path) -> RunRecord | ClaimFolder:
    """A run's folder or a claim's.

    Raises:
        UserError: It does not exist, is neither, or holds a file that cannot be read.
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
    beside = path.resolve().parent / "combiners.json"
    combiners = None
    if beside.is_file():
        combiners = read_json(beside, kind="a table of combiners", required=("against", "tasks", "rows"))
    return ClaimFolder(path, row, combiners)


def _read_run(path: Path) -> RunRecord:
    saved = read_json(
        path / "config.json", kind="a run's configuration", required=("pairjax", "config", "provenance", "resumes")
    )
    config = saved["config"]
    parts = [name for name in ("data", "model", "train", "optim") if not isinstance(config.get(name), dict)]
    if parts:
        raise UserError(f"{path / 'config.json'} is not a run's", got=f"nothing named {', '.join(parts)}")
    kind: Literal["pairs", "pretraining"] = "pretraining" if "objective" in config["data"] else "pairs"
    result = None
    if (path / "result.json").is_file():
        own = ("task", "calibration", "classes") if kind == "pairs" else ("scored", "labels")
        required = ("metrics", "train", "notes", "provenance", *own)
        result = read_json(path / "result.json", kind="a run's result", required=required)
        result = with_current_names(result) if kind == "pretraining" else result
    labels = tuple(result["task"]["labels"]) if result is not None and kind == "pairs" else ()
    predictions = {}
    if result is not None and kind == "pairs":
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
    """The lines of metrics.jsonl; a last one that was cut short is left out, and a missing file has none."""
    if not path.is_file():
        return ()
    found = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append(with_current_names(entry))
    return tuple(found)


def read_predictions(path: Path, labels: tuple[str, ...], *, temperature: float) -> Predictions:
    """predictions.SPLIT.jsonl.

    Args:
        path: The file.
        labels: The classes in the model's order; none for regression.
        temperature: Fitted on dev: rows of older runs, which carry no logits, had their logits divided by it.

    Raises:
        UserError: A row is not what a run writes.
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
    whole = len(label) == len(first) > 0
    return Predictions(
        tuple(first),
        tuple(second),
        np.array(label, np.int64 if labels else np.float64) if whole else None,
        np.array(outputs, np.float64).reshape(len(first), width),
    )


def _outputs(row: Mapping[str, Any], labels: tuple[str, ...], temperature: float) -> list[float]:
    if not labels:
        return [float(row["score"])]
    if "logits" in row:
        return [float(value) for value in row["logits"]]
    return [temperature * float(np.log(max(row["probabilities"][name], FLOOR))) for name in labels]


def probability_of(predictions: Predictions, *, temperature: float) -> Float64[np.ndarray, "pairs classes"]:
    """Probabilities of the classes at a temperature."""
    return probabilities(predictions.outputs, temperature=temperature)
