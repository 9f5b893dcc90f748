"""Arithmetic that the task needs: real tokens only, nothing computed twice. Both sides count by this file."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of an encoder and a classifier, two operations each.

    A token takes 2 x (parameters of the layers' matrices) forward; a sequence of L tokens besides 4 L^2 D a layer for
    scores and mixtures. Backward is twice forward. Embeddings are looked up and not multiplied; normalisation,
    activations and softmax are not counted.

    Attributes:
        layers: Of the encoder.
        hidden: D.
        intermediate: Width of the feed-forward sublayers.
        above: Parameters of the pooler's and classifier's matrices, used once a pair.
        words: Of the masked-token head's, used once for each token to predict.
    """

    layers: int
    hidden: int
    intermediate: int
    above: int
    words: int = 0

    def forward(self, lengths: Iterable[int], pairs: int, *, masked: int = 0) -> float:
        """Operations to encode sequences of these lengths, classify `pairs` pairs and predict `masked` tokens."""
        matrices = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        total = 0.0
        for length in lengths:
            total += self.layers * (2.0 * matrices * length + 4.0 * length**2 * self.hidden)
        return total + 2.0 * self.above * pairs + 2.0 * self.words * masked

    def training(self, lengths: Iterable[int], pairs: int, *, masked: int = 0) -> float:
        """Forward and backward."""
        return 3.0 * self.forward(lengths, pairs, masked=masked)
