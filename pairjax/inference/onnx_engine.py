"""Compute a model's outputs with onnxruntime: the same tokens and batches by length as with JAX, other arithmetic."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from pairjax.base.types import Batch
from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout, plan_in_order
from pairjax.data.pipeline import make_batch
from pairjax.data.sides import build_text_rows, distinct_sides
from pairjax.graphs.pair import FIRST, SECOND
from pairjax.graphs.session import Session
from pairjax.inference.text_vectors import CachedVectors


def batches_by_length(
    lengths: Int[np.ndarray, " items"], batch_size: int
) -> Iterator[tuple[Int[np.ndarray, " rows"], int]]:
    """Yields the items of each batch, longest first, and the length of its longest; nothing is compiled for a shape.

    Args:
        lengths: int32 [N]; tokens of each item.
        batch_size: Largest number of items in a batch.
    """
    layout = Layout("bucketed", tuple(sorted(set(lengths.tolist()))))
    plan = plan_in_order(lengths, layout, batch_size)
    for index, length in zip(plan.index[:, :, 0], plan.length, strict=True):
        yield index[index >= 0], int(length)


def _feed(batch: Batch, *, suffix: str = "") -> dict[str, np.ndarray]:
    """Returns the inputs of a graph for rows of tokens."""
    return {
        f"input_ids{suffix}": batch.input_ids.astype(np.int64),
        f"attention_mask{suffix}": (batch.pair_ids > 0).astype(np.int64),
        f"token_type_ids{suffix}": batch.token_type_ids.astype(np.int64),
    }


class OnnxSides(CachedVectors):
    """The vectors of a bi-encoder that reads each text alone.

    Args:
        encoder: Graph of a text's vector.
        head: Graph from two vectors to logits.
        size: Width of a vector.
    """

    def __init__(self, encoder: Session, head: Session, *, size: int) -> None:
        super().__init__(size)
        self._encoder, self._head = encoder, head

    def logits(self, encoded: EncodedPairs, *, batch_size: int) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the model's outputs in the order of the pairs; see `CachedVectors.logits`."""
        vectors = self.pairs(encoded, batch_size=batch_size)
        return self._head.run("logits", {"u": vectors[:, 0], "v": vectors[:, 1]})

    def warm_up(self, like: EncodedPairs, *, batch_size: int) -> int:
        """Returns 0: graphs are not compiled for a shape."""
        return 0

    def _encode(self, encoded: EncodedPairs, batch_size: int) -> Float[np.ndarray, "texts dim"]:
        """Encodes single texts, in their order."""
        vectors = np.zeros((len(encoded), self._size), np.float32)
        for index, length in batches_by_length(encoded.lengths, batch_size):
            batch = make_batch(encoded, None, index[:, None], length)
            vectors[index] = self._encoder.run("sentence_embedding", _feed(batch))
        return vectors


def pair_logits(
    session: Session, encoded: EncodedPairs, *, outputs: int, batch_size: int
) -> Float[np.ndarray, "pairs outputs"]:
    """Returns the outputs of a graph of whole pairs, in the order of the pairs, float32 [N, outputs].

    Args:
        session: The graph: that of a cross-encoder, or of a bi-encoder with both texts as inputs.
        encoded: The pairs, N of them.
        outputs: Number of outputs.
        batch_size: Largest number of pairs in a batch.
    """
    logits = np.zeros((len(encoded), outputs), np.float32)
    if encoded.kind == "bi":
        sides = distinct_sides(encoded)
        texts, pairs = build_text_rows(list(sides.keys), encoded), sides.pairs.astype(np.int32)
    for index, length in batches_by_length(encoded.lengths, batch_size):
        if encoded.kind == "cross":
            feed = _feed(make_batch(encoded, None, index[:, None], length))
        else:
            feed = {}
            for side, suffix in enumerate((FIRST, SECOND)):
                rows = pairs[index, side]
                longest = int(texts.lengths[rows].max())
                feed |= _feed(make_batch(texts, None, rows[:, None], longest), suffix=suffix)
        logits[index] = session.run("logits", feed)
    return logits
