"""The layers of `pairjax.models` as ONNX nodes, with the same arithmetic and the same names of parameters."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairjax.base.types import Params
from pairjax.graphs.builder import GraphBuilder

MASKED = -1e30
"""Added to the score of a masked key: its exponential is exactly 0, and a row with all keys masked stays finite."""


@dataclass(frozen=True)
class LayerShape:
    """What the parameters of a transformer layer do not say.

    Attributes:
        heads: Number of attention heads.
        activation: Activation of the feed-forward sublayer: `gelu`, `gelu_new` or `relu`.
        eps: Epsilon of the layer normalisations.
    """

    heads: int
    activation: str
    eps: float


def dense(graph: GraphBuilder, x: str, params: Params, path: str) -> str:
    """Adds `x @ kernel + bias`, or `x @ kernel` if there is no bias.

    Args:
        graph: The graph.
        x: Value of any number of axes; the last is multiplied.
        params: {kernel, bias} or {kernel}.
        path: Path of the parameters, which names the weights.
    """
    product = graph.node("MatMul", x, graph.weight(f"{path}/kernel", params["kernel"]))
    if "bias" not in params:
        return product
    return graph.add(product, graph.weight(f"{path}/bias", params["bias"]))


def layer_norm(graph: GraphBuilder, x: str, params: Params, path: str, *, eps: float) -> str:
    """Adds layer normalisation over the last axis; a bias is optional."""
    weights = [graph.weight(f"{path}/{name}", params[name]) for name in ("scale", "bias") if name in params]
    return graph.node("LayerNormalization", x, *weights, axis=-1, epsilon=eps)


def normalise(graph: GraphBuilder, x: str) -> str:
    """Adds the scaling of vectors to length 1, float32 [batch, size]; a vector of zeros stays zero."""
    length = graph.node("ReduceL2", x, axes=[1], keepdims=1)
    return graph.node("Div", x, graph.node("Max", length, graph.constant(1e-12)))


def activation(graph: GraphBuilder, x: str, name: str) -> str:
    """Adds `gelu` (exact, with erf), `gelu_new` (its tanh approximation), `relu`, `tanh` or `identity`."""
    match name:
        case "gelu":
            # Runtimes recognise this order of operations and replace it by one kernel.
            erf = graph.node("Erf", graph.node("Div", x, graph.constant(math.sqrt(2.0))))
            return graph.multiply(graph.multiply(x, graph.add(erf, graph.constant(1.0))), graph.constant(0.5))
        case "gelu_new":
            cube = graph.multiply(graph.multiply(x, x), x)
            inner = graph.add(x, graph.multiply(cube, graph.constant(0.044715)))
            tanh = graph.node("Tanh", graph.multiply(inner, graph.constant(math.sqrt(2.0 / math.pi))))
            return graph.multiply(graph.multiply(x, graph.add(tanh, graph.constant(1.0))), graph.constant(0.5))
        case "relu":
            return graph.node("Relu", x)
        case "tanh":
            return graph.node("Tanh", x)
        case "identity":
            return x
    raise ValueError(f"unknown activation {name}")


def attention(graph: GraphBuilder, x: str, params: Params, path: str, *, heads: int, bias: str | None) -> str:
    """Adds multi-head self-attention, `softmax(Q K^T / sqrt(d) + bias) V` and an output projection.

    Args:
        graph: The graph.
        x: float32 [batch, length, dim].
        params: The projections query, key, value and out.
        path: Path of the parameters.
        heads: Number of heads.
        bias: float32, broadcast to [batch, heads, queries, keys]; None if every token attends to all.
    """
    dim = np.shape(params["query"]["kernel"])[0]
    size = dim // heads
    # One product for queries, keys and values.
    fused = {
        name: np.concatenate([np.asarray(params[part][name]) for part in ("query", "key", "value")], axis=-1)
        for name in ("kernel", "bias")
    }
    projected = dense(graph, x, fused, f"{path}/query_key_value")
    split = graph.nodes("Split", [projected, graph.constant([dim] * 3, "int64")], 3, axis=-1)
    query, key, value = (graph.reshape(part, (0, 0, heads, size)) for part in split)
    query = graph.node("Transpose", graph.multiply(query, graph.constant(size**-0.5)), perm=(0, 2, 1, 3))
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=(0, 2, 3, 1)))
    if bias is not None:
        scores = graph.add(scores, bias)
    probabilities = graph.node("Softmax", scores, axis=-1)
    mixed = graph.node("MatMul", probabilities, graph.node("Transpose", value, perm=(0, 2, 1, 3)))
    joined = graph.reshape(graph.node("Transpose", mixed, perm=(0, 2, 1, 3)), (0, 0, dim))
    return dense(graph, joined, params["out"], f"{path}/out")


def transformer_layer(
    graph: GraphBuilder, x: str, params: Params, path: str, *, shape: LayerShape, bias: str | None
) -> str:
    """Adds attention and a feed-forward sublayer, each with a residual connection and LayerNorm after it.

    Args:
        graph: The graph.
        x: float32 [batch, length, dim].
        params: The layer's parameters.
        path: Their path.
        shape: Heads, activation and epsilon.
        bias: As in `attention`.
    """
    attended = attention(graph, x, params["attention"], f"{path}/attention", heads=shape.heads, bias=bias)
    x = layer_norm(graph, graph.add(x, attended), params["attention_norm"], f"{path}/attention_norm", eps=shape.eps)
    inner = activation(graph, dense(graph, x, params["mlp_in"], f"{path}/mlp_in"), shape.activation)
    outer = dense(graph, inner, params["mlp_out"], f"{path}/mlp_out")
    return layer_norm(graph, graph.add(x, outer), params["mlp_norm"], f"{path}/mlp_norm", eps=shape.eps)


def transformer_stack(
    graph: GraphBuilder, x: str, params: Params, path: str, *, layers: int, shape: LayerShape, bias: str | None
) -> str:
    """Adds the layers `layer_0`, `layer_1`, ... of a subtree; see `transformer_layer`."""
    for index in range(layers):
        name = f"layer_{index}"
        x = transformer_layer(graph, x, params[name], f"{path}/{name}", shape=shape, bias=bias)
    return x


def attention_bias(graph: GraphBuilder, allowed: str) -> str:
    """Adds the bias of attention scores: 0 if a query may attend to a key, else `MASKED`.

    Args:
        graph: The graph.
        allowed: bool [batch, queries or 1, keys].

    Returns:
        float32 [batch, 1, queries or 1, keys].
    """
    bias = graph.node("Where", allowed, graph.constant(0.0), graph.constant(MASKED))
    return graph.axis(bias, 1)


def as_array(value: Any) -> np.ndarray:
    """Returns a parameter as a NumPy array in float32."""
    return np.asarray(value, np.float32)
