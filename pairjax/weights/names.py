"""Tensor names: which tensor of a weight file holds the parameter at each path of the parameter tree."""

from typing import NamedTuple

from pairjax.base.families import find_family
from pairjax.base.family_names import LayerNames
from pairjax.base.types import EncoderSpec

DECODER = "cls.predictions.decoder.weight"
"""The masked-token head's projection to the vocabulary: a copy of the word embeddings that some files repeat."""


class Tensor(NamedTuple):
    """A tensor of a weight file.

    Attributes:
        name: The tensor's name, without the model's prefix.
        shape: The parameter's shape in the parameter tree; a kernel's is the transpose of the tensor's.
        part: (index, count) if the tensor holds `count` parameters of this shape, one below the other; (0, 1) if not.
    """

    name: str
    shape: tuple[int, ...]
    part: tuple[int, int] = (0, 1)


def words_name(family: str) -> str:
    """Returns the name of the word embeddings in a weight file of a family."""
    return f"{find_family(family).model_names.words}.weight"


def _dense(path: str, name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
    return {
        f"{path}/kernel": Tensor(f"{name}.weight", (inputs, outputs)),
        f"{path}/bias": Tensor(f"{name}.bias", (outputs,)),
    }


def _norm(path: str, name: str, size: int, *, bias: bool = True) -> dict[str, Tensor]:
    table = {f"{path}/scale": Tensor(f"{name}.weight", (size,))}
    return table | ({f"{path}/bias": Tensor(f"{name}.bias", (size,))} if bias else {})


def encoder_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Returns the tensor of each path of the subtree `encoder`."""
    width, hidden = spec.embedding_size, spec.hidden_size
    record = find_family(spec.family)
    names = record.model_names
    embeddings = {"word": (f"{names.words}.weight", spec.vocab_size)}
    if spec.absolute_positions:
        embeddings["position"] = ("embeddings.position_embeddings.weight", spec.max_positions + spec.position_offset)
    if spec.type_vocab_size > 0:
        embeddings["segment"] = ("embeddings.token_type_embeddings.weight", spec.type_vocab_size)
    table = {f"embeddings/{part}/embedding": Tensor(name, (size, width)) for part, (name, size) in embeddings.items()}
    table |= _norm("embeddings/norm", names.norm, width, bias=spec.rotary is None)
    if spec.has_projection:
        table |= _dense("projection", names.projection, width, hidden)
    if spec.relative_buckets:
        shape = (spec.relative_buckets, spec.num_heads)
        table["embeddings/relative/embedding"] = Tensor(f"{names.relative}.weight", shape)
    if (positions := spec.disentangled) is not None:
        table["embeddings/relative/embedding"] = Tensor(f"{names.relative}.weight", (2 * positions.span, hidden))
        if positions.norm:
            table |= _norm("embeddings/relative/norm", names.relative_norm, hidden)
    for index in range(spec.stored_layers):
        layer = f"{record.layer_names.layers}.{index}"
        tensors = _layer(spec, record.layer_names, layer) if spec.rotary is None else _rotary_layer(spec, index, layer)
        table |= {f"layer_{index}/{path}": tensor for path, tensor in tensors.items()}
    if spec.rotary is not None:
        table |= _norm("final_norm", names.final_norm, hidden, bias=False)
    return table


def _layer(spec: EncoderSpec, names: LayerNames, layer: str) -> dict[str, Tensor]:
    """Returns the tensor of each path of a layer whose LayerNorms follow the sublayers."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    projections = {"query": names.query, "key": names.key, "value": names.value, "out": names.attention_out}
    if (positions := spec.disentangled) is not None and not positions.shared_keys:
        own = {"c2p": ("position_key", names.position_key), "p2c": ("position_query", names.position_query)}
        projections |= dict(own[kind] for kind in positions.kinds)
    table: dict[str, Tensor] = {}
    for part, name in projections.items():
        table |= _dense(f"attention/{part}", f"{layer}.{name}", hidden, hidden)
    table |= _norm("attention_norm", f"{layer}.{names.attention_norm}", hidden)
    table |= _dense("mlp_in", f"{layer}.{names.mlp_in}", hidden, inner)
    table |= _dense("mlp_out", f"{layer}.{names.mlp_out}", inner, hidden)
    return table | _norm("mlp_norm", f"{layer}.{names.mlp_norm}", hidden)


def _rotary_layer(spec: EncoderSpec, index: int, layer: str) -> dict[str, Tensor]:
    """Returns the tensor of each path of a layer of ModernBERT; the first layer has no norm before its attention."""
    names, hidden, inner = find_family(spec.family).layer_names, spec.hidden_size, spec.intermediate_size
    joint, square, wide = f"{layer}.{names.query}.weight", (hidden, hidden), (hidden, inner)
    table = {
        f"attention/{part}/kernel": Tensor(joint, square, (place, 3))
        for place, part in enumerate(("query", "key", "value"))
    }
    table["attention/out/kernel"] = Tensor(f"{layer}.{names.attention_out}.weight", square)
    for place, part in enumerate(("mlp_in", "mlp_gate")):
        table[f"{part}/kernel"] = Tensor(f"{layer}.{names.mlp_in}.weight", wide, (place, 2))
    table["mlp_out/kernel"] = Tensor(f"{layer}.{names.mlp_out}.weight", (inner, hidden))
    if index > 0:
        table |= _norm("attention_norm", f"{layer}.{names.attention_norm}", hidden, bias=False)
    return table | _norm("mlp_norm", f"{layer}.{names.mlp_norm}", hidden, bias=False)


def pooler_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Returns the tensor of each path of the pooler; empty if the family has none."""
    name = find_family(spec.family).model_names.pooler
    return _dense("pooler", name, spec.hidden_size, spec.hidden_size) if spec.has_pooler else {}


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
