"""Forecasts what a run needs on devices, before they are rented: `pairjax plan`.

`cost` estimates the step for every mesh and batch. If a compiler for the devices is available, `compiled` also compiles
the step ahead of time for the mesh of the config, and the forecast shows the compiler's figures beside the estimate.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from pairjax.base.config import Config
from pairjax.base.errors import UserError
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.plan.compiled import (
    Figures,
    compile_step,
    cpu_devices,
    figures_of,
    topology_devices,
)
from pairjax.plan.cost import Estimate, Estimator
from pairjax.plan.devices import Device, Target, factorisations, named_mesh
from pairjax.plan.step import Planned, plan_step

USABLE = 0.95
"""Share of the memory that a plan may fill; the runtime and the program itself need the rest."""
LARGEST = 1 << 20
"""Largest batch that is tried, in examples a step."""


@dataclass(frozen=True)
class Forecast:
    """The forecast of a run.

    Attributes:
        target: The devices.
        mesh: The mesh of the config.
        batch_size: Examples a step.
        planned: The training step.
        estimate: The estimate for the config's mesh.
        compiled: The compiler's figures; None if there is no compiler.
        largest: The largest batch that fits on the config's mesh, in examples a step; 0 if none fits.
        advised: The fastest mesh on which the step fits; None if it fits on none.
        advised_estimate: The estimate for that mesh.
        notes: Notes, one line each.
    """

    target: Target
    mesh: Mapping[str, int]
    batch_size: int
    planned: Planned
    estimate: Estimate
    compiled: Figures | None
    largest: int
    advised: Mapping[str, int] | None
    advised_estimate: Estimate | None
    notes: tuple[str, ...]


def fits(estimate: Estimate, device: Device) -> bool:
    """Returns whether a step fits into a device's memory; everything fits if the memory is unknown."""
    return not device.memory or estimate.memory <= USABLE * device.memory


def largest_batch(estimator: Estimator, mesh: Mapping[str, int], device: Device) -> int:
    """Returns the most examples a step that fit, by bisection; a multiple of the devices that share the rows."""
    unit = mesh["data"] * mesh["fsdp"] * estimator.planned.optim.accumulate
    if not device.memory or not fits(estimator(mesh, unit), device):
        return 0
    low, high = 1, 2
    while high * unit <= LARGEST and fits(estimator(mesh, high * unit), device):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(estimator(mesh, middle * unit), device) else (low, middle)
    return low * unit


def advise(estimator: Estimator, target: Target, batch_size: int) -> tuple[Mapping[str, int] | None, Estimate | None]:
    """Returns the mesh with the fastest step by estimate among those that fit, and its estimate.

    Of meshes that are equally fast it takes the one that splits the model least. Empty rows, which a mesh adds to share
    the batch evenly, cost time as in training.
    """
    candidates: list[tuple[float, tuple[int, int], dict[str, int], Estimate]] = []
    for mesh in factorisations(target.count):
        estimate = estimator(mesh, batch_size)
        if fits(estimate, target.device):
            # Meshes within a hundredth of a millisecond count as equally fast.
            candidates.append((round(estimate.seconds, 5), (mesh["tensor"], mesh["fsdp"]), mesh, estimate))
    if not candidates:
        return None, None
    _, _, mesh, estimate = min(candidates, key=lambda candidate: candidate[:2])
    return mesh, estimate


def compile_for(planned: Planned, target: Target, mesh: Mapping[str, int], batch_size: int) -> Figures:
    """Compiles the step for the target and returns the compiler's figures.

    Raises:
        UserError: libtpu does not know the slice, or the step does not fit into its memory.
    """
    devices = topology_devices(target.topology) if target.kind == "tpu" else cpu_devices(target.count)
    rows = planned.rows_for(batch_size, mesh["data"] * mesh["fsdp"])
    try:
        return figures_of(compile_step(planned, rows, mesh, devices))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"the step does not fit into the memory of {target.name}",
            got=str(error).splitlines()[0][:200],
            fix="lower --train.batch-size, raise --optim.accumulate, use --model.remat or another mesh",
        ) from None


def measured_cpu(count: int) -> Device:
    """Measures this machine's rates and returns one of `count` simulated devices that share them.

    The matrix rate is that of float32 products of 1024 x 1024, the bandwidth that of an addition to 64 MiB. The vector
    rate is that of the error function, the most expensive common elementwise operation, counted as five operations.
    """
    x = jnp.full((1024, 1024), 0.5, jnp.float32)
    y = jnp.full((1 << 24,), 0.5, jnp.float32)
    z = jnp.full((1 << 18,), 0.5, jnp.float32)
    matrix = 2.0 * 1024**3 / _seconds(jax.jit(lambda a: a @ a), x)
    bandwidth = 2.0 * y.nbytes / _seconds(jax.jit(lambda a: a + 1), y)
    vector = 5.0 * z.size / _seconds(jax.jit(lambda a: 0.5 * a * (1 + jax.lax.erf(a))), z)
    rates = {"float32": matrix / count, "bfloat16": matrix / count}
    return Device("cpu", rates, 0.0, bandwidth / count, 0.0, vector=vector / count)


def _seconds(call: Any, argument: Any) -> float:
    """Returns the median duration of seven calls, after two that warm up."""
    durations = []
    for _ in range(9):
        began = time.perf_counter()
        jax.block_until_ready(call(argument))
        durations.append(time.perf_counter() - began)
    return sorted(durations[2:])[3]


def make_plan(
    config: Config | PretrainConfig, target: Target, *, length: int | None = None, compiler: bool
) -> Forecast:
    """Forecasts a run.

    Args:
        config: The experiment's config.
        target: The devices.
        length: Token slots of a row; None reads the data to find out.
        compiler: Whether to compile the step with the compiler of this process.

    Raises:
        UserError: The input is bad, the mesh does not fit the devices, or the step does not fit into their memory.
    """
    mesh = named_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, devices=target.count)
    planned = plan_step(config, length=length)
    if target.kind == "cpu":
        target = replace(target, device=measured_cpu(target.count))
    estimator = Estimator(planned, target.device, narrow=target.kind == "tpu")
    batch = config.train.batch_size
    advised, advised_estimate = advise(estimator, target, batch)
    figures = compile_for(planned, target, mesh, batch) if compiler else None
    notes = list(planned.notes)
    empty = planned.rows_for(batch, mesh["data"] * mesh["fsdp"]).rows - planned.rows.rows
    if empty > 0:
        notes.append(f"{empty} rows of a step are empty: the batch does not fill the devices that share it")
    return Forecast(
        target=target,
        mesh=mesh,
        batch_size=batch,
        planned=planned,
        estimate=estimator(mesh, batch),
        compiled=figures,
        largest=largest_batch(estimator, mesh, target.device),
        advised=advised,
        advised_estimate=advised_estimate,
        notes=tuple(notes),
    )
