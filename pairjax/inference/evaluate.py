"""Score a model on labelled splits, and write its predictions as text."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pairjax.base.config import EvalConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData, Pairs, TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.evaluation.scores import class_report, score, scores_to_json
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.predictions import predictions_from
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
    """Computes `metrics` and `classes` of result.json for the splits that have labels.

    Args:
        task: The task.
        splits: Pairs by split.
        outputs: Outputs of the model by split, float [N, outputs].
        outputs_of: Computes the model's outputs for other pairs; used for swapped pairs.
        config: Number of resamples, and whether swapped pairs and calibrated metrics are scored.
        calibration: Temperature and threshold, fitted on dev.

    Returns:
        `metrics` and `classes`, each by split.
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
            calibration=calibration if config.fit else None,
            swapped_logits=swapped,
            group=pairs.group,
        )
        metrics[split] = scores_to_json(intervals)
        if task.kind != "regression":
            classes[split] = class_report(task, outputs[split], pairs.label)
    return metrics, classes


def slice_splits(
    task: TaskSpec, splits: Mapping[str, Pairs], outputs: Mapping[str, np.ndarray], *, config: EvalConfig
) -> dict[str, Any]:
    """Computes `slices` of result.json for the splits that have labels.

    Args:
        task: The task.
        splits: Pairs by split.
        outputs: Outputs of the model by split, float [N, outputs].
        config: Number of resamples.
    """
    from pairjax.evaluation.slices import slice_scores

    return {
        split: slice_scores(task, pairs, outputs[split], pairs.label, bootstrap=config.bootstrap)
        for split, pairs in splits.items()
        if pairs.label is not None
    }


def evaluate_splits(model: PairClassifier, data: PairData, *, config: EvalConfig) -> dict[str, Any]:
    """Scores a saved model on every labelled split.

    Baselines are fitted on the train split of the data and scored on the others.

    Args:
        model: The model.
        data: The task's pairs.
        config: Number of resamples, batch size, and whether baselines and slices are computed.

    Returns:
        `metrics` and `classes`, and `baselines` and `slices` if the config asks for them; each by split, as in
        result.json. `notes` says how many pairs of a split were cut.

    Raises:
        UserError: Baselines lack a labelled train split, or another labelled split to score; raised before the model
            runs.
    """
    if config.baselines:
        others = [split for split, pairs in data.splits.items() if split != "train" and pairs.label is not None]
        if "train" not in data.splits or not others:
            raise UserError(
                "--evaluation.baselines needs a labelled train split and another labelled split to score",
                got=", ".join(data.splits),
                fix="give a folder with train and dev or test with --data.path",
            )

    def outputs_of(pairs: Pairs) -> np.ndarray:
        encoded = model.encode(pairs.first, pairs.second, where=pairs.where)
        return model.encoded_outputs(encoded, batch_size=config.batch_size)

    labelled = {split: pairs for split, pairs in data.splits.items() if pairs.label is not None}
    encoded = {split: model.encode(pairs.first, pairs.second, where=pairs.where) for split, pairs in labelled.items()}
    notes = [f"{split}: {note}" for split in encoded for note in encoded[split].notes()]
    outputs = {split: model.encoded_outputs(rows, batch_size=config.batch_size) for split, rows in encoded.items()}
    metrics, classes = score_splits(
        model.task,
        labelled,
        outputs,
        outputs_of=outputs_of,
        config=config,
        calibration=model.artifact.calibration,
    )
    result: dict[str, Any] = {"metrics": metrics, "classes": classes, "notes": notes}
    if config.baselines:
        from pairjax.evaluation.baselines import lexical_baselines

        result["baselines"] = {split: lexical_baselines(data, split=split) for split in others}
    if config.slices:
        result["slices"] = slice_splits(model.task, labelled, outputs, config=config)
    return result


def prediction_lines(task: TaskSpec, pairs: Pairs, outputs: np.ndarray, *, calibration: Calibration) -> str:
    """Returns the text of predictions.SPLIT.jsonl.

    A line holds a pair, its prediction, for classes the logits before the temperature, and its true label if known.

    Args:
        task: The task.
        pairs: The pairs, N of them.
        outputs: float [N, outputs]; logits, or scores in the units of the data.
        calibration: Temperature and threshold, fitted on dev.
    """
    lines = []
    for i, prediction in enumerate(predictions_from(outputs, task, calibration=calibration)):
        row: dict[str, Any] = {"sentence1": pairs.first[i], "sentence2": pairs.second[i], **prediction.to_json()}
        if task.kind != "regression":
            row["logits"] = [round(float(value), 5) for value in outputs[i]]
        if pairs.label is not None:
            value = pairs.label[i]
            if task.kind == "multi-label":
                row["true"] = [name for name, carried in zip(task.labels, value, strict=True) if carried]
            else:
                row["true"] = task.labels[int(value)] if task.kind == "classification" else round(float(value), 6)
        lines.append(to_json(row))
    return "".join(line + "\n" for line in lines)
