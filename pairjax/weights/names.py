"""Which tensor of a checkpoint stands behind each path of the parameter tree, for every family."""

from typing import NamedTuple

from pairjax.base.types import EncoderSpec

WORDS = "embeddings.word_embeddings.weight"
PREFIXES = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
}
"""What stands before the bare model's names where a checkpoint has a head."""


class Tensor(NamedTuple):
    """A parameter's name in a checkpoint (without the model's prefix), and its shape in the parameter tree."""

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
    """The checkpoint's tensor behind each path of the subtree `encoder`."""
    width, hidden, inner = spec.embedding_size, spec.hidden_size, spec.intermediate_size
    rows = {"word": (WORDS, spec.vocab_size)}
    rows["position"] = ("embeddings.position_embeddings.weight", spec.max_positions + spec.position_offset)
    if spec.type_vocab_size > 0:
        rows["segment"] = ("embeddings.token_type_embeddings.weight", spec.type_vocab_size)
    table = {f"embeddings/{part}/embedding": Tensor(name, (count, width)) for part, (name, count) in rows.items()}
    table |= _norm("embeddings/norm", "embeddings.LayerNorm", width)
    if width != hidden:
        table |= _dense("projection", "embeddings_project", width, hidden)
    distil = spec.family == "distilbert"
    names = (
        ("q_lin", "k_lin", "v_lin", "out_lin") if distil else ("self.query", "self.key", "self.value", "output.dense")
    )
    for index in range(spec.num_layers):
        path, layer = f"layer_{index}", f"{'transformer' if distil else 'encoder'}.layer.{index}"
        for part, name in zip(("query", "key", "value", "out"), names, strict=True):
            table |= _dense(f"{path}/attention/{part}", f"{layer}.attention.{name}", hidden, hidden)
        norms = ("sa_layer_norm", "output_layer_norm") if distil else ("attention.output.LayerNorm", "output.LayerNorm")
        dense = ("ffn.lin1", "ffn.lin2") if distil else ("intermediate.dense", "output.dense")
        table |= _norm(f"{path}/attention_norm", f"{layer}.{norms[0]}", hidden)
        table |= _dense(f"{path}/mlp_in", f"{layer}.{dense[0]}", hidden, inner)
        table |= _dense(f"{path}/mlp_out", f"{layer}.{dense[1]}", inner, hidden)
        table |= _norm(f"{path}/mlp_norm", f"{layer}.{norms[1]}", hidden)
    return table


def pooler_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Likewise for the pooler; empty where the family has none."""
    return _dense("pooler", "pooler.dense", spec.hidden_size, spec.hidden_size) if spec.has_pooler else {}


DECODER = "cls.predictions.decoder.weight"
"""The masked-token head's projection to the vocabulary, where a checkpoint repeats it: tied to the word embeddings."""


def masked_head_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Likewise for the masked-token head of BERT, under the names of transformers' `BertForPreTraining`."""
    size = spec.hidden_size
    table = _dense("mlm/transform", "cls.predictions.transform.dense", size, size)
    table |= _norm("mlm/norm", "cls.predictions.transform.LayerNorm", size)
    return table | {"mlm/bias": Tensor("cls.predictions.bias", (spec.vocab_size,))}


def segment_head_tensors(spec: EncoderSpec) -> dict[str, Tensor]:
    """Likewise for the segment head (next sentence or sentence order)."""
    return _dense("order", "cls.seq_relationship", spec.hidden_size, 2)
