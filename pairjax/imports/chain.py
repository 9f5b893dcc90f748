"""Reads models of sentence-transformers that are a chain of modules: cross-encoders and models of single texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.base.model_config import HeadConfig, ModelConfig, ProjectConfig
from pairjax.base.types import EncoderSpec, Params, TaskSpec
from pairjax.imports.classifier import restore_last_layer
from pairjax.imports.labels import read_outputs
from pairjax.imports.model import ImportedModel
from pairjax.imports.modules import DenseModule, Modules
from pairjax.imports.pair_head import PAIR_HEAD, read_pair_head
from pairjax.imports.settings import PairjaxSettings, read_max_length, read_pairjax_settings, read_settings, refuse_code
from pairjax.storage.files import read_json
from pairjax.weights import LoadedEncoder, load_encoder, read_encoder_spec


def _read_encoder(modules: Modules) -> tuple[EncoderSpec, LoadedEncoder, dict[str, Any], PairjaxSettings]:
    """Returns the encoder of a chain, its settings, and what an export of pairjax left."""
    folder = modules.transformer
    config = read_json(folder / "config.json", kind="an encoder's configuration", fix="fetch the model again")
    refuse_code(config, path=folder / "config.json")
    spec = read_encoder_spec(folder)
    size = spec.hidden_size
    for module in modules.dense:
        if module.sizes[0] != size:
            raise UserError(f"{module.folder}: does not fit the module before it", got=module.sizes[0], expected=size)
        size = module.sizes[1]
    return spec, load_encoder(folder, spec), config, read_pairjax_settings(folder)


def _shared_activation(modules: Sequence[DenseModule], *, default: str) -> Any:
    """Returns the activation that all dense layers have.

    Raises:
        UserError: They have different ones, or one that only outputs may have.
    """
    names = {module.activation for module in modules} or {default}
    if len(names) > 1 or names & {"sigmoid", "softmax"}:
        place = modules[0].folder.parent
        raise UserError(f"{place}: the dense layers differ in activation", got=", ".join(sorted(names)), expected="one")
    return names.pop()


def _starts_with_pooler(modules: Sequence[DenseModule], *, named: bool) -> bool:
    """Returns whether the first dense layer is BERT's pooler.

    A hidden layer with tanh computes the same. An export of pairjax names its pooler; otherwise the first of several
    layers with tanh is taken for a hidden layer, since all hidden layers have one activation.
    """
    if not modules or modules[0].activation != "tanh" or len(set(modules[0].sizes)) != 1:
        return False
    return named or len(modules) == 1 or modules[1].activation != "tanh"


def read_chained_classifier(
    folder: Path, modules: Modules, *, name: str, activation: str | None, labels: Sequence[str] = ()
) -> ImportedModel:
    """Reads a cross-encoder that is a chain: encoder, pooling, dense layers, and a dense layer that computes scores.

    Args:
        folder: The model's folder.
        modules: Its modules.
        name: What the user called the model.
        activation: Activation of the outputs that the model's settings name; None if they name none.
        labels: Names of the classes from the user.

    Raises:
        UserError: The chain is not that of a classifier, or a part is not supported.
    """
    if modules.pooling is None or not modules.dense or modules.dense[-1].output != "scores" or modules.normalize:
        raise UserError(
            f"{folder}: the modules are not those of a classifier of pairs",
            expected="Transformer, Pooling, Dense layers, and last a Dense layer whose output is scores",
        )
    *inner, last = modules.dense
    if any(module.output == "scores" for module in inner) or last.activation not in ("identity", "relu"):
        got = f"activation {last.activation}" if not inner or inner[-1].output != "scores" else "scores twice"
        raise UserError(f"{last.folder}: the last layer is not supported", got=got, expected="scores, Identity or ReLU")
    spec, loaded, config, own = _read_encoder(modules)
    path = modules.transformer / "config.json"
    outputs = read_outputs(
        config, last.sizes[1], path=path, activation=activation, labels=labels, positive=own.positive
    )
    pooler: list[DenseModule] = []
    if modules.pooling == "cls" and _starts_with_pooler(inner, named=own.pooler):
        pooler = [inner.pop(0)]
    params: Params = {"pooler": pooler[0].params} if pooler else {}
    params["head"] = {f"hidden_{index}": module.params for index, module in enumerate(inner)} | {"logits": last.params}
    relu = last.activation == "relu"
    if relu and (outputs.single or own.folded):
        raise UserError(f"{last.folder}: a ReLU after a single logit is not supported", expected="Identity")
    head = HeadConfig(
        hidden=tuple(module.sizes[1] for module in inner),
        activation=_shared_activation(inner, default="relu"),
        relu_logits=relu,
    )
    pooling: Any = "pooler" if pooler else modules.pooling
    notes = (*outputs.notes, *loaded.notes)
    return ImportedModel(
        folder=modules.transformer,
        task=outputs.task,
        model=ModelConfig(encoder=name, pooling=pooling, head=head),
        max_length=read_max_length(modules.transformer, spec),
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


def read_text_model(folder: Path, modules: Modules, *, name: str, labels: Sequence[str] = ()) -> ImportedModel:
    """Reads a SentenceTransformer: a bi-encoder whose output for a pair is the cosine of both vectors.

    If a pair head of pairjax is beside it, the model is the whole classifier.

    Args:
        folder: The model's folder.
        modules: Its modules.
        name: What the user called the model.
        labels: Names of the classes from the user, which only a classifier has.

    Raises:
        UserError: A part is not supported.
    """
    if modules.pooling is None or any(module.output == "scores" for module in modules.dense):
        raise UserError(
            f"{folder}: the modules give no vector of a text", expected="Transformer, Pooling, Dense, Normalize"
        )
    spec, loaded, _, own = _read_encoder(modules)
    dense = list(modules.dense)
    pooler = [dense.pop(0)] if own.pooler and dense else []
    project = ProjectConfig(
        sizes=tuple(module.sizes[1] for module in dense),
        activation=_shared_activation(dense, default="tanh"),
        normalize=modules.normalize,
    )
    params: Params = {"encoder": loaded.params}
    params |= {"pooler": pooler[0].params} if pooler else {}
    params |= {"project": {f"dense_{index}": module.params for index, module in enumerate(dense)}} if dense else {}
    pooling: Any = "pooler" if pooler else modules.pooling
    stages: dict[str, Any] = {"encoder": name, "kind": "bi", "pooling": pooling, "project": project}
    task, head, notes = TaskSpec("regression"), None, loaded.notes
    if (folder / PAIR_HEAD).is_file():
        size = dense[-1].sizes[1] if dense else spec.hidden_size
        head = read_pair_head(folder, size=size)
        task, stages, params = head.task, stages | {"combine": head.combine, "head": head.head}, params | head.params
    else:
        stages["head"] = HeadConfig(kind="cosine")
        notes += ("the output for a pair is the cosine of both vectors",)
        similarity = read_settings(folder / "config_sentence_transformers.json").get("similarity_fn_name")
        if similarity not in (None, "cosine") and not (similarity == "dot" and modules.normalize):
            notes += (f"the model names {similarity} as its similarity; its vectors are the same, its score is not",)
    if labels:
        raise UserError(f"{folder}: --labels names the outputs of a classifier of pairs", got=" ".join(labels))
    calibration: dict[str, Any] = {"temperature": own.temperature, "threshold": own.threshold} if head else {}
    return ImportedModel(
        folder=modules.transformer,
        task=task,
        model=ModelConfig(**stages),
        max_length=read_max_length(modules.transformer, spec),
        spec=spec,
        params=params,
        truncation=own.truncation,
        notes=notes,
        **calibration,
    )
