"""Scores of a model on splits of labelled pairs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pairjax.base.config import EvalConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.evaluation.scores import class_report, score, scores_to_json
from pairjax.inference.classifier import PairClassifier, predictions_from
from pairjax.storage.files import to_json


def score_splits(
    task: TaskSpec,
    splits: Mapping[str, Pairs],
    outputs: Mapping[str, np.ndarray],
    *,
    outputs_of: Callable[[Pairs], np.ndarray],
    config: EvalConfig,
    calibration: Calibration,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`metrics` and `classes` of result.json, for the splits that have labels.

    Args:
        task: What is predicted.
        splits: The pairs.
        outputs: What the model gives for them.
        outputs_of: Gives it for others: the swapped pairs.
        config: Bootstrap, swap and fit.
        calibration: Fitted on dev.
    """
    metrics, classes = {}, {}
    for split, pairs in splits.items():
        if pairs.label is None:
            continue
        swapped = None
        if config.swap:
            swapped = outputs_of(dataclasses.replace(pairs, first=pairs.second, second=pairs.first))
        intervals = score(
            task,
            outputs[split],
            pairs.label,
            bootstrap=config.bootstrap,
            seed=0,
            temperature=calibration.temperature if config.fit else 1.0,
            threshold=calibration.threshold if config.fit else None,
            swapped_logits=swapped,
        )
        metrics[split] = scores_to_json(intervals)
        if task.kind == "classification":
            classes[split] = class_report(task, outputs[split], pairs.label)
    return metrics, classes


def slice_splits(
    task: TaskSpec, splits: Mapping[str, Pairs], outputs: Mapping[str, np.ndarray], *, config: EvalConfig
) -> dict[str, Any]:
    """`slices` of result.json, for the splits that have labels."""
    from pairjax.evaluation.slices import slice_scores

    return {
        split: slice_scores(task, pairs, outputs[split], pairs.label, bootstrap=config.bootstrap)
        for split, pairs in splits.items()
        if pairs.label is not None
    }


def evaluate_splits(model: PairClassifier, data: PairData, *, config: EvalConfig) -> dict[str, Any]:
    """`metrics` and `classes` of a saved model on every labelled split; by option also `baselines` and `slices`.

    Baselines are fitted on the data's train split, and scored on the others.

    Raises:
        UserError: Baselines without a labelled train split, or without another to score; said before the model runs.
    """
    if config.baselines:
        others = [split for split, pairs in data.splits.items() if split != "train" and pairs.label is not None]
        if "train" not in data.splits or not others:
            raise UserError(
                "--evaluation.baselines are fitted on train and scored on another labelled split",
                got=", ".join(data.splits),
                fix="name a folder with train and dev or test by --data.path",
            )

    def outputs_of(pairs: Pairs) -> np.ndarray:
        return model.outputs(pairs.first, pairs.second, batch_size=config.batch_size)

    labelled = {split: pairs for split, pairs in data.splits.items() if pairs.label is not None}
    outputs = {split: outputs_of(pairs) for split, pairs in labelled.items()}
    metrics, classes = score_splits(
        model.task,
        labelled,
        outputs,
        outputs_of=outputs_of,
        config=config,
        calibration=model.artifact.calibration,
    )
    found: dict[str, Any] = {"metrics": metrics, "classes": classes}
    if config.baselines:
        from pairjax.evaluation.baselines import lexical_baselines

        found["baselines"] = {split: lexical_baselines(data, split=split) for split in others}
    if config.slices:
        found["slices"] = slice_splits(model.task, labelled, outputs, config=config)
    return found


def prediction_lines(task: TaskSpec, pairs: Pairs, outputs: np.ndarray, *, calibration: Calibration) -> str:
    """The text of predictions.SPLIT.jsonl: each pair with its answer, for classes the logits before the temperature,
    and, where known, its true label."""
    answers = predictions_from(outputs, task, temperature=calibration.temperature, threshold=calibration.threshold)
    lines = []
    for i, answer in enumerate(answers):
        row: dict[str, Any] = {"sentence1": pairs.first[i], "sentence2": pairs.second[i], **answer.to_json()}
        if task.kind == "classification":
            row["logits"] = [round(float(value), 5) for value in outputs[i]]
        if pairs.label is not None:
            value = pairs.label[i]
            row["true"] = task.labels[int(value)] if task.kind == "classification" else round(float(value), 6)
        lines.append(to_json(row))
    return "".join(line + "\n" for line in lines)
