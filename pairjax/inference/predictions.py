"""The prediction for a pair, and its computation from a model's outputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pairjax.base.types import TaskSpec
from pairjax.evaluation.metrics import probabilities


@dataclass(frozen=True)
class Prediction:
    """The prediction for one pair.

    Attributes:
        label: The most probable class; None for regression.
        probabilities: Probability of each class by name, calibrated by the temperature fitted on dev; empty for
            regression.
        label_at_threshold: With two classes, the class at the threshold fitted on dev; None otherwise.
        score: The predicted score in the units of the training scores; None for classification.
    """

    label: str | None
    probabilities: dict[str, float]
    label_at_threshold: str | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields that apply to the task, as a line of predictions.jsonl holds them."""
        if self.score is not None:
            return {"score": round(self.score, 6)}
        row: dict[str, Any] = {
            "label": self.label,
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
        }
        return row if self.label_at_threshold is None else row | {"label_at_threshold": self.label_at_threshold}


def predictions_from(
    outputs: Float[np.ndarray, "pairs outputs"], task: TaskSpec, *, temperature: float, threshold: float | None
) -> list[Prediction]:
    """Converts a model's outputs to predictions.

    Args:
        outputs: float [N, outputs]; logits, or scores in the units of the data.
        task: The task.
        temperature: Divides the logits.
        threshold: Smallest calibrated probability that is predicted as the positive class; None if there is none.
    """
    if task.kind == "regression":
        return [Prediction(None, {}, score=float(value)) for value in outputs[:, 0]]
    rows = probabilities(outputs, temperature=temperature)
    chosen = outputs.argmax(axis=-1)
    positive = task.positive_index
    predictions = []
    for row, best in zip(rows, chosen, strict=True):
        at_threshold = None
        if positive is not None and threshold is not None:
            at_threshold = task.labels[positive if row[positive] >= threshold else 1 - positive]
        named = dict(zip(task.labels, map(float, row), strict=True))
        predictions.append(Prediction(task.labels[int(best)], named, at_threshold))
    return predictions
