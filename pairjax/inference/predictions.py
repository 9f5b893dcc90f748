"""The prediction for a pair, and its computation from a model's outputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.evaluation.confidence import classes_at_thresholds, label_sets
from pairjax.evaluation.metrics import probabilities
from pairjax.evaluation.multi_label import labels_at, sigmoid
from pairjax.evaluation.scores import classes_at_threshold


@dataclass(frozen=True)
class Prediction:
    """The prediction for one pair.

    Attributes:
        label: The most probable class; None for regression.
        probabilities: Probability of each class by name, calibrated by the temperature fitted on dev; empty for
            regression.
        label_at_threshold: The class at the threshold (or at the thresholds of the classes) fitted on dev; None if none
            was fitted.
        score: The predicted score in the units of the training scores; None for classification.
        abstain: Whether the model abstains, since its confidence is too low; None if no abstention was fitted.
        labels: The labels that a pair carries, each by its threshold fitted on dev, in a multi-label task; else None.
        label_set: Classes that hold the true one with the probability that was asked for; None if no sets were fitted.
    """

    label: str | None
    probabilities: dict[str, float]
    label_at_threshold: str | None = None
    score: float | None = None
    abstain: bool | None = None
    label_set: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields that apply to the task, as a line of predictions.jsonl holds them."""
        if self.score is not None:
            return {"score": round(self.score, 6)}
        row: dict[str, Any] = {
            **({"label": self.label} if self.labels is None else {"labels": list(self.labels)}),
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
        }
        optional: dict[str, Any] = {"label_at_threshold": self.label_at_threshold, "abstain": self.abstain}
        optional["label_set"] = None if self.label_set is None else list(self.label_set)
        return row | {name: value for name, value in optional.items() if value is not None}


def predictions_from(
    outputs: Float[np.ndarray, "pairs outputs"], task: TaskSpec, *, calibration: Calibration
) -> list[Prediction]:
    """Converts a model's outputs to predictions.

    Args:
        outputs: float [N, outputs]; logits, or scores in the units of the data.
        task: The task.
        calibration: Temperature, thresholds, abstention and prediction sets, as fitted on dev.
    """
    if task.kind == "regression":
        return [Prediction(None, {}, score=float(value)) for value in outputs[:, 0]]
    if task.kind == "multi-label":
        return _multi_label(outputs, task, calibration.thresholds)
    rows = probabilities(outputs, temperature=calibration.temperature)
    chosen, at_threshold = outputs.argmax(axis=-1), None
    if task.positive_index is not None and calibration.threshold is not None:
        at_threshold = classes_at_threshold(rows, positive=task.positive_index, threshold=calibration.threshold)
    elif calibration.thresholds:
        at_threshold = classes_at_thresholds(rows, calibration.thresholds)
    members = None if calibration.set_least is None else label_sets(rows, calibration.set_least)
    predictions = []
    for index, (row, best) in enumerate(zip(rows, chosen, strict=True)):
        names = None
        if members is not None:
            names = tuple(name for name, member in zip(task.labels, members[index], strict=True) if member)
        below = calibration.abstain_below
        predictions.append(
            Prediction(
                task.labels[int(best)],
                dict(zip(task.labels, map(float, row), strict=True)),
                None if at_threshold is None else task.labels[int(at_threshold[index])],
                abstain=None if below is None else bool(row.max() < below - 1e-6),
                label_set=names,
            )
        )
    return predictions


def _multi_label(
    outputs: Float[np.ndarray, "pairs labels"], task: TaskSpec, thresholds: tuple[float, ...]
) -> list[Prediction]:
    """Converts the logits of labels to predictions."""
    probability = sigmoid(outputs)
    members = labels_at(probability, thresholds)
    return [
        Prediction(
            None,
            dict(zip(task.labels, map(float, row), strict=True)),
            labels=tuple(name for name, member in zip(task.labels, own, strict=True) if member),
        )
        for row, own in zip(probability, members, strict=True)
    ]
