"""Tensor names: which tensor of a weight file holds the parameter at each path of the parameter tree."""

from typing import NamedTuple

from pairjax.base.families import find_family
from pairjax.base.types import EncoderSpec

WORDS = "embeddings.word_embeddings.weight"
"""The word embeddings, which every family has under this name."""
DECODER = "cls.predictions.decoder.weight"
"""The masked-token head's projection to the vocabulary: a copy of the word embeddings that some files repeat."""


class Tensor(NamedTuple):
    """A tensor of a weight file.

    Attributes:
        name: The tensor's name, without the model's prefix.
        shape: The parameter's shape in the parameter tree; a kernel's is the transpose of the tensor's.
    """

    name: str
    shape: tuple[int, ...]


def _dense(path: str, name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
    return {
        f"{path}/kernel": Tensor(f"{name}.weight", (inputs, outputs)),
        f"{path}/bias": Tensor(f"{name}.bias", (outputs,)),
    }


def _norm(path: str, name: str, size: int) -> dict[str, Tensor]:
    return {f"{path}/scale": Tensor(f"{name}.weight", (size,)), f"{path}/bias": Tensor(f"{name}.bias", (size,))}


def encoder_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Returns the tensor of each path of the subtree `encoder`."""
    width, hidden, inner = spec.embedding_size, spec.hidden_size, spec.intermediate_size
    embeddings = {"word": (WORDS, spec.vocab_size)}
    embeddings["position"] = ("embeddings.position_embeddings.weight", spec.max_positions + spec.position_offset)
    if spec.type_vocab_size > 0:
        embeddings["segment"] = ("embeddings.token_type_embeddings.weight", spec.type_vocab_size)
    table = {f"embeddings/{part}/embedding": Tensor(name, (size, width)) for part, (name, size) in embeddings.items()}
    table |= _norm("embeddings/norm", "embeddings.LayerNorm", width)
    if width != hidden:
        table |= _dense("projection", "embeddings_project", width, hidden)
    names = find_family(spec.family).layer_names
    projections = {"query": names.query, "key": names.key, "value": names.value, "out": names.attention_out}
    for index in range(spec.num_layers):
        path, layer = f"layer_{index}", f"{names.layers}.{index}"
        for part, name in projections.items():
            table |= _dense(f"{path}/attention/{part}", f"{layer}.{name}", hidden, hidden)
        table |= _norm(f"{path}/attention_norm", f"{layer}.{names.attention_norm}", hidden)
        table |= _dense(f"{path}/mlp_in", f"{layer}.{names.mlp_in}", hidden, inner)
        table |= _dense(f"{path}/mlp_out", f"{layer}.{names.mlp_out}", inner, hidden)
        table |= _norm(f"{path}/mlp_norm", f"{layer}.{names.mlp_norm}", hidden)
    return table


def pooler_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Returns the tensor of each path of the pooler; empty if the family has none."""
    return _dense("pooler", "pooler.dense", spec.hidden_size, spec.hidden_size) if spec.has_pooler else {}


def head_tensors(spec: EncoderSpec, outputs: int) -> dict[str, Tensor]:
    """Returns the tensor of each path of the family's own classification head.

    Args:
        spec: The encoder's architecture.
        outputs: Number of classes, or 1 for a score.

    Returns:
        The tensors of `pooler` or `head/hidden_0`, of `head/norm_0` if there is one, and of `head/logits`. Names are
        without the bare model's prefix, which only a pooler has.
    """
    head, size = find_family(spec.family).head, spec.hidden_size
    dense = "pooler" if head.is_pooler else "head/hidden_0"
    table = _dense(dense, head.dense, size, size)
    if not head.bias:
        del table[f"{dense}/bias"]
    if head.norm:
        table["head/norm_0/scale"] = Tensor(f"{head.norm}.weight", (size,))
    return table | _dense("head/logits", head.output, size, outputs)


def masked_head_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Returns the tensor of each path of BERT's masked-token head, named as in transformers' `BertForPreTraining`."""
    size = spec.hidden_size
    table = _dense("mlm/transform", "cls.predictions.transform.dense", size, size)
    table |= _norm("mlm/norm", "cls.predictions.transform.LayerNorm", size)
    return table | {"mlm/bias": Tensor("cls.predictions.bias", (spec.vocab_size,))}


def segment_head_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Returns the tensor of each path of the segment head (next sentence or sentence order), named alike."""
    return _dense("order", "cls.seq_relationship", spec.hidden_size, 2)
