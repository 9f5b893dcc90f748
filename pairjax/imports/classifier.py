"""Reads a folder of transformers' classes for sequence classification: encoder, head and class names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.errors import UserError
from pairjax.base.families import find_family
from pairjax.base.model_config import HeadConfig, ModelConfig
from pairjax.base.types import EncoderSpec, Params
from pairjax.imports.labels import Outputs, read_outputs
from pairjax.imports.model import ImportedModel
from pairjax.imports.settings import activation_of, read_max_length, read_pairjax_settings, refuse_code
from pairjax.storage.files import read_json
from pairjax.weights import read_encoder_spec
from pairjax.weights.classifier_folder import load_classifier
from pairjax.weights.names import head_tensors
from pairjax.weights.safetensors_folder import open_weights

FIX = "train a classifier on it with --model.encoder, or name the folder of a classifier"


def read_classifier(
    folder: Path, *, name: str, labels: Sequence[str] = (), activation: str | None = None
) -> ImportedModel:
    """Reads a classifier.

    Args:
        folder: The folder with config.json, the weights and the tokeniser.
        name: What the user called the model.
        labels: Names of the classes from the user.
        activation: Activation of the outputs that sentence-transformers' settings name; by default that of config.json.

    Raises:
        UserError: The folder holds no such classifier, it needs code of its own, or its task is not supported.
    """
    path = folder / "config.json"
    config = read_json(path, kind="a model's configuration", fix="fetch the model again")
    refuse_code(config, path=path)
    spec = read_encoder_spec(folder)
    record = find_family(spec.family).head
    count = count_outputs(folder, spec)
    own = read_pairjax_settings(folder)
    outputs = read_outputs(
        config,
        count,
        path=path,
        activation=activation or _own_activation(config, path=path),
        labels=labels,
        positive=own.positive,
    )
    loaded, params = load_classifier(folder, spec, count)
    notes = (*outputs.notes, *loaded.notes)
    if loaded.pooler is not None and not record.is_pooler:
        notes += (f"{folder}: ignored the pooler, which {record.model} does not read",)
    return ImportedModel(
        folder=folder,
        task=outputs.task,
        model=ModelConfig(encoder=name, pooling=_pooling(config, spec, path=path), head=HeadConfig(kind="family")),
        max_length=read_max_length(folder, spec),
        spec=spec,
        params={
            "encoder": loaded.params,
            **restore_last_layer(params, outputs, own.divisor),
        },
        truncation=own.truncation,
        temperature=own.temperature,
        threshold=own.threshold,
        notes=notes,
    )


def _own_activation(config: dict[str, Any], *, path: Path) -> str | None:
    """Returns the activation of the outputs that config.json names for sentence-transformers; None if it names none."""
    section = config.get("sentence_transformers")
    name = section.get("activation_fn") if isinstance(section, dict) else None
    name = name or config.get("sbert_ce_default_activation_function")
    return None if name is None else activation_of(name, place=str(path))


def count_outputs(folder: Path, spec: EncoderSpec) -> int:
    """Returns the number of outputs of the head in a folder's weights.

    Raises:
        UserError: The weights have no head of the family's class.
    """
    head = find_family(spec.family).head
    name = head_tensors(spec, 1)["head/logits/kernel"].name
    with open_weights(folder, family=spec.family) as weights:
        if name not in weights.tensors:
            raise UserError(
                f"{folder}: the weights have no classifier",
                got=f"no {name}",
                expected=f"those of {head.model}",
                fix=FIX,
            )
        file, key = weights.tensors[name]
        shape = file.get_slice(key).get_shape()
    if len(shape) != 2 or not shape[0]:
        raise UserError(f"{folder}: the head has another shape", got=f"{key} {tuple(shape)}", expected="two axes")
    return int(shape[0])


def _pooling(config: dict[str, Any], spec: EncoderSpec, *, path: Path) -> Any:
    """Returns the pooling of the family's class, as config.json names it."""
    head = find_family(spec.family).head
    pooling = config.get(head.pooling_key, head.pooling[0]) if head.pooling_key else head.pooling[0]
    if pooling not in head.pooling:
        raise UserError(
            f"{path}: {head.pooling_key} is not supported", got=f"{pooling!r:.60}", expected=" or ".join(head.pooling)
        )
    return pooling


def restore_last_layer(params: Params, outputs: Outputs, temperature: float) -> Params:
    """Returns the parameters above the encoder in pairjax's terms.

    A single logit l becomes the logits (0, l) of two classes: the first class has a column of zeros. A temperature that
    was folded into the last layer is taken out again.

    Args:
        params: The parameters above the encoder.
        outputs: The meaning of the outputs.
        temperature: What the last layer was divided by; 1 if nothing was folded.
    """
    if not outputs.single and temperature == 1.0:
        return params
    logits = {name: leaf * np.float32(temperature) for name, leaf in params["head"]["logits"].items()}
    if outputs.single:
        logits = {name: np.concatenate([np.zeros_like(leaf), leaf], axis=-1) for name, leaf in logits.items()}
    return {**params, "head": {**params["head"], "logits": logits}}
