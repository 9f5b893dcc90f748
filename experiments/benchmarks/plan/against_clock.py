"""Compares the step time that `pairjax plan --cpu` predicts with a measured one on this machine.

Command: python -m experiments.benchmarks.plan.against_clock

The programs are cross-encoders with two classes, built from configurations alone as in against_compiler.py, with new
weights, float32 and 32 pairs a step.
"""

import os
import statistics
import time

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

from experiments.benchmarks.plan.against_compiler import Program, plan_program
from pairjax.plan.advise import measured_cpu
from pairjax.plan.cost import Estimator
from pairjax.plan.step import Planned, on_mesh
from pairjax.step.sharding import build_mesh

BATCH, STEPS = 32, 7
MESH = {"data": 1, "fsdp": 1, "tensor": 1}


def measure_step(planned: Planned) -> float:
    """Returns the seconds of a step: the median of several after one that compiles."""
    step = on_mesh(planned, planned.rows_for(BATCH, 1), build_mesh(jax.devices()))

    def array(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        """Returns an array of the leaf's shape and type."""
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.full(leaf.shape, 0.01 if leaf.dtype == jnp.float32 else 1, leaf.dtype)

    state, frozen, batch = jax.tree.map(array, (step.state, step.frozen, step.batch))
    batch = batch._replace(side_ids=jnp.zeros_like(batch.side_ids), label=jnp.zeros_like(batch.label))
    seconds = []
    for _ in range(1 + STEPS):
        began = time.perf_counter()
        state, metrics = step.update.compiled(state, frozen, batch, planned.hypers)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def main() -> None:
    """Predicts and measures four programs and prints the table."""
    print("| model | slots | predicted, ms | measured, ms | ratio |\n|---|---|---|---|---|")
    for model, length in (("mini", 64), ("minilm", 32), ("minilm", 64), ("minilm", 128)):
        planned = plan_program(Program(model, BATCH, length))
        # Rates measured before and after the step show whether the machine was busy.
        before = Estimator(planned, measured_cpu(1), narrow=False)(MESH, BATCH).seconds
        seconds = measure_step(planned)
        after = Estimator(planned, measured_cpu(1), narrow=False)(MESH, BATCH).seconds
        predicted = (before + after) / 2
        print(
            f"| {model} | {length} | {1e3 * predicted:.0f} ({1e3 * before:.0f}, {1e3 * after:.0f}) "
            f"| {1e3 * seconds:.0f} | {predicted / seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
