"""Formats a forecast as lines of text."""

from collections.abc import Iterable, Mapping

from pairjax.plan.advise import USABLE, Forecast
from pairjax.plan.compiled import Traffic
from pairjax.step.sharding import AXES


def format_mesh(mesh: Mapping[str, int]) -> str:
    """Formats a mesh as `data=4 x fsdp=1 x tensor=1`."""
    return " x ".join(f"{axis}={mesh[axis]}" for axis in AXES)


def format_bytes(size: float) -> str:
    """Formats a size as `1.30 GB`, or in MB below one GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def format_forecast(plan: Forecast) -> Iterable[str]:
    """Yields the lines of a forecast."""
    estimate, device, rows = plan.estimate, plan.target.device, plan.planned.rows
    step_rows = plan.planned.rows_for(plan.batch_size, plan.mesh["data"] * plan.mesh["fsdp"])
    yield f"{plan.target.name}, {plan.target.count} devices, mesh {format_mesh(plan.mesh)}"
    yield f"a step: {plan.batch_size} examples in {step_rows.rows} rows of {rows.length} slots, {plan.planned.dtype}"
    if len(plan.planned.lengths) > 1:
        steps = ", ".join(f"{count} of {length}" for length, count in sorted(plan.planned.lengths.items()))
        yield f"  an epoch's steps by row length: {steps}; all figures below are for the longest"
    yield from plan.notes
    yield ""
    yield "each device, ESTIMATED from the step's shapes" + ("" if plan.compiled else " (nothing was compiled)")
    parts = {
        "parameters": estimate.parameters,
        "moments": estimate.moments,
        "batch": estimate.batch,
        "temporaries": estimate.temporaries,
        "memory": estimate.memory,
    }
    for name, size in parts.items():
        yield f"  {name:<12} {format_bytes(size):>10}"
    gradients, activations = format_bytes(estimate.gradients), format_bytes(estimate.activations)
    yield f"  (of temporaries: gradients {gradients}, activations {activations})"
    yield f"  arithmetic   {estimate.flops / 1e9:>7.1f} GFLOP a step"
    yield from _traffic_lines(estimate.collectives)
    rate = device.rates[plan.planned.dtype]
    yield (
        f"  step time    {1e3 * estimate.seconds:>7.2f} ms at the peaks ({rate / 1e12:.3g} TFLOP/s, "
        f"{device.bandwidth / 1e9:.0f} GB/s), {1e3 * estimate.wire_seconds:.2f} ms of it between devices"
    )
    if plan.compiled is not None:
        yield from _compiled_lines(plan)
    yield ""
    yield from _advice_lines(plan)


def _traffic_lines(collectives: Mapping[str, Traffic]) -> Iterable[str]:
    """Yields a line for each kind of collective."""
    for kind, total in collectives.items():
        yield f"  {kind:<18} {total.count:>4} of {format_bytes(total.bytes)} in all"
    if not collectives:
        yield "  no collectives"


def _compiled_lines(plan: Forecast) -> Iterable[str]:
    """Yields the figures of the compiled program."""
    figures = plan.compiled
    assert figures is not None
    compiler = "XLA:TPU" if plan.target.kind == "tpu" else "XLA:CPU"
    yield ""
    yield f"each device, COMPILED by {compiler}"
    yield f"  arguments    {format_bytes(figures.arguments):>10}"
    yield f"  temporaries  {format_bytes(figures.temporaries):>10}"
    share = f"(estimate {plan.estimate.memory / figures.memory:.2f} of it)"
    yield f"  memory       {format_bytes(figures.memory):>10}  {share}"
    yield f"  program      {format_bytes(figures.code):>10}"
    share = f"  (estimate {plan.estimate.flops / figures.flops:.2f} of it)" if figures.flops else ""
    yield f"  arithmetic   {figures.flops / 1e9:>7.1f} GFLOP a step{share}"
    yield from _traffic_lines(figures.collectives)
    for kind, total in figures.moves.items():
        yield f"  {kind:<18} {total.count:>4} of {format_bytes(total.bytes)} in all"


def _advice_lines(plan: Forecast) -> Iterable[str]:
    """Yields the largest batch and the fastest mesh."""
    device = plan.target.device
    if device.memory:
        memory, room = format_bytes(device.memory), format_bytes(USABLE * device.memory)
        fit = f"{plan.largest} examples a step" if plan.largest else "not one example"
        yield f"largest batch on this mesh, by estimate: {fit} ({USABLE:.0%} of {memory} is {room})"
    if plan.advised is None or plan.advised_estimate is None:
        yield "advice: the step fits no mesh of these devices; lower --train.batch-size or use --model.remat"
    elif dict(plan.advised) == dict(plan.mesh):
        yield "advice: this mesh is the fastest by estimate"
    else:
        flags = " ".join(f"--mesh.{axis} {size}" for axis, size in plan.advised.items())
        yield f"advice: {flags} ({1e3 * plan.advised_estimate.seconds:.2f} ms a step by estimate)"
