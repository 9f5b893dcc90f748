"""Compute a model's outputs for every pair of a split once, in the order of the pairs, whatever the batch size."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float

from pairjax.base.types import Params, TaskSpec
from pairjax.data.encode import EncodedPairs
from pairjax.data.layout import Layout, plan_in_order
from pairjax.data.pipeline import eval_batches
from pairjax.models.build import PairModelFns
from pairjax.step.sharding import put_batch, row_shards, row_share
from pairjax.step.shared import share
from pairjax.step.step import make_eval_step

T = TypeVar("T")
PredictLogits = Callable[..., Float[np.ndarray, "pairs outputs"]]
"""From `(params, encoded, layout=, batch_size=)` to outputs, float32 [N, outputs]."""


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """Yields the items, each after the next one was requested: the device computes that one while the host reads this.

    Args:
        items: Results of asynchronous computations, dispatched when they are drawn.
    """
    pending: list[T] = []
    for item in items:
        pending.append(item)
        if len(pending) == 2:
            yield pending.pop(0)
    yield from pending


def make_predict_logits(fns: PairModelFns, task: TaskSpec, *, mesh: jax.sharding.Mesh) -> PredictLogits:
    """Builds a function from encoded pairs to outputs in the order of the pairs.

    Args:
        fns: The model.
        task: The task; it gives the number of outputs, and center and scale of regression.
        mesh: The device mesh.

    Returns:
        `predict(params, encoded, layout=, batch_size=) -> float32 [N, outputs]`: logits, or for regression scores in
        the units of the data. Batches are sorted by length, and pairs longer than the layout's rows get a longer row.
        With several processes, each reads its own rows of a batch and gets the outputs of all; all must make the same
        calls.
    """
    step = share(("logits", fns.program, mesh), lambda: make_eval_step(fns.apply, mesh=mesh))
    rows_multiple, (index, count) = row_shards(mesh), row_share(mesh)

    def predict(params: Params, encoded: EncodedPairs, *, layout: Layout, batch_size: int) -> np.ndarray:
        outputs = np.zeros((len(encoded), task.outputs), np.float32)
        extended = layout.extend(encoded.lengths)
        plan = plan_in_order(encoded.lengths, extended, batch_size, multiple=rows_multiple)
        batches = eval_batches(encoded, None, plan, process_index=index, process_count=count)
        running = zip(plan.index, (step(params, put_batch(batch, mesh)) for batch in batches), strict=True)
        for example, logits in one_behind(running):
            outputs[example[example >= 0]] = np.asarray(logits)[example >= 0]
        return outputs * task.scale + task.center if task.kind == "regression" else outputs

    return predict
