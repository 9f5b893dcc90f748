"""Counts the arithmetic of a training step on cached tokens."""

import itertools
from collections.abc import Mapping

from pairjax.base.model_config import ModelConfig
from pairjax.population.tokens import TokenTask


def step_flops(source: TokenTask, model: ModelConfig, *, batch_size: int) -> Mapping[str, float]:
    """Returns the operations of one update's matrix products, by part of the model.

    Forward and backward pass together take 3 x 2 x multiply-adds. A layer has 4 D^2 multiply-adds of projections and
    2 D x inner of the feed-forward sublayer for each token, and 2 L D of attention. Elementwise work is not counted.

    Args:
        source: Gives the widths and the length of a row.
        model: The model above the encoder.
        batch_size: Pairs in a step.
    """
    spec, length = source.heads.spec, source.place.shape[1]
    width, inner = spec.hidden_size, spec.intermediate_size

    def layers(count: int, tokens: int) -> float:
        return 6.0 * batch_size * count * tokens * (4 * width**2 + 2 * width * inner + 2 * tokens * width)

    parts = len(model.features)
    interact = layers(model.interact.layers, length) if model.interact.kind != "none" else 0.0
    combine = layers(model.combine.layers, parts) if model.combine.kind == "attention" else 0.0
    if model.combine.kind == "gate":
        combine = 6.0 * batch_size * (parts * width) ** 2
    sizes = [parts * width, *model.head.hidden, source.heads.task.outputs]
    head = 6.0 * batch_size * sum(a * b for a, b in itertools.pairwise(sizes))
    return {"interact": interact, "combine": combine, "head": head}
