"""The format `sentence-transformers`: a CrossEncoder, or for a bi-encoder a SentenceTransformer with its pair head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from pairjax.base.export_config import ExportConfig
from pairjax.base.families import find_family
from pairjax.base.model_config import CombineConfig
from pairjax.base.types import Params, TaskSpec
from pairjax.export.formats import Format, Request, Written, expected_outputs
from pairjax.export.torch_files import (
    IDENTITY,
    general_notes,
    one_vector_reason,
    short_pairs,
    stages_reason,
    torch_config,
    uses_family_head,
    write_tokeniser,
)
from pairjax.export.transformers_folder import write_classifier_files
from pairjax.imports.pair_head import PairHead, write_pair_head
from pairjax.inference.fold import folded_params
from pairjax.inference.model_folder import Artifact
from pairjax.storage.files import write_json, write_text
from pairjax.weights.names import encoder_tensors
from pairjax.weights.safetensors_folder import named_tensors, write_folder

NEW = "sentence_transformers.base.modules"
TYPES = {
    "CrossEncoder": {
        "Transformer": f"{NEW}.transformer.Transformer",
        "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "Dense": f"{NEW}.dense.Dense",
    },
    # These names open in old releases too.
    "SentenceTransformer": {
        name: f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Dense", "Normalize")
    },
}
ACTIVATIONS = {
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
    "identity": IDENTITY,
}


def refuse(artifact: Artifact, config: ExportConfig) -> str | None:
    """Returns why the modules of sentence-transformers cannot express a model; None if they can."""
    reason = stages_reason(artifact, config)
    if reason is not None or artifact.model.kind == "bi":
        return reason or ("it pools both texts together" if artifact.model.over == "pair" else None)
    reason = one_vector_reason(artifact)
    record = find_family(artifact.spec.family).head
    if reason is None and artifact.model.head.kind == "family" and artifact.model.head.relu_logits:
        return "a ReLU follows its logits"
    return reason if reason is not None or record.model else "its family has no class for sequence classification"


def notes(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns what the format has no place for."""
    lines = general_notes(artifact, config)
    if artifact.model.kind == "bi" and artifact.model.head.kind != "cosine":
        lines.append("sentence-transformers reads the vectors; the classifier of pairs is in pair_head.safetensors")
    elif artifact.model.kind == "cross" and not _is_plain(artifact):
        lines.append(
            "CrossEncoder reads the head from the modules; AutoModelForSequenceClassification would draw a new one"
        )
    return lines


def _is_plain(artifact: Artifact) -> bool:
    """Returns whether a cross-encoder needs no chain of modules."""
    return uses_family_head(artifact) and not artifact.model.head.relu_logits


def write(request: Request, folder: Path) -> Written:
    """Writes the folder."""
    artifact, config = request.model.artifact, request.config
    if artifact.model.kind == "bi":
        return _write_text_model(artifact, config, folder)
    if not _is_plain(artifact):
        return _write_chain(artifact, config, folder)
    write_classifier_files(artifact, config, folder)
    _write_settings(folder, "CrossEncoder", ["Transformer"], artifact, task="sequence-classification")
    return Written({"kind": "CrossEncoder"})


def _write_settings(folder: Path, kind: str, modules: Sequence[str], artifact: Artifact, *, task: str) -> None:
    """Writes modules.json and the settings of the model and of its encoder.

    Args:
        folder: The folder.
        kind: Class of sentence-transformers.
        modules: The modules in their order.
        artifact: The model.
        task: What the encoder's class computes.
    """
    entries = [
        {"idx": index, "name": str(index), "path": f"{index}_{name}" if index else "", "type": TYPES[kind][name]}
        for index, name in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    settings: dict[str, Any] = {"model_type": kind, "prompts": {}, "default_prompt_name": None}
    settings |= {"activation_fn": IDENTITY} if kind == "CrossEncoder" else {"similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", settings)
    output = "logits" if task == "sequence-classification" else "last_hidden_state"
    encoder = {
        # Old releases and text-embeddings-inference read the length from here, new ones from the tokeniser.
        "max_seq_length": artifact.max_length,
        "do_lower_case": False,
        "transformer_task": task,
        "modality_config": {"text": {"method": "forward", "method_output_name": output}},
        "module_output_name": "scores" if task == "sequence-classification" else "token_embeddings",
    }
    write_json(folder / "sentence_bert_config.json", encoder)


def _write_encoder(artifact: Artifact, config: ExportConfig, folder: Path) -> None:
    """Writes the bare encoder and its tokeniser."""
    record = find_family(artifact.spec.family)
    settings = torch_config(artifact, record.bare_model, config, pooler=artifact.model.pooling == "pooler")
    if artifact.model.kind == "bi":
        settings = {
            key: value for key, value in settings.items() if key not in ("id2label", "label2id", "problem_type")
        }
    tensors = named_tensors(encoder_tensors(artifact.spec), artifact.params["encoder"])
    write_folder(folder, tensors, settings, lambda place: write_tokeniser(artifact, place))


def _write_pooling(artifact: Artifact, folder: Path) -> None:
    """Writes the pooling module in the old and the new spelling, since each has readers that know no other."""
    mode = "cls" if artifact.model.pooling == "pooler" else artifact.model.pooling
    settings = {"word_embedding_dimension": artifact.spec.hidden_size, "pooling_mode": mode, "include_prompt": True}
    switches = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "sqrt": "mean_sqrt_len_tokens"}
    settings |= {f"pooling_mode_{name}": key == mode for key, name in switches.items()}
    folder.mkdir()
    write_json(folder / "config.json", settings)


def _write_dense(
    folder: Path, layer: Mapping[str, Any], activation: str, *, output: str = "sentence_embedding"
) -> None:
    """Writes a dense module."""
    kernel, bias = (np.asarray(layer[name], np.float32) for name in ("kernel", "bias"))
    settings = {"in_features": kernel.shape[0], "out_features": kernel.shape[1], "bias": True}
    settings |= {"activation_function": ACTIVATIONS[activation]}
    if output != "sentence_embedding":
        # Old releases know neither key, and need neither.
        settings |= {"module_input_name": "sentence_embedding", "module_output_name": output}
    folder.mkdir()
    write_json(folder / "config.json", settings)
    tensors = {"linear.weight": np.ascontiguousarray(kernel.T), "linear.bias": bias}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _pooler_layers(artifact: Artifact, params: Params) -> list[tuple[Mapping[str, Any], str]]:
    """Returns the pooler as a layer with its activation; none without a pooler."""
    return [(params["pooler"], "tanh")] if artifact.model.pooling == "pooler" else []


def _write_chain(artifact: Artifact, config: ExportConfig, folder: Path) -> Written:
    """Writes a CrossEncoder as a chain: encoder, pooling, hidden layers, and the layer that computes the scores."""
    params = folded_params(artifact, fold_temperature=config.fold_temperature)
    head = artifact.model.head
    layers = _pooler_layers(artifact, params)
    layers += [(params["head"][f"hidden_{index}"], head.activation) for index in range(len(head.hidden))]
    _write_encoder(artifact, config, folder)
    _write_pooling(artifact, folder / "1_Pooling")
    for index, (layer, activation) in enumerate(layers, 2):
        _write_dense(folder / f"{index}_Dense", layer, activation)
    last = "relu" if head.relu_logits else "identity"
    _write_dense(folder / f"{len(layers) + 2}_Dense", params["head"]["logits"], last, output="scores")
    names = ["Transformer", "Pooling", *["Dense"] * (len(layers) + 1)]
    _write_settings(folder, "CrossEncoder", names, artifact, task="feature-extraction")
    return Written({"kind": "CrossEncoder"})


def _write_text_model(artifact: Artifact, config: ExportConfig, folder: Path) -> Written:
    """Writes a SentenceTransformer, and the pair head beside it."""
    model, params = artifact.model, artifact.params
    layers = _pooler_layers(artifact, params)
    layers += [
        (params["project"][f"dense_{index}"], model.project.activation) for index in range(len(model.project.sizes))
    ]
    _write_encoder(artifact, config, folder)
    _write_pooling(artifact, folder / "1_Pooling")
    for index, (layer, activation) in enumerate(layers, 2):
        _write_dense(folder / f"{index}_Dense", layer, activation)
    names = ["Transformer", "Pooling", *["Dense"] * len(layers)]
    if model.project.normalize:
        names.append("Normalize")
        (folder / f"{len(names) - 1}_Normalize").mkdir()
        write_text(folder / f"{len(names) - 1}_Normalize" / "config.json", "{}\n")
    _write_settings(folder, "SentenceTransformer", names, artifact, task="feature-extraction")
    if model.head.kind != "cosine":
        task = artifact.task if artifact.task.labels else TaskSpec("regression")
        head = {"head": folded_params(artifact, fold_temperature=config.fold_temperature)["head"]}
        write_pair_head(folder, PairHead(task, CombineConfig(features=model.features), model.head, head))
    return Written({"kind": "SentenceTransformer"})


def difference(request: Request, folder: Path, pairs: Sequence[tuple[str, str]]) -> float:
    """Runs the folder in sentence-transformers."""
    artifact = request.model.artifact
    first, second = (list(side) for side in zip(*pairs, strict=True))
    if artifact.model.kind == "bi":
        from sentence_transformers import SentenceTransformer

        vectors = SentenceTransformer(str(folder)).encode([*first, *second])
        return float(np.abs(vectors - request.model.embed([*first, *second])).max())
    from sentence_transformers import CrossEncoder

    pairs = short_pairs(artifact, pairs, request.model.encode(first, second).lengths)
    if not pairs:
        return 0.0
    outputs = np.asarray(CrossEncoder(str(folder)).predict(pairs)).reshape(len(pairs), -1)
    expected = expected_outputs(request, request.model.encode(*zip(*pairs, strict=True)))
    return float(np.abs(outputs - expected).max()) / artifact.task.scale


def use(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns an example; for a pair head, one that needs only NumPy and safetensors besides."""
    if artifact.model.kind == "cross":
        return [
            "```python",
            "from sentence_transformers import CrossEncoder",
            "",
            'model = CrossEncoder("path/to/this/folder")',
            'model.predict([("A man is asleep.", "Nobody is awake.")])  # logits, or a score',
            "```",
        ]
    opening = [
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        'model = SentenceTransformer("path/to/this/folder")',
        'u, v = model.encode(["A man is asleep.", "Nobody is awake."])',
    ]
    if artifact.model.head.kind == "cosine":
        return [*opening, "u @ v / ((u @ u) * (v @ v)) ** 0.5  # the score of the pair", "```"]
    features = {"u": "u", "v": "v", "u-v": "u - v", "|u-v|": "abs(u - v)", "u*v": "u * v"}
    activations = {"relu": "np.maximum(x, 0)", "tanh": "np.tanh(x)", "identity": "x"}
    activations["gelu"] = "x * 0.5 * (1 + np.vectorize(math.erf)(x / 2**0.5))"
    lines = [f"x = np.concatenate([{', '.join(features[name] for name in artifact.model.features)}])"]
    for index in range(len(artifact.model.head.hidden)):
        lines.append(f'x = head["hidden.{index}.weight"] @ x + head["hidden.{index}.bias"]')
        lines.append(f"x = {activations[artifact.model.head.activation]}")
    lines.append('outputs = head["classifier.weight"] @ x + head["classifier.bias"]')
    lines += ["outputs = np.maximum(outputs, 0)"] if artifact.model.head.relu_logits else []
    result = f"{list(artifact.task.labels)}[outputs.argmax()]" if artifact.task.labels else "outputs[0]"
    imports = ["import math"] if artifact.model.head.activation == "gelu" and artifact.model.head.hidden else []
    imports += ["import numpy as np", "from safetensors.numpy import load_file"]
    head = 'head = load_file("path/to/this/folder/pair_head.safetensors")'
    return [opening[0], *imports, *opening[1:], head, *lines, f"{result}  # the answer for the pair", "```"]


def pipeline_tag(artifact: Artifact) -> str:
    """Returns the hub's name of the task."""
    if artifact.model.kind == "bi":
        return "sentence-similarity"
    return "text-ranking" if artifact.task.outputs == 1 else "text-classification"


FORMAT = Format(
    name="sentence-transformers",
    library="sentence-transformers",
    needs=(),
    extra=None,
    runtime=("torch", "sentence_transformers"),
    refuse=refuse,
    notes=notes,
    pipeline_tag=pipeline_tag,
    use=use,
    write=write,
    difference=difference,
)
