"""Encoders as ONNX nodes, from token ids to hidden states, with the input names of Hugging Face."""

from dataclasses import dataclass

from pairjax.base.families import find_family
from pairjax.base.types import EncoderSpec, Params
from pairjax.graphs.builder import GraphBuilder
from pairjax.graphs.layers import (
    LayerShape,
    as_array,
    attention_bias,
    dense,
    layer_norm,
    transformer_stack,
)

FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")
"""Families whose arithmetic this module writes: those of post-LayerNorm transformers with absolute positions."""


@dataclass(frozen=True)
class TokenInputs:
    """The inputs of a graph for the tokens of one sequence, int64 [batch, length].

    Attributes:
        ids: Token ids.
        mask: 1 for tokens, 0 for padding, which follows the tokens.
        segments: Segment ids; None if the family has at most one segment.
    """

    ids: str
    mask: str
    segments: str | None


def has_segments(spec: EncoderSpec) -> bool:
    """Returns whether the graph reads segment ids; a family with one segment adds its vector to every token."""
    return spec.type_vocab_size > 1


def token_inputs(graph: GraphBuilder, spec: EncoderSpec, *, suffix: str = "", length: str = "sequence") -> TokenInputs:
    """Adds the inputs input_ids, attention_mask and, if the family has segments, token_type_ids.

    Args:
        graph: The graph.
        spec: The encoder's architecture.
        suffix: Follows each name, to tell two sequences apart.
        length: Name of the sequence's length.
    """
    shape = ("batch", length)
    ids, mask = (graph.input(f"{name}{suffix}", "int64", shape) for name in ("input_ids", "attention_mask"))
    segments = graph.input(f"token_type_ids{suffix}", "int64", shape) if has_segments(spec) else None
    return TokenInputs(ids, mask, segments)


def encoder_reason(spec: EncoderSpec) -> str | None:
    """Returns why an encoder cannot be written; None if it can."""
    if spec.family not in FAMILIES:
        return f"encoders of the family {spec.family} are not written as graphs yet (only {', '.join(FAMILIES)})"
    return None


def encode(graph: GraphBuilder, spec: EncoderSpec, params: Params, tokens: TokenInputs) -> str:
    """Adds the encoder: hidden states of the last layer, float32 [batch, length, dim]; those of padding mean nothing.

    Args:
        graph: The graph.
        spec: The architecture.
        params: The subtree `encoder`.
        tokens: The tokens.
    """
    x = _embeddings(graph, spec, params["embeddings"], tokens)
    if spec.embedding_size != spec.hidden_size:
        x = dense(graph, x, params["projection"], "encoder/projection")
    allowed = graph.axis(graph.cast(tokens.mask, "bool"), 1)
    return transformer_stack(
        graph,
        x,
        params,
        "encoder",
        layers=spec.num_layers,
        shape=LayerShape(spec.num_heads, spec.activation, spec.layer_norm_eps),
        bias=attention_bias(graph, allowed),
    )


def _embeddings(graph: GraphBuilder, spec: EncoderSpec, params: Params, tokens: TokenInputs) -> str:
    """Adds the sum of word, position and segment embeddings, with LayerNorm."""
    path = "encoder/embeddings"
    word, position = (
        graph.weight(f"{path}/{name}/embedding", params[name]["embedding"]) for name in ("word", "position")
    )
    x = graph.node("Gather", word, tokens.ids)
    if find_family(spec.family).positions_follow_padding:
        # As in transformers: tokens count from the padding token's id + 1, wherever the padding is.
        count = graph.multiply(graph.node("CumSum", tokens.mask, graph.constant(1, "int64")), tokens.mask)
        places = graph.add(count, graph.constant(spec.position_offset - 1, "int64"))
        x = graph.add(x, graph.node("Gather", position, places))
    else:
        length = graph.node("Shape", tokens.ids, start=1, end=2)
        start = graph.constant([0], "int64")
        x = graph.add(x, graph.node("Slice", position, start, length, start))
    if tokens.segments is not None:
        table = graph.weight(f"{path}/segment/embedding", params["segment"]["embedding"])
        x = graph.add(x, graph.node("Gather", table, tokens.segments))
    elif spec.type_vocab_size == 1:
        x = graph.add(x, graph.weight(f"{path}/segment/embedding", as_array(params["segment"]["embedding"])[0]))
    return layer_norm(graph, x, params["norm"], f"{path}/norm", eps=spec.layer_norm_eps)
