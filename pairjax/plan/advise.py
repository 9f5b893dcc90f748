"""What a run would need on devices that nobody has rented yet: `pairjax plan`.

An estimate (`cost`) stands in for every mesh and batch; where a compiler for the devices is at hand, the step is
compiled ahead of time for the mesh of the config (`compiled`), and its own figures stand beside the estimate.
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
"""Share of the memory that a plan fills: the runtime and the program itself take the rest."""
LARGEST = 1 << 20
"""Examples a step beyond which no batch is tried."""


@dataclass(frozen=True)
class Forecast:
    """A plan, ready to be shown.

    Attributes:
        target: Where the run is to go.
        mesh: Of the config.
        batch_size: Examples a step.
        planned: The step.
        estimate: For the config's mesh.
        compiled: What the compiler says; None where there is none.
        largest: Most examples a step that fit the config's mesh; 0 where not one does.
        advised: The mesh that is fastest among those that fit; None where none does.
        advised_estimate: For that mesh.
        notes: A line each.
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
    """Whether a step's memory is there; a device of unknown memory holds everything."""
    return not device.memory or estimate.memory <= USABLE * device.memory


def largest_batch(estimator: Estimator, mesh: Mapping[str, int], device: Device) -> int:
    """Most examples a step that fit, by halving; a multiple of the devices that share the rows."""
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
    """The mesh whose step is fastest by estimate among those that fit; of equals the one that splits least.

    Rows that a mesh rounds up to are paid for, as in training.
    """
    found: list[tuple[float, tuple[int, int], dict[str, int], Estimate]] = []
    for mesh in factorisations(target.count):
        made = estimator(mesh, batch_size)
        if fits(made, target.device):
            # Within a hundredth of a millisecond two meshes are alike.
            found.append((round(made.seconds, 5), (mesh["tensor"], mesh["fsdp"]), mesh, made))
    if not found:
        return None, None
    _, _, mesh, made = min(found, key=lambda one: one[:2])
    return mesh, made


def compile_for(planned: Planned, target: Target, mesh: Mapping[str, int], batch_size: int) -> Figures:
    """The step compiled for the target by the compiler that is here.

    Raises:
        UserError: libtpu does not know the slice, or the step does not fit its memory.
    """
    devices = topology_devices(target.topology) if target.kind == "tpu" else cpu_devices(target.count)
    rows = planned.rows_for(batch_size, mesh["data"] * mesh["fsdp"])
    try:
        return figures_of(compile_step(planned, rows, mesh, devices))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"the step does not fit {target.name}",
            got=str(error).splitlines()[0][:200],
            fix="lower --train.batch-size, raise --optim.accumulate, use --model.remat or another mesh",
        ) from None


def measured_cpu(count: int) -> Device:
    """One of `count` simulated devices of this machine: its measured rates, shared out.

    Matrix rate: float32 products of 1024 x 1024. Bandwidth: an addition of 64 MiB. Vector rate: error functions, the
    dearest common elementwise operation, five operations each.
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
    """Of a call, the median of seven after two that warm up."""
    taken = []
    for _ in range(9):
        began = time.perf_counter()
        jax.block_until_ready(call(argument))
        taken.append(time.perf_counter() - began)
    return sorted(taken[2:])[3]


def make_plan(
    config: Config | PretrainConfig, target: Target, *, length: int | None = None, compiler: bool
) -> Forecast:
    """Forecast a run.

    Args:
        config: The experiment.
        target: Where it is to go.
        length: Slots of a row, instead of reading the data.
        compiler: Whether to compile the step with the compiler that is in this process.

    Raises:
        UserError: Bad input, a mesh that does not fit the devices, or a step that does not fit their memory.
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
    wasted = planned.rows_for(batch, mesh["data"] * mesh["fsdp"]).rows - planned.rows.rows
    if wasted > 0:
        notes.append(f"{wasted} of the rows of a step are empty: the batch does not fill the devices that share it")
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
