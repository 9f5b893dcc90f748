"""The format `transformers`: a folder that AutoModelForSequenceClassification opens, where the class fits exactly."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairjax.base.export_config import ExportConfig
from pairjax.base.families import find_family
from pairjax.export.formats import Format, Request, Written, expected_outputs
from pairjax.export.torch_files import (
    general_notes,
    one_vector_reason,
    short_pairs,
    stages_reason,
    torch_config,
    uses_family_head,
    write_tokeniser,
)
from pairjax.inference.fold import folded_params
from pairjax.inference.model_folder import Artifact
from pairjax.weights.classifier_folder import save_classifier


def refuse(artifact: Artifact, config: ExportConfig) -> str | None:
    """Returns why the family's class cannot hold the model; None if it can."""
    reason = stages_reason(artifact, config) or one_vector_reason(artifact)
    if reason is not None:
        return reason
    if artifact.model.head.relu_logits:
        return "a ReLU follows its logits"
    record = find_family(artifact.spec.family).head
    if uses_family_head(artifact):
        return None
    head = artifact.model.head
    layers = " ".join(map(str, head.hidden)) or "none"
    return (
        f"{record.model} has another head than pooling {artifact.model.pooling} and hidden layers {layers} "
        f"({head.activation}); train with --model.head.kind family for it"
    )


def write(request: Request, folder: Path) -> Written:
    """Writes config.json, the weights and the tokeniser."""
    artifact = request.model.artifact
    write_classifier_files(artifact, request.config, folder)
    return Written({})


def write_classifier_files(artifact: Artifact, config: ExportConfig, folder: Path) -> None:
    """Writes a folder of the family's class for sequence classification."""
    save_classifier(
        folder,
        artifact.spec,
        folded_params(artifact, fold_temperature=config.fold_temperature),
        artifact.task.outputs,
        config=torch_config(artifact, find_family(artifact.spec.family).head.model, config),
        tokeniser=lambda place: write_tokeniser(artifact, place),
    )


def difference(request: Request, folder: Path, pairs: Sequence[tuple[str, str]]) -> float:
    """Runs the folder in transformers."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    artifact = request.model.artifact
    first, second = zip(*pairs, strict=True)
    encoded = request.model.encode(first, second)
    pairs = short_pairs(artifact, pairs, encoded.lengths)
    if not pairs:
        return 0.0
    first, second = zip(*pairs, strict=True)
    model = AutoModelForSequenceClassification.from_pretrained(str(folder), trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    rows = tokenizer(list(first), list(second), padding=True, truncation=True, return_tensors="pt")
    outputs = model(**rows).logits.detach().numpy()
    expected = expected_outputs(request, request.model.encode(first, second))
    return float(np.abs(outputs - expected).max()) / artifact.task.scale


def use(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns an example."""
    return [
        "```python",
        "from transformers import pipeline",
        "",
        'classify = pipeline("text-classification", model="path/to/this/folder")',
        'classify({"text": "A man is asleep.", "text_pair": "Nobody is awake."})',
        "```",
    ]


def pipeline_tag(artifact: Artifact) -> str:
    """Returns the hub's name of the task."""
    return "text-classification"


FORMAT = Format(
    name="transformers",
    library="transformers",
    needs=(),
    extra=None,
    runtime=("torch", "transformers"),
    refuse=refuse,
    notes=general_notes,
    pipeline_tag=pipeline_tag,
    use=use,
    write=write,
    difference=difference,
)
