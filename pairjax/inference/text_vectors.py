"""Vectors of texts for a bi-encoder's predictions: each distinct text is encoded once, and recent ones are cached."""

import threading
from abc import ABC, abstractmethod

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.types import Params
from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout, plan_in_order
from pairjax.data.pipeline import eval_batches
from pairjax.data.sides import blank_rows, build_text_rows, distinct_sides
from pairjax.inference.logits import one_behind
from pairjax.models.build import PairModelFns
from pairjax.step.sharding import put_batch, row_shards
from pairjax.step.shared import share

CACHE_BYTES = 64 * 2**20
"""Memory of the vectors that are cached from one call to the next, in bytes."""


class CachedVectors(ABC):
    """Vectors of texts that are encoded alone, with a cache of recent ones; several threads may share it.

    Args:
        size: Width of a vector, D.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._cache: dict[bytes, np.ndarray] = {}
        self._capacity = CACHE_BYTES // (4 * size)
        self._lock = threading.Lock()

    @abstractmethod
    def logits(self, encoded: EncodedPairs, *, batch_size: int) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the model's outputs in the order of the pairs, float32 [N, outputs].

        Args:
            encoded: The pairs, N of them.
            batch_size: Largest number of rows in a batch.
        """

    @abstractmethod
    def _encode(self, encoded: EncodedPairs, batch_size: int) -> Float[np.ndarray, "texts dim"]:
        """Encodes single texts, in their order."""

    @abstractmethod
    def warm_up(self, like: EncodedPairs, *, batch_size: int) -> int:
        """Compiles a program for every shape, and returns their number.

        Args:
            like: Rows of this model; no text is longer than their maximum length.
            batch_size: Largest number of rows in a batch.
        """

    def forget(self) -> None:
        """Empties the cache: the next call encodes all of its texts."""
        with self._lock:
            self._cache.clear()

    def pairs(self, encoded: EncodedPairs, *, batch_size: int) -> Float[np.ndarray, "pairs 2 dim"]:
        """Returns the vectors u and v of each pair, float32 [N, 2, D].

        Args:
            encoded: The pairs, N of them.
            batch_size: Largest number of rows in a compiled batch.
        """
        sides = distinct_sides(encoded)
        with self._lock:
            vectors = {key: self._cache[key] for key in sides.keys if key in self._cache}
        # The encoder runs outside the lock: two threads may encode the same text, with the same result.
        missing = [key for key in sides.keys if key not in vectors]
        encoded_now = dict(zip(missing, self._encode(build_text_rows(missing, encoded), batch_size), strict=True))
        vectors |= encoded_now
        with self._lock:
            self._cache |= encoded_now
            # A dict keeps the order of insertion, so the oldest vectors are dropped.
            for key in list(self._cache)[: max(0, len(self._cache) - self._capacity)]:
                del self._cache[key]
        table = np.zeros((len(sides.keys), self._size), np.float32)
        for row, key in enumerate(sides.keys):
            table[row] = vectors[key]
        return table[sides.pairs]


class SideVectors(CachedVectors):
    """The vectors of a bi-encoder, computed by compiled programs.

    Args:
        fns: The model; it pools each side and has no interaction.
        params: The model's parameters, placed on the mesh.
        layout: Lengths of rows.
        mesh: The device mesh.
    """

    def __init__(self, fns: PairModelFns, params: Params, layout: Layout, mesh: Mesh) -> None:
        super().__init__(fns.vector_size)
        self._params, self._layout, self._mesh = params, layout, mesh
        self._vectors = share(("vectors", fns.program), lambda: jax.jit(fns.vectors))
        self._head = share(("head", fns.program), lambda: jax.jit(fns.head_pooled))

    def logits(self, encoded: EncodedPairs, *, batch_size: int) -> Float[np.ndarray, "pairs outputs"]:
        """Returns the model's outputs in the order of the pairs, float32 [N, outputs].

        Args:
            encoded: The pairs, N of them.
            batch_size: Largest number of rows in a compiled batch.
        """
        vectors = self.pairs(encoded, batch_size=batch_size)
        rows = _batch_rows(len(vectors), 8 * batch_size)
        outputs = []
        for begin in range(0, len(vectors), rows):
            part = vectors[begin : begin + rows, None]
            padded = np.zeros((rows, *part.shape[1:]), np.float32)
            padded[: len(part)] = part
            outputs.append(np.asarray(self._head(self._params, padded))[: len(part), 0])
        return np.concatenate(outputs)

    def warm_up(self, like: EncodedPairs, *, batch_size: int) -> int:
        """Compiles the encoder for every shape of single texts, and the head for every number of pairs.

        Args:
            like: Rows of this model; no text is longer than their maximum length.
            batch_size: Largest number of rows in a compiled batch.

        Returns:
            The number of shapes.
        """
        longest = int(np.searchsorted(self._layout.ladder, like.max_length))
        lengths, rows, pairs = self._layout.ladder[: longest + 1], _row_counts(batch_size), _row_counts(8 * batch_size)
        for length in lengths:
            for count in rows:
                self._encode(blank_rows(length, count, like), batch_size)
        for count in pairs:
            np.asarray(self._head(self._params, np.zeros((count, 1, 2, self._size), np.float32)))
        return len(rows) * len(lengths) + len(pairs)

    def _encode(self, encoded: EncodedPairs, batch_size: int) -> Float[np.ndarray, "texts dim"]:
        """Encodes single texts, in their order."""
        vectors = np.zeros((len(encoded), self._size), np.float32)
        layout = self._layout.extend(encoded.lengths)
        rows = _batch_rows(len(encoded), batch_size)
        plan = plan_in_order(encoded.lengths, layout, rows, multiple=row_shards(self._mesh))
        batches = eval_batches(encoded, None, plan)
        running = ((batch, self._vectors(self._params, put_batch(batch, self._mesh))) for batch in batches)
        for batch, sides in one_behind(running):
            real = batch.example_id >= 0
            vectors[batch.example_id[real]] = np.asarray(sides)[:, :, 0][real]
        return vectors


def no_vector_error(model: ModelConfig, folder: str) -> UserError:
    """Returns the error for single texts that are given to a model that reads both texts of a pair together.

    Args:
        model: The model's configuration.
        folder: The model folder, for the message.
    """
    if model.kind == "bi" and model.interact.kind == "none":
        return UserError(
            f"{folder}: this bi-encoder pools both texts together", expected="a model that pools each side"
        )
    kind = "cross-encoder" if model.kind == "cross" else f"bi-encoder with {model.interact.kind} interaction"
    return UserError(f"{folder}: a {kind} has no vector for a single text", expected="a bi-encoder")


def _row_counts(most: int) -> list[int]:
    """Returns the numbers of rows that are compiled: most / 16, most / 4 and `most`."""
    return sorted({max(1, most // 16), max(1, most // 4), most})


def _batch_rows(count: int, most: int) -> int:
    """Returns the smallest number of rows that holds `count` items; `most` if none does."""
    return next(rows for rows in _row_counts(most) if count <= rows or rows == most)
