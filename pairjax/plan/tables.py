"""A plan as lines of text."""

from collections.abc import Iterable, Mapping

from pairjax.plan.advise import USABLE, Forecast
from pairjax.plan.compiled import Traffic
from pairjax.step.sharding import AXES


def mesh_name(mesh: Mapping[str, int]) -> str:
    """`data=4 x fsdp=1 x tensor=1`."""
    return " x ".join(f"{axis}={mesh[axis]}" for axis in AXES)


def in_bytes(size: float) -> str:
    """`1.3 GB`, or MB below one."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def shown(plan: Forecast) -> Iterable[str]:
    """The plan, line by line."""
    made, device, rows = plan.estimate, plan.target.device, plan.planned.rows
    whole = plan.planned.rows_for(plan.batch_size, plan.mesh["data"] * plan.mesh["fsdp"])
    yield f"{plan.target.name}, {plan.target.count} devices, mesh {mesh_name(plan.mesh)}"
    yield f"a step: {plan.batch_size} examples in {whole.rows} rows of {rows.length} slots, {plan.planned.dtype}"
    if len(plan.planned.lengths) > 1:
        steps = ", ".join(f"{count} of {length}" for length, count in sorted(plan.planned.lengths.items()))
        yield f"  an epoch's steps by row length: {steps}; all below is of the longest"
    yield from plan.notes
    yield ""
    yield "each device, ESTIMATED from the step's shapes" + ("" if plan.compiled else " (nothing was compiled)")
    parts = {
        "parameters": made.parameters,
        "moments": made.moments,
        "batch": made.batch,
        "temporaries": made.temporaries,
        "memory": made.memory,
    }
    for name, size in parts.items():
        yield f"  {name:<12} {in_bytes(size):>10}"
    yield f"  (of temporaries: gradients {in_bytes(made.gradients)}, activations {in_bytes(made.activations)})"
    yield f"  arithmetic   {made.flops / 1e9:>7.1f} GFLOP a step"
    yield from _traffic_lines(made.collectives)
    rate = device.rates[plan.planned.dtype]
    yield (
        f"  step time    {1e3 * made.seconds:>7.2f} ms at the peaks ({rate / 1e12:.3g} TFLOP/s, "
        f"{device.bandwidth / 1e9:.0f} GB/s), {1e3 * made.wire_seconds:.2f} ms of it between devices"
    )
    if plan.compiled is not None:
        yield from _compiled_lines(plan)
    yield ""
    yield from _advice_lines(plan)


def _traffic_lines(found: Mapping[str, Traffic]) -> Iterable[str]:
    for kind, one in found.items():
        yield f"  {kind:<18} {one.count:>4} of {in_bytes(one.bytes)} in all"
    if not found:
        yield "  no collectives"


def _compiled_lines(plan: Forecast) -> Iterable[str]:
    figures = plan.compiled
    assert figures is not None
    compiler = "XLA:TPU" if plan.target.kind == "tpu" else "XLA:CPU"
    yield ""
    yield f"each device, COMPILED by {compiler}"
    yield f"  arguments    {in_bytes(figures.arguments):>10}"
    yield f"  temporaries  {in_bytes(figures.temporaries):>10}"
    yield f"  memory       {in_bytes(figures.memory):>10}  (estimate {plan.estimate.memory / figures.memory:.2f} of it)"
    yield f"  program      {in_bytes(figures.code):>10}"
    share = f"  (estimate {plan.estimate.flops / figures.flops:.2f} of it)" if figures.flops else ""
    yield f"  arithmetic   {figures.flops / 1e9:>7.1f} GFLOP a step{share}"
    yield from _traffic_lines(figures.collectives)
    for kind, one in figures.moves.items():
        yield f"  {kind:<18} {one.count:>4} of {in_bytes(one.bytes)} in all"


def _advice_lines(plan: Forecast) -> Iterable[str]:
    device = plan.target.device
    if device.memory:
        room = in_bytes(USABLE * device.memory)
        fit = f"{plan.largest} examples a step" if plan.largest else "not one example"
        yield f"largest batch on this mesh, by estimate: {fit} ({USABLE:.0%} of {in_bytes(device.memory)} is {room})"
    if plan.advised is None or plan.advised_estimate is None:
        yield "advice: no mesh of these devices holds it; lower --train.batch-size or use --model.remat"
    elif dict(plan.advised) == dict(plan.mesh):
        yield "advice: this mesh is the fastest by estimate"
    else:
        flags = " ".join(f"--mesh.{axis} {size}" for axis, size in plan.advised.items())
        yield f"advice: {flags} ({1e3 * plan.advised_estimate.seconds:.2f} ms a step by estimate)"
