"""Compiles a step ahead of time and reads the program's memory, operations, collectives and copies."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from pairjax.base.errors import UserError
from pairjax.plan.step import Planned, Rows, on_mesh
from pairjax.step.sharding import build_mesh

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
BYTES |= {"f64": 8, "s64": 8, "u64": 8}
SMALL = 1024
"""Copies of at most this many bytes are not counted: they move a few scalars between memory spaces."""

INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.-]+ = (?P<shape>\(.*?\)|\S+) (?P<op>[\w-]+)\(")
ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")


@dataclass(frozen=True)
class Traffic:
    """All instructions of one kind in a program.

    Attributes:
        count: Number of instructions; one inside a loop counts once.
        bytes: Size of their results on one device; for reduce-scatter, of their operands.
        wire: Bytes that a device sends with a ring algorithm, which is optimal.
    """

    count: int = 0
    bytes: float = 0.0
    wire: float = 0.0

    def plus(self, size: float, wire: float = 0.0) -> "Traffic":
        """Returns the traffic with one more instruction."""
        return Traffic(self.count + 1, self.bytes + size, self.wire + wire)


@dataclass(frozen=True)
class Figures:
    """The figures of a compiled program, for one device.

    Attributes:
        arguments: Bytes of parameters, moments and batch.
        temporaries: Peak bytes of everything else: activations, gradients.
        code: Bytes of the program.
        flops: Floating-point operations a step; a loop's body counts once.
        collectives: Collectives by kind; only kinds that occur.
        moves: Copies and transposes of more than a kilobyte.
        gathered: Size in bytes of each all-gather's result.
    """

    arguments: float
    temporaries: float
    code: float
    flops: float
    collectives: Mapping[str, Traffic]
    moves: Mapping[str, Traffic] = field(default_factory=dict)
    gathered: tuple[float, ...] = ()

    @property
    def memory(self) -> float:
        """Bytes of arguments and temporaries together."""
        return self.arguments + self.temporaries


def array_bytes(shape: str) -> list[float]:
    """Returns the sizes in bytes of the arrays in an HLO shape, one for each element of a tuple."""
    return [
        float(math.prod(int(dim) for dim in dims.split(",") if dim)) * BYTES.get(kind, 4)
        for kind, dims in ARRAY.findall(shape)
    ]


def group_size(line: str) -> int:
    """Returns the number of devices in a collective's `replica_groups`, in any of HLO's three forms; 1 without any."""
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", line):
        sizes = dict(re.findall(r"'?([\w.]+)'?=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([\w.]+)'", match[2]) if axis in sizes)
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(match[1].split(","))
    return 1


def instructions(text: str) -> Iterator[tuple[str, str, str]]:
    """Yields the operation, the shape and the line of each instruction of an HLO module."""
    for line in text.splitlines():
        if match := INSTRUCTION.match(line):
            yield match["op"], match["shape"], line


def traffic(text: str) -> tuple[dict[str, Traffic], dict[str, Traffic], tuple[float, ...]]:
    """Returns collectives by kind, copies and transposes by kind, and the sizes of all-gathers' results.

    An asynchronous collective counts at its start, whose shape may repeat its operands. A copy between memory spaces
    (`copy-start`) does not count, because it prefetches; nor does a transpose that keeps the order of the dimensions.

    Args:
        text: The HLO module.
    """
    collectives: dict[str, Traffic] = {}
    moves: dict[str, Traffic] = {}
    gathered: list[float] = []
    for op, shape, line in instructions(text):
        kind = op.removesuffix("-start")
        sizes = array_bytes(shape)
        if kind in COLLECTIVES:
            devices = group_size(line)
            if kind == "all-gather" and op.endswith("-start"):
                sizes = sizes[len(sizes) // 2 :]
            if kind == "collective-permute" and op.endswith("-start"):
                sizes = sizes[:1]
            if kind == "all-gather":
                gathered += sizes
            size = sum(sizes) * (devices if kind == "reduce-scatter" else 1)
            share = {"all-reduce": 2 * (devices - 1) / devices, "collective-permute": 1.0}
            wire = size * share.get(kind, (devices - 1) / devices)
            collectives[kind] = collectives.get(kind, Traffic()).plus(size, wire)
        elif op in ("copy", "transpose") and sum(sizes) > SMALL and not _keeps_order(line):
            moves[op] = moves.get(op, Traffic()).plus(sum(sizes))
    return collectives, moves, tuple(gathered)


def _keeps_order(line: str) -> bool:
    """Returns whether a transpose keeps the order of the dimensions."""
    match = re.search(r" transpose\(.*dimensions=\{([\d,]*)\}", line)
    return match is not None and match[1].split(",") == sorted(match[1].split(","), key=int)


def compile_step(planned: Planned, rows: Rows, mesh_shape: Mapping[str, int], devices: Any) -> Any:
    """Compiles the update of an experiment.

    Args:
        planned: The experiment's step.
        rows: The rows of a step.
        mesh_shape: Size of each axis of the mesh.
        devices: The devices: real, simulated, or of a topology.
    """
    mesh = build_mesh(devices, **mesh_shape)
    step = on_mesh(planned, rows, mesh)
    return step.update.compiled.lower(step.state, step.frozen, step.batch, planned.hypers).compile()


def figures_of(compiled: Any) -> Figures:
    """Reads the figures of a compiled program."""
    memory = compiled.memory_analysis()
    collectives, moves, gathered = traffic(compiled.as_text())
    return Figures(
        arguments=float(memory.argument_size_in_bytes),
        temporaries=float(memory.temp_size_in_bytes + max(0, memory.output_size_in_bytes - memory.alias_size_in_bytes)),
        code=float(memory.generated_code_size_in_bytes),
        flops=float(compiled.cost_analysis().get("flops", 0.0)),
        collectives=collectives,
        moves=moves,
        gathered=gathered,
    )


def topology_devices(topology: str) -> Any:
    """Returns the devices of a TPU slice for libtpu's ahead-of-time compiler; the slice need not exist.

    Raises:
        UserError: This libtpu does not know the slice.
    """
    from jax.experimental import topologies

    # The two cores of a v4 chip are one device by default, but libtpu needs the option.
    fused = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **fused).devices
    except (RuntimeError, ValueError) as error:
        raise UserError(f"libtpu knows no slice {topology}", got=str(error)[:200]) from None


def cpu_devices(count: int) -> Any:
    """Returns `count` of this machine's CPU devices, which XLA_FLAGS may simulate.

    Raises:
        UserError: The process has fewer CPU devices.
    """
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError("this process has too few CPU devices", got=len(devices), expected=count)
    return devices[:count]
