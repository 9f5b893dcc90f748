"""The stages above the encoder as ONNX nodes, and the graphs of whole models.

A cross-encoder is one graph, tokens to logits. A bi-encoder that reads each text alone is an encoder, text to vector,
and a pair head, two vectors to logits; and, as every bi-encoder, one graph from the tokens of both texts to logits.
"""

from dataclasses import dataclass

import numpy as np

from pairjax.base.families import find_family
from pairjax.base.model_config import Feature, ModelConfig
from pairjax.base.types import EncoderSpec, Params
from pairjax.graphs.builder import GraphBuilder
from pairjax.graphs.encoder import TokenInputs, encode, has_segments, token_inputs
from pairjax.graphs.layers import (
    LayerShape,
    activation,
    attention_bias,
    dense,
    layer_norm,
    normalise,
    transformer_stack,
)

FIRST, SECOND = "_a", "_b"
"""Suffixes of a bi-encoder's inputs."""


@dataclass(frozen=True)
class TokenPart:
    """Tokens that are pooled as one.

    Attributes:
        hidden: float32 [batch, length, dim].
        mask: int64 [batch, length]; 1 for the part's tokens. The first token is that of cls pooling.
    """

    hidden: str
    mask: str


@dataclass(frozen=True)
class PairGraphs:
    """Describes a model for the graphs of its parts.

    Attributes:
        config: The configuration with every default resolved; without the user's own combiner.
        spec: The encoder's architecture.
        params: All parameters. Units and temperature are folded in (`pairjax.export.formats.folded_params`).
        outputs: Number of classes, or 1 for a score.
        sep_id: Id of the token that closes a text, by which families without segments find the second text.
        scale: Multiplies the outputs of a ReLU of a regression, which units cannot be folded below.
        center: Added to them.
    """

    config: ModelConfig
    spec: EncoderSpec
    params: Params
    outputs: int
    sep_id: int
    scale: float = 1.0
    center: float = 0.0

    @property
    def vector_size(self) -> int:
        """Size of each pooled vector, after the projection."""
        return (self.spec.hidden_size, *self.config.project.sizes)[-1]

    @property
    def separate(self) -> bool:
        """Whether each text is read alone and has a vector."""
        return self.config.kind == "bi" and self.config.interact.kind == "none" and self.config.over == "sides"

    def pair_model(self) -> GraphBuilder:
        """Returns the graph of the whole model, from tokens to `logits` [batch, outputs]."""
        graph = GraphBuilder()
        parts = self._joint_parts(graph) if self.config.kind == "cross" else self._separate_parts(graph)
        self._add_logits(graph, [self._pool(graph, part) for part in parts])
        return graph

    def encoder(self) -> GraphBuilder:
        """Returns the graph of one text: `last_hidden_state` [batch, sequence, dim] and `sentence_embedding`."""
        graph = GraphBuilder()
        tokens = token_inputs(graph, self.spec)
        hidden = encode(graph, self.spec, self.params["encoder"], tokens)
        vector = self._pool(graph, TokenPart(hidden, tokens.mask))
        graph.output(hidden, "last_hidden_state", ("batch", "sequence", self.spec.hidden_size))
        graph.output(vector, "sentence_embedding", ("batch", self.vector_size))
        return graph

    def pair_head(self) -> GraphBuilder:
        """Returns the graph from the vectors `u` and `v` [batch, dim] to `logits` [batch, outputs]."""
        graph = GraphBuilder()
        vectors = [graph.input(name, "float32", ("batch", self.vector_size)) for name in ("u", "v")]
        self._add_logits(graph, vectors)
        return graph

    def _joint_parts(self, graph: GraphBuilder) -> list[TokenPart]:
        """Adds the encoder and the interaction of a cross-encoder."""
        tokens = token_inputs(graph, self.spec)
        hidden = encode(graph, self.spec, self.params["encoder"], tokens)
        config = self.config
        second = None
        if config.over == "sides" or config.interact.kind in ("self", "cross"):
            second = self._second_text(graph, tokens)
        if config.interact.kind != "none":
            hidden = self._interact(graph, hidden, tokens.mask, second)
        if config.over == "pair":
            return [TokenPart(hidden, tokens.mask)]
        assert second is not None
        of_second = graph.multiply(tokens.mask, second)
        return [TokenPart(hidden, graph.node("Sub", tokens.mask, of_second)), TokenPart(hidden, of_second)]

    def _separate_parts(self, graph: GraphBuilder) -> list[TokenPart]:
        """Adds the encoder of both texts of a bi-encoder, and the interaction."""
        sides = []
        for suffix in (FIRST, SECOND):
            tokens = token_inputs(graph, self.spec, suffix=suffix, length=f"sequence{suffix}")
            sides.append(TokenPart(encode(graph, self.spec, self.params["encoder"], tokens), tokens.mask))
        if self.config.interact.kind == "none":
            return sides
        first, second = sides
        both = graph.node("Concat", first.hidden, second.hidden, axis=1)
        mask = graph.node("Concat", first.mask, second.mask, axis=1)
        zero, one = graph.constant(0, "int64"), graph.constant(1, "int64")
        places = graph.node(
            "Concat",
            graph.multiply(first.mask, zero),
            graph.add(graph.multiply(second.mask, zero), one),
            axis=1,
        )
        hidden = self._interact(graph, both, mask, places)
        if self.config.over == "pair":
            return [TokenPart(hidden, mask)]
        split = graph.node("Shape", first.mask, start=1, end=2)
        start, end = graph.constant([0], "int64"), graph.constant([2**31 - 1], "int64")
        axis = graph.constant([1], "int64")
        return [
            TokenPart(graph.node("Slice", hidden, start, split, axis), first.mask),
            TokenPart(graph.node("Slice", hidden, split, end, axis), second.mask),
        ]

    def _second_text(self, graph: GraphBuilder, tokens: TokenInputs) -> str:
        """Adds which tokens of a joint row belong to the second text, int64 [batch, length]: 1 if so.

        They carry segment 1; in families without segments, they follow the first token that closes a text.
        """
        if has_segments(self.spec) and find_family(self.spec.family).segments:
            assert tokens.segments is not None
            return tokens.segments
        closes = graph.cast(graph.node("Equal", tokens.ids, graph.constant(self.sep_id, "int64")), "int64")
        before = graph.node("CumSum", closes, graph.constant(1, "int64"), exclusive=1)
        return graph.node("Min", before, graph.constant(1, "int64"))

    def _interact(self, graph: GraphBuilder, hidden: str, mask: str, second: str | None) -> str:
        """Adds the interaction.

        Args:
            graph: The graph.
            hidden: float32 [batch, length, dim].
            mask: int64 [batch, length]; 1 for tokens.
            second: int64 [batch, length]; 1 on the second text. None if the kind does not need it.
        """
        choice, spec = self.config.interact, self.spec
        allowed = graph.axis(graph.cast(mask, "bool"), 1)
        if choice.kind != "joint":
            assert second is not None
            same = graph.node("Equal", graph.axis(second, 2), graph.axis(second, 1))
            allowed = graph.node("And", allowed, same if choice.kind == "self" else graph.node("Not", same))
        return transformer_stack(
            graph,
            hidden,
            self.params["interact"],
            "interact",
            layers=choice.layers,
            shape=LayerShape(choice.heads, spec.activation, spec.layer_norm_eps),
            bias=attention_bias(graph, allowed),
        )

    def _pool(self, graph: GraphBuilder, part: TokenPart) -> str:
        """Adds the vector of a part, float32 [batch, dim]."""
        match self.config.pooling:
            case "cls" | "pooler":
                vector = graph.node("Gather", part.hidden, graph.constant(0, "int64"), axis=1)
            case "mean":
                weights = graph.axis(graph.cast(part.mask, "float32"), 1)
                total = graph.node("MatMul", weights, part.hidden)
                count = graph.node("ReduceSum", weights, graph.constant([2], "int64"))
                mean = graph.node("Div", total, graph.node("Max", count, graph.constant(1.0)))
                vector = graph.node("Squeeze", mean, graph.constant([1], "int64"))
            case "max":
                inside = graph.axis(graph.cast(part.mask, "bool"), 2)
                tokens = graph.node("Where", inside, part.hidden, graph.constant(-np.inf))
                vector = graph.node("ReduceMax", tokens, axes=[1], keepdims=0)
            case _:
                raise ValueError("the model's configuration needs its defaults resolved (pairjax.models.build.resolve)")
        if self.config.pooling == "pooler":
            vector = graph.node("Tanh", dense(graph, vector, self.params["pooler"], "pooler"))
        project = self.config.project
        for index in range(len(project.sizes)):
            name = f"dense_{index}"
            vector = dense(graph, vector, self.params["project"][name], f"project/{name}")
            vector = activation(graph, vector, project.activation)
        return normalise(graph, vector) if project.normalize else vector

    def _add_logits(self, graph: GraphBuilder, vectors: list[str]) -> None:
        """Adds combination and classifier, and the output `logits`."""
        if self.config.head.kind == "cosine":
            u, v = (normalise(graph, vector) for vector in vectors)
            logits = graph.node("ReduceSum", graph.multiply(u, v), graph.constant([1], "int64"), keepdims=1)
        else:
            logits = self._head(graph, self._combine(graph, vectors))
        if (self.scale, self.center) != (1.0, 0.0):
            logits = graph.add(graph.multiply(logits, graph.constant(self.scale)), graph.constant(self.center))
        graph.output(logits, "logits", ("batch", self.outputs))

    def _head(self, graph: GraphBuilder, x: str) -> str:
        """Adds the classifier, float32 [batch, outputs]."""
        head, params = self.config.head, self.params["head"]
        record = find_family(self.spec.family).head
        kind = record.activation if head.kind == "family" else head.activation
        for index in range(sum(name.startswith("hidden_") for name in params)):
            x = activation(graph, dense(graph, x, params[f"hidden_{index}"], f"head/hidden_{index}"), kind)
            if f"norm_{index}" in params:
                x = layer_norm(graph, x, params[f"norm_{index}"], f"head/norm_{index}", eps=self.spec.layer_norm_eps)
        logits = dense(graph, x, params["logits"], "head/logits")
        return graph.node("Relu", logits) if head.relu_logits else logits

    def _combine(self, graph: GraphBuilder, vectors: list[str]) -> str:
        """Adds the pair's vector, float32 [batch, size]."""
        config = self.config
        parts = vectors
        if config.over == "sides":
            u, v = vectors
            parts = [_feature(graph, u, v, feature) for feature in config.features]
        match config.combine.kind:
            case "plain":
                return _join(graph, parts)
            case "gate":
                x = _join(graph, parts)
                gate = dense(graph, x, self.params["combine"]["gate"], "combine/gate")
                return graph.multiply(graph.node("Sigmoid", gate), x)
            case "attention":
                params = self.params["combine"]
                x = graph.node("Concat", *(graph.axis(part, 1) for part in parts), axis=1)
                x = graph.add(x, graph.weight("combine/position/embedding", params["position"]["embedding"]))
                shape = LayerShape(config.combine.heads, self.spec.activation, self.spec.layer_norm_eps)
                layers = config.combine.layers
                x = transformer_stack(graph, x, params, "combine", layers=layers, shape=shape, bias=None)
                return graph.reshape(x, (0, len(parts) * self.vector_size))


def _join(graph: GraphBuilder, parts: list[str]) -> str:
    """Adds the concatenation of vectors."""
    return parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)


def _feature(graph: GraphBuilder, u: str, v: str, feature: Feature) -> str:
    """Adds a feature of two vectors."""
    match feature:
        case "u":
            return u
        case "v":
            return v
        case "u-v":
            return graph.node("Sub", u, v)
        case "|u-v|":
            return graph.node("Abs", graph.node("Sub", u, v))
        case "u*v":
            return graph.multiply(u, v)
