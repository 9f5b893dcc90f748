"""The arithmetic that a task needs: real tokens only, nothing computed twice. Both sides count by this file."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Counts the operations of an encoder and a classifier; a multiply-add is two operations.

    The forward pass takes 2 x (parameters of the layers' matrices) operations a token. A sequence of L tokens takes
    another 4 L^2 D operations a layer for attention scores and weighted sums. The backward pass takes twice as many as
    the forward pass. Embedding look-ups, normalisation, activations and softmax are not counted.

    Attributes:
        layers: Number of layers of the encoder.
        hidden: Width D of the encoder.
        intermediate: Width of the feed-forward sublayers.
        above: Number of parameters in the matrices of pooler and classifier, used once a pair.
        words: Number of parameters in the matrices of the masked-token head, used once for each token to predict.
    """

    layers: int
    hidden: int
    intermediate: int
    above: int
    words: int = 0

    def forward(self, lengths: Iterable[int], pairs: int, *, masked: int = 0) -> float:
        """Returns the operations of a forward pass.

        Args:
            lengths: Length in tokens of each sequence that the encoder reads.
            pairs: Number of pairs to classify.
            masked: Number of masked tokens to predict.
        """
        matrices = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        total = 0.0
        for length in lengths:
            total += self.layers * (2.0 * matrices * length + 4.0 * length**2 * self.hidden)
        return total + 2.0 * self.above * pairs + 2.0 * self.words * masked

    def training(self, lengths: Iterable[int], pairs: int, *, masked: int = 0) -> float:
        """Returns the operations of a forward and a backward pass; the arguments are those of `forward`."""
        return 3.0 * self.forward(lengths, pairs, masked=masked)
