"""The format `onnx`: a folder for onnxruntime, transformers.js, text-embeddings-inference and Vespa.

onnx/model.onnx       cross-encoder: tokens to logits; bi-encoder that reads each text alone: tokens to its vector
onnx/pair_head.onnx   of such a bi-encoder: two vectors to logits
onnx/pair_model.onnx  bi-encoder: the tokens of both texts to logits
onnx/*_quantized.onnx the same with int8 weights, with --int8
config.json, tokenizer.json, tokenizer_config.json, README.md, pairjax_export.json
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairjax.base.export_config import ExportConfig
from pairjax.base.families import find_family
from pairjax.base.types import Pairs
from pairjax.export.check import check_pairs
from pairjax.export.formats import Format, Request, Written, calibration_notes, expected_outputs
from pairjax.export.int8 import compare_int8
from pairjax.graphs.files import PAIR_MODEL, files_to_run, write_graphs
from pairjax.graphs.pair import FIRST, SECOND
from pairjax.inference.model_folder import Artifact
from pairjax.inference.onnx_classifier import GRAPHS, OnnxClassifier, onnx_reason, pair_graphs
from pairjax.models.build import resolve
from pairjax.storage.files import read_json
from pairjax.weights.safetensors_folder import bare_config

TEI_POOLINGS = ("cls", "mean")


def _refuse(artifact: Artifact, config: ExportConfig) -> str | None:
    """Returns why a model cannot be written; None if it can."""
    return onnx_reason(artifact)


def _separate(artifact: Artifact) -> bool:
    """Returns whether each text is read alone and has a vector."""
    model = artifact.model
    return model.kind == "bi" and model.interact.kind == "none" and model.over == "sides"


def _notes(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns what the graphs leave out."""
    lines = calibration_notes(artifact, config)
    if any(artifact.prefixes or ()):
        first, second = artifact.prefixes or ("", "")
        lines.append(f"pairjax puts {first!r} before first texts and {second!r} before second texts; do the same")
    if artifact.truncation != "longest_first":
        lines.append(f"pairs are cut by {artifact.truncation} in pairjax, and by longest_first in most other tools")
    model = artifact.model
    sides = model.kind == "cross" and (model.over == "sides" or model.interact.kind in ("self", "cross"))
    if sides and artifact.spec.type_vocab_size < 2:
        lines.append("the second text starts after the first separator, so the first may not contain a separator")
    return lines


def _pipeline_tag(artifact: Artifact) -> str:
    """Returns the hub's name of the task."""
    return "sentence-similarity" if _separate(artifact) else "text-classification"


def _use(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns an example of use with onnxruntime."""
    logits = "scores in the units of the data" if artifact.task.kind == "regression" else "logits"
    if artifact.model.kind == "cross":
        lines = [
            'tokens = tokenizer.encode("A man is asleep.", "Nobody is awake.")',
            'session = onnxruntime.InferenceSession("onnx/model.onnx")',
            'values = {"input_ids": tokens.ids, "attention_mask": tokens.attention_mask, '
            '"token_type_ids": tokens.type_ids}',
            "feed = {value.name: numpy.array([values[value.name]], numpy.int64) for value in session.get_inputs()}",
            f'session.run(["logits"], feed)  # {logits}',
        ]
    else:
        lines = [
            'session = onnxruntime.InferenceSession("onnx/pair_model.onnx")',
            "feed = {}",
            f'for text, suffix in (("A man is asleep.", "{FIRST}"), ("Nobody is awake.", "{SECOND}")):',
            "    tokens = tokenizer.encode(text)",
            '    values = {"input_ids": tokens.ids, "attention_mask": tokens.attention_mask, '
            '"token_type_ids": tokens.type_ids}',
            "    feed |= {name + suffix: numpy.array([ids], numpy.int64) for name, ids in values.items()}",
            "names = {value.name for value in session.get_inputs()}",
            f'session.run(["logits"], {{name: feed[name] for name in names}})  # {logits}',
        ]
    head = ["import numpy, onnxruntime", "from tokenizers import Tokenizer", ""]
    head.append('tokenizer = Tokenizer.from_file("tokenizer.json")')
    lines = ["```python", *head, *lines, "```", "", "With pairjax: `pairjax predict FOLDER pairs.tsv`."]
    if _separate(artifact):
        lines += [
            "",
            "`onnx/model.onnx` gives the vector of one text (`sentence_embedding`), and `onnx/pair_head.onnx`",
        ]
        lines += ["the logits of two vectors, `u` and `v`."]
    return lines


def _config(artifact: Artifact) -> dict[str, Any]:
    """Returns config.json: the encoder's, with the labels of a cross-encoder."""
    config = read_json(artifact.encoder_folder / "config.json")
    bare = bare_config(config, find_family(artifact.spec.family).bare_model)
    if artifact.model.kind == "bi":
        return bare
    labels = artifact.task.labels or ("score",)
    return bare | {
        "architectures": [find_family(artifact.spec.family).head.model],
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "regression" if artifact.task.kind == "regression" else "single_label_classification",
    }


def _pooling(artifact: Artifact, pooling: str) -> dict[str, Any]:
    """Returns 1_Pooling/config.json, with the keys of old releases and of text-embeddings-inference."""
    return {
        "word_embedding_dimension": artifact.spec.hidden_size,
        "pooling_mode": pooling,
        "include_prompt": True,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }


def _write_json(path: Path, value: object) -> None:
    """Writes a JSON file of a folder that is not complete yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write(request: Request, folder: Path) -> Written:
    """Writes the folder."""
    artifact, tokenizer, config = request.model.artifact, request.model.tokenizer, request.config
    graphs = pair_graphs(artifact, tokenizer, fold_temperature=config.fold_temperature)
    metadata = {"pairjax.task": artifact.task.kind, "pairjax.labels": json.dumps(artifact.task.labels)}
    write_graphs(graphs, folder / GRAPHS, int8=config.int8, metadata=metadata)
    _write_json(folder / "config.json", _config(artifact))
    tokenizer.save(folder)
    settings = read_json(folder / "tokenizer_config.json") | {"model_max_length": artifact.max_length}
    _write_json(folder / "tokenizer_config.json", settings)
    pooling = resolve(artifact.model, artifact.spec).pooling
    if graphs.separate and pooling in TEI_POOLINGS and not artifact.model.project.sizes:
        _write_json(folder / "1_Pooling" / "config.json", _pooling(artifact, pooling))
    if not config.int8:
        return Written({"int8": None})
    pairs = request.dev
    if pairs is None:
        first, second = zip(*check_pairs(), strict=True)
        pairs = Pairs(first, second, None)
    entry, lines = compare_int8(_open(request, folder, int8=False), _open(request, folder, int8=True), pairs)
    return Written({"int8": entry}, lines)


def _open(request: Request, folder: Path, *, int8: bool) -> OnnxClassifier:
    """Opens the files of a folder that is not complete yet."""
    artifact = request.model.artifact
    cross = artifact.model.kind == "cross"
    files = files_to_run(folder / GRAPHS, cross=cross, separate=_separate(artifact), int8=int8)
    return OnnxClassifier(artifact, request.model.tokenizer, files, source=())


def _difference(request: Request, folder: Path, pairs: Sequence[tuple[str, str]]) -> float:
    """Runs the files with onnxruntime; of a bi-encoder that reads each text alone, both ways to the logits."""
    model = _open(request, folder, int8=False)
    encoded = model.encode([first for first, _ in pairs], [second for _, second in pairs])
    expected = expected_outputs(request, encoded)
    outputs = [model.encoded_outputs(encoded)]
    if _separate(request.model.artifact):
        from pairjax.graphs.session import Session
        from pairjax.inference.onnx_engine import pair_logits

        session = Session(folder / GRAPHS / f"{PAIR_MODEL}.onnx")
        outputs.append(pair_logits(session, encoded, outputs=model.task.outputs, batch_size=len(pairs)))
    return float(max(np.abs(found - expected).max() for found in outputs)) / model.task.scale


FORMAT = Format(
    name="onnx",
    library="onnx",
    needs=("onnx", "onnxruntime"),
    extra="onnx",
    runtime=("onnxruntime",),
    refuse=_refuse,
    notes=_notes,
    pipeline_tag=_pipeline_tag,
    use=_use,
    write=_write,
    difference=_difference,
)
