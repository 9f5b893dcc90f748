"""Vectors of texts for a bi-encoder's prediction: each text encoded once, the last ones kept."""

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from pairjax.base.types import Params
from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout, plan_in_order
from pairjax.data.pipeline import eval_batches
from pairjax.data.sides import build_text_rows, distinct_sides
from pairjax.inference.logits import one_behind
from pairjax.models.build import PairModelFns
from pairjax.step.sharding import put_batch, row_shards

KEPT_BYTES = 64 * 2**20
"""Of vectors kept from one call to the next."""


class SideVectors:
    """A bi-encoder that reads each side alone, and its memory of the texts it read last.

    Args:
        fns: The model; it pools the sides and has no interaction.
        params: Its parameters, on the mesh.
        layout: Row lengths.
        mesh: Where rows go.
    """

    def __init__(self, fns: PairModelFns, params: Params, layout: Layout, mesh: Mesh) -> None:
        self._params, self._layout, self._mesh = params, layout, mesh
        self._size = fns.spec.hidden_size
        self._vectors, self._head = jax.jit(fns.vectors), jax.jit(fns.head_pooled)
        self._kept: dict[bytes, np.ndarray] = {}
        self._most = KEPT_BYTES // (4 * self._size)

    def forget(self) -> None:
        """Drop the vectors kept: the next call encodes all of its texts."""
        self._kept.clear()

    def pairs(self, encoded: EncodedPairs, *, batch_size: int) -> Float[np.ndarray, "pairs 2 dim"]:
        """u and v of each pair, float32."""
        sides = distinct_sides(encoded)
        fresh = [key for key in sides.keys if key not in self._kept]
        made = dict(zip(fresh, self._encode(build_text_rows(fresh, encoded), batch_size), strict=True))
        table = np.zeros((len(sides.keys), self._size), np.float32)
        for place, key in enumerate(sides.keys):
            table[place] = made[key] if key in made else self._kept[key]
        for key, vector in made.items():
            self._kept[key] = vector
        # A dict keeps the order of insertion: the oldest go.
        for key in list(self._kept)[: max(0, len(self._kept) - self._most)]:
            del self._kept[key]
        return table[sides.pairs]

    def logits(self, encoded: EncodedPairs, *, batch_size: int) -> Float[np.ndarray, "pairs outputs"]:
        """The model's outputs, in the order of the pairs."""
        vectors = self.pairs(encoded, batch_size=batch_size)
        rows = _rows(len(vectors), 8 * batch_size)
        found = []
        for begin in range(0, len(vectors), rows):
            part = vectors[begin : begin + rows, None]
            padded = np.zeros((rows, *part.shape[1:]), np.float32)
            padded[: len(part)] = part
            found.append(np.asarray(self._head(self._params, padded))[: len(part), 0])
        return np.concatenate(found)

    def _encode(self, encoded: EncodedPairs, batch_size: int) -> Float[np.ndarray, "texts dim"]:
        vectors = np.zeros((len(encoded), self._size), np.float32)
        layout = self._layout.extend(encoded.lengths)
        rows = _rows(len(encoded), batch_size)
        plan = plan_in_order(encoded.lengths, layout, rows, multiple=row_shards(self._mesh))
        batches = eval_batches(encoded, None, plan)
        runs = ((batch, self._vectors(self._params, put_batch(batch, self._mesh))) for batch in batches)
        for batch, sides in one_behind(runs):
            real = batch.example_id >= 0
            vectors[batch.example_id[real]] = np.asarray(sides)[:, :, 0][real]
        return vectors


def _rows(count: int, most: int) -> int:
    """Rows of a compiled batch: the least of most / 16, most / 4 and `most` that holds few items, else `most`."""
    return next(rows for rows in (max(1, most // 16), max(1, most // 4), most) if count <= rows or rows == most)
