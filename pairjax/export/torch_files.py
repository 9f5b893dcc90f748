"""What both formats of torch's libraries share: config.json, tokeniser, notes, and what of a model they can express."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.export_config import ExportConfig
from pairjax.base.families import find_family
from pairjax.base.model_config import ProjectConfig
from pairjax.data.tokenizer import load_tokenizer
from pairjax.export.formats import PREFIXES
from pairjax.imports.model import PAIRJAX
from pairjax.inference.fold import can_fold
from pairjax.inference.model_folder import Artifact
from pairjax.storage.files import read_json, write_json
from pairjax.weights.safetensors_folder import bare_config

IDENTITY = "torch.nn.modules.linear.Identity"


def uses_family_head(artifact: Artifact) -> bool:
    """Returns whether the stages above the encoder are the head of the family's own class in transformers."""
    model, record = artifact.model, find_family(artifact.spec.family).head
    if model.head.kind == "family":
        return True
    if model.pooling not in record.pooling or model.head.kind != "layers":
        return False
    if record.is_pooler:
        return model.head.hidden == ()
    same = model.head.hidden == (artifact.spec.hidden_size,) and model.head.activation == record.activation
    return same and record.bias and record.norm is None


def stages_reason(artifact: Artifact, config: ExportConfig) -> str | None:
    """Returns why no format of torch's libraries can express a model; None if one can."""
    model = artifact.model
    if config.int8:
        return "--int8 is for onnx"
    if artifact.task.kind not in ("classification", "regression") or artifact.task.head != "softmax":
        head = "" if artifact.task.head == "softmax" else f" with a {artifact.task.head}"
        return f"its task is {artifact.task.kind}{head}, and this format is written for a softmax or a score"
    if any(artifact.prefixes or ()):
        return PREFIXES
    if model.interact.kind != "none":
        return f"it has {model.interact.kind} attention between encoder and pooling"
    if model.combine.kind != "plain":
        return f"it combines vectors by {model.combine.kind}"
    if not can_fold(artifact):
        return "the unit of its score cannot be folded into a last layer"
    return "the combiner is the user's own Python code" if artifact.own_combiner else None


def one_vector_reason(artifact: Artifact) -> str | None:
    """Returns why a model is no cross-encoder of one vector; None if it is."""
    if artifact.model.kind == "bi":
        return "it encodes the two texts separately"
    if artifact.model.over == "sides":
        return "it pools each text of the pair on its own"
    return "it projects its vectors" if artifact.model.project != ProjectConfig() else None


def general_notes(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns what these formats have no place for: temperature, threshold and some kinds of truncation."""
    notes, calibration = [], artifact.calibration
    if config.fold_temperature:
        notes.append(f"the last layer is divided by the temperature {calibration.temperature:.4g}")
    elif calibration.temperature != 1.0:
        notes.append(
            f"divide the logits by the temperature {calibration.temperature:.4g} for calibrated probabilities, or "
            "export with --fold-temperature"
        )
    if calibration.threshold is not None:
        notes.append(
            f"the threshold {calibration.threshold:.4g} of {artifact.task.positive} is not applied; it is kept under "
            f"the key {PAIRJAX} of config.json"
        )
    if artifact.truncation not in ("longest_first", "only_first", "only_second"):
        notes.append(f"longer pairs are cut longest first, not {artifact.truncation.replace('_', ' ')}")
    if artifact.task.kind == "regression":
        notes.append("the score is in the unit of the training scores")
    return notes


def torch_config(
    artifact: Artifact, architecture: str, config: ExportConfig, *, pooler: bool = False
) -> dict[str, Any]:
    """Returns the content of config.json: the encoder's, class names, and what only pairjax reads.

    Args:
        artifact: The model.
        architecture: Class in transformers.
        config: The options.
        pooler: Whether the first dense layer of a chain is the encoder's pooler.
    """
    task, calibration = artifact.task, artifact.calibration
    labels = task.labels or ("score",)
    values = bare_config(read_json(artifact.encoder_folder / "config.json"), architecture)
    values |= {"id2label": {str(index): label for index, label in enumerate(labels)}}
    values |= {"label2id": {label: index for index, label in enumerate(labels)}}
    values["problem_type"] = "regression" if task.kind == "regression" else "single_label_classification"
    # Without it sentence-transformers squashes a score by a sigmoid.
    values["sentence_transformers"] = {"activation_fn": IDENTITY}
    values[PAIRJAX] = {
        "pooler": pooler,
        "truncation": artifact.truncation,
        "temperature": calibration.temperature,
        "folded": config.fold_temperature,
        "threshold": calibration.threshold,
        "positive": task.positive,
    }
    key = find_family(artifact.spec.family).head.pooling_key
    return values | ({key: artifact.model.pooling} if key else {})


def write_tokeniser(artifact: Artifact, folder: Path) -> None:
    """Writes the tokeniser's files with the model's longest row, which the libraries read from them."""
    load_tokenizer(artifact.encoder_folder, family=artifact.spec.family).save(folder)
    path = folder / "tokenizer_config.json"
    write_json(path, read_json(path) | {"model_max_length": artifact.max_length})


def short_pairs(artifact: Artifact, pairs: Sequence[tuple[str, str]], lengths: np.ndarray) -> list[tuple[str, str]]:
    """Returns those pairs that the library cuts as pairjax does: all, or those that need no cut.

    Args:
        artifact: The model.
        pairs: The pairs.
        lengths: Tokens of each pair's row, or of its longer text, after pairjax's own truncation.
    """
    if artifact.truncation == "longest_first" or artifact.model.kind == "bi":
        return list(pairs)
    return [pair for pair, length in zip(pairs, lengths, strict=True) if length < artifact.max_length]
