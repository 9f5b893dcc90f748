"""The pair head beside a SentenceTransformer: the classifier of (u, v), for which the format has no place.

pair_head.safetensors  hidden.0.weight, hidden.0.bias, ..., classifier.weight, classifier.bias, in torch's layout
pair_head.json         features of u and v, activation of the hidden layers, class names or the scale of the score

The input of the first layer is the concatenation of the features, as in `SoftmaxLoss` of sentence-transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors.numpy import save_file

from pairjax.base.errors import UserError
from pairjax.base.model_config import CombineConfig, Feature, HeadConfig
from pairjax.base.types import Params, TaskSpec
from pairjax.imports.modules import read_tensors
from pairjax.storage.files import read_json, write_json

PAIR_HEAD, SETTINGS = "pair_head.safetensors", "pair_head.json"


@dataclass(frozen=True)
class PairHead:
    """A classifier of two vectors.

    Attributes:
        task: The task; a score has its own unit, so its center is 0 and its scale 1.
        combine: The features.
        head: The layers.
        params: {"head": ...}, float32.
    """

    task: TaskSpec
    combine: CombineConfig
    head: HeadConfig
    params: Params


def write_pair_head(folder: Path, head: PairHead) -> None:
    """Writes both files into a folder."""
    tensors = {}
    for name, layer in head.params["head"].items():
        module = "classifier" if name == "logits" else name.replace("_", ".")
        tensors[f"{module}.weight"] = np.ascontiguousarray(np.asarray(layer["kernel"], np.float32).T)
        tensors[f"{module}.bias"] = np.asarray(layer["bias"], np.float32)
    save_file(tensors, folder / PAIR_HEAD, metadata={"format": "pt"})
    settings = {
        "features": list(head.combine.features),
        "hidden": list(head.head.hidden),
        "activation": head.head.activation,
        "relu_logits": head.head.relu_logits,
        "labels": list(head.task.labels),
        "positive": head.task.positive,
    }
    write_json(folder / SETTINGS, settings)


def read_pair_head(folder: Path, *, size: int) -> PairHead:
    """Reads both files.

    Args:
        folder: The folder of the SentenceTransformer.
        size: Size of its vectors.

    Raises:
        UserError: A file is missing or damaged, or the tensors do not fit the settings.
    """
    path = folder / SETTINGS
    keys = ("features", "hidden", "activation", "relu_logits", "labels", "positive")
    settings = read_json(path, kind="the settings of a pair head", required=keys, fix="export the model again")
    features: Any = settings["features"]
    labels: Any = settings["labels"]
    if (
        not isinstance(features, list)
        or not features
        or any(feature not in get_args(Feature) for feature in features)
        or not isinstance(labels, list)
        or any(not isinstance(label, str) for label in labels)
        or len(set(labels)) != len(labels)
        or len(labels) == 1
        or (settings["positive"] is not None and settings["positive"] not in labels)
    ):
        raise UserError(f"{path}: damaged", got=f"{settings!r:.200}", fix="export the model again")
    try:
        head = HeadConfig(
            hidden=settings["hidden"], activation=settings["activation"], relu_logits=settings["relu_logits"]
        )
        combine = CombineConfig(features=tuple(features))
    except UserError as error:
        raise UserError(f"{path}: damaged", got=error, fix="export the model again") from None
    task = (
        TaskSpec("classification", tuple(labels), positive=settings["positive"]) if labels else TaskSpec("regression")
    )
    widths = (size * len(features), *head.hidden, task.outputs)
    tensors, layers = read_tensors(folder / PAIR_HEAD), {}
    expected: dict[str, tuple[int, ...]] = {}
    for index in range(len(widths) - 1):
        name = f"hidden_{index}" if index < len(head.hidden) else "logits"
        module = name.replace("_", ".") if index < len(head.hidden) else "classifier"
        expected |= {f"{module}.weight": widths[index : index + 2][::-1], f"{module}.bias": (widths[index + 1],)}
        layers[name] = module
    shapes = {name: value.shape for name, value in tensors.items()}
    if shapes != expected:
        raise UserError(
            f"{folder / PAIR_HEAD}: the tensors do not fit {SETTINGS}", got=_show(shapes), expected=_show(expected)
        )
    params: dict[str, Any] = {
        name: {"kernel": np.ascontiguousarray(tensors[f"{module}.weight"].T), "bias": tensors[f"{module}.bias"]}
        for name, module in layers.items()
    }
    return PairHead(task, combine, head, {"head": params})


def _show(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Returns names and shapes for a message."""
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))[:200] or "no tensors"
