"""Reads and writes the folders of transformers' classes for sequence classification, head included."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pairjax.base.families import find_family
from pairjax.base.types import EncoderSpec, Params
from pairjax.weights.names import Tensor, encoder_tensors, head_tensors
from pairjax.weights.safetensors_folder import LoadedEncoder, named_tensors, open_weights, read_parts, write_folder


def load_classifier(folder: Path, spec: EncoderSpec, outputs: int) -> tuple[LoadedEncoder, Params]:
    """Reads an encoder and the head of its family's class for sequence classification.

    Args:
        folder: The folder with model.safetensors, or with shards and their index.
        spec: The architecture.
        outputs: Number of the head's outputs.

    Returns:
        The encoder, and the trees `head` and, if it belongs to the class's head, `pooler`.

    Raises:
        UserError: The same errors as in `load_encoder`; or a tensor of the head is missing or has another shape.
    """
    with open_weights(folder, family=spec.family) as weights:
        return read_parts(weights, spec, heads=head_tensors(spec, outputs))


def classifier_tensors(spec: EncoderSpec, outputs: int) -> dict[str, Tensor]:
    """Returns the tensor of each path of an encoder and its family's own head, named as in a weight file."""
    record = find_family(spec.family)
    bare = {f"encoder/{path}": tensor for path, tensor in encoder_tensors(spec).items()}
    head = head_tensors(spec, outputs)
    if record.head.is_pooler:
        bare |= {path: head.pop(path) for path in list(head) if path.startswith("pooler/")}
    return {path: tensor._replace(name=f"{record.prefix}.{tensor.name}") for path, tensor in bare.items()} | head


def save_classifier(
    folder: Path,
    spec: EncoderSpec,
    params: Params,
    outputs: int,
    *,
    config: Mapping[str, Any],
    tokeniser: Callable[[Path], None],
) -> None:
    """Writes a folder that transformers opens with its class for sequence classification, whole or not at all.

    Args:
        folder: The folder; one that exists is replaced.
        spec: The architecture.
        params: The trees `encoder`, `head` and, if it belongs to the class's head, `pooler`.
        outputs: Number of the head's outputs.
        config: Content of config.json.
        tokeniser: Writes the tokeniser's files into a folder.

    Raises:
        ValueError: The parameters do not fit the architecture.
    """
    write_folder(folder, named_tensors(classifier_tensors(spec, outputs), params), config, tokeniser)
