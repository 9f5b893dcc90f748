"""Exact evaluation: every pair once, whatever the batch; logits first, scores of them after."""

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
from pairjax.step.step import make_eval_step

T = TypeVar("T")
PredictLogits = Callable[..., Float[np.ndarray, "pairs outputs"]]


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """The items, each only when the next is there: the device works on that one while the host reads this one."""
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) == 2:
            yield held.pop(0)
    yield from held


def make_predict_logits(fns: PairModelFns, task: TaskSpec, *, mesh: jax.sharding.Mesh) -> PredictLogits:
    """A function from encoded pairs to outputs in the pairs' own order.

    Returns:
        `predict(params, encoded, layout=, batch_size=) -> float32 [N, outputs]`: logits, or for regression scores in
        the data's own units. Batches are sorted by length; the order of the result is that of the input.
        Pairs longer than the layout's rows get a longer row. Of several processes each reads its own rows of a batch
        and gets the outputs of all; all must call it alike.
    """
    step = make_eval_step(fns.apply, mesh=mesh)
    rows_multiple, (index, count) = row_shards(mesh), row_share(mesh)

    def predict(params: Params, encoded: EncodedPairs, *, layout: Layout, batch_size: int) -> np.ndarray:
        outputs = np.zeros((len(encoded), task.outputs), np.float32)
        rungs = layout.extend(encoded.lengths)
        plan = plan_in_order(encoded.lengths, rungs, batch_size, multiple=rows_multiple)
        batches = eval_batches(encoded, None, plan, process_index=index, process_count=count)
        running = zip(plan.index, (step(params, put_batch(batch, mesh)) for batch in batches), strict=True)
        for example, logits in one_behind(running):
            outputs[example[example >= 0]] = np.asarray(logits)[example >= 0]
        return outputs * task.scale + task.center if task.kind == "regression" else outputs

    return predict
