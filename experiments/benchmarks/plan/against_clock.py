"""The step time that `pairjax plan --cpu` predicts beside a measured one, on this machine.

Command: python -m experiments.benchmarks.plan.against_clock
Cross-encoders of two classes from configurations alone (against_compiler.py), fresh weights, float32, 32 pairs a step.
"""

import os
import statistics
import time

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

from experiments.benchmarks.plan.against_compiler import Program, step_of
from pairjax.plan.advise import measured_cpu
from pairjax.plan.cost import Estimator
from pairjax.plan.step import Planned, on_mesh
from pairjax.step.sharding import build_mesh

BATCH, STEPS = 32, 7
MESH = {"data": 1, "fsdp": 1, "tensor": 1}


def measured(planned: Planned) -> float:
    """Seconds of a step, the median of some after one that compiles."""
    step = on_mesh(planned, planned.rows_for(BATCH, 1), build_mesh(jax.devices()))

    def array(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.full(leaf.shape, 0.01 if leaf.dtype == jnp.float32 else 1, leaf.dtype)

    state, frozen, batch = jax.tree.map(array, (step.state, step.frozen, step.batch))
    batch = batch._replace(side_ids=jnp.zeros_like(batch.side_ids), label=jnp.zeros_like(batch.label))
    taken = []
    for _ in range(1 + STEPS):
        began = time.perf_counter()
        state, metrics = step.update.compiled(state, frozen, batch, planned.hypers)
        jax.block_until_ready((state, metrics))
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def main() -> None:
    print("| model | slots | predicted, ms | measured, ms | ratio |\n|---|---|---|---|---|")
    for model, length in (("mini", 64), ("minilm", 32), ("minilm", 64), ("minilm", 128)):
        planned = step_of(Program(model, BATCH, length))
        # The rates before and after: a busy machine shows.
        before = Estimator(planned, measured_cpu(1), narrow=False)(MESH, BATCH).seconds
        found = measured(planned)
        after = Estimator(planned, measured_cpu(1), narrow=False)(MESH, BATCH).seconds
        guess = (before + after) / 2
        print(
            f"| {model} | {length} | {1e3 * guess:.0f} ({1e3 * before:.0f}, {1e3 * after:.0f}) | {1e3 * found:.0f} "
            f"| {guess / found:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
