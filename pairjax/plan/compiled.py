"""A step compiled ahead of time, and what its program says: memory, operations, collectives, copies."""

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
"""Bytes below which a copy is a scalar or two that changes its memory space."""

INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.-]+ = (?P<shape>\(.*?\)|\S+) (?P<op>[\w-]+)\(")
ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")


@dataclass(frozen=True)
class Traffic:
    """A kind of instruction of a program.

    Attributes:
        count: How often it stands there; inside a loop once.
        bytes: Of the arrays that it gives on one device (of what it takes, for reduce-scatter).
        wire: Bytes that a device sends by a ring, the best that any algorithm does.
    """

    count: int = 0
    bytes: float = 0.0
    wire: float = 0.0

    def plus(self, size: float, wire: float = 0.0) -> "Traffic":
        """This, and one more."""
        return Traffic(self.count + 1, self.bytes + size, self.wire + wire)


@dataclass(frozen=True)
class Figures:
    """What a compiled program says of itself, for one device.

    Attributes:
        arguments: Bytes of parameters, moments and batch.
        temporaries: Bytes besides, at the worst moment: activations, gradients.
        code: Bytes of the program.
        flops: Floating-point operations a step; a loop's body counts once.
        collectives: By kind; only those that occur.
        moves: Copies and transposes of more than a kilobyte.
        gathered: Sizes in bytes of what all-gathers give, one each.
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
        """Bytes that the arguments and temporaries need at once."""
        return self.arguments + self.temporaries


def array_bytes(shape: str) -> list[float]:
    """Sizes of the arrays of an HLO shape, a tuple's one by one."""
    return [
        float(math.prod(int(dim) for dim in dims.split(",") if dim)) * BYTES.get(kind, 4)
        for kind, dims in ARRAY.findall(shape)
    ]


def group_size(line: str) -> int:
    """Devices that a collective joins, by its `replica_groups` in any of HLO's three spellings; 1 where it has none."""
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", line):
        sizes = dict(re.findall(r"'?([\w.]+)'?=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([\w.]+)'", found[2]) if axis in sizes)
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(found[1].split(","))
    return 1


def instructions(text: str) -> Iterator[tuple[str, str, str]]:
    """Each instruction of an HLO module: operation, shape, and the whole line."""
    for line in text.splitlines():
        if found := INSTRUCTION.match(line):
            yield found["op"], found["shape"], line


def traffic(text: str) -> tuple[dict[str, Traffic], dict[str, Traffic], tuple[float, ...]]:
    """Collectives by kind, copies and transposes, and the sizes of what all-gathers give.

    An asynchronous collective counts at its start, whose shape may repeat its operands; a copy between memories
    (`copy-start`) counts as no copy, since it prefetches, nor does a transpose that keeps the order.
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
    found = re.search(r" transpose\(.*dimensions=\{([\d,]*)\}", line)
    return found is not None and found[1].split(",") == sorted(found[1].split(","), key=int)


def compile_step(planned: Planned, rows: Rows, mesh_shape: Mapping[str, int], devices: Any) -> Any:
    """The compiled update of an experiment on these devices, real, simulated or of a topology."""
    mesh = build_mesh(devices, **mesh_shape)
    step = on_mesh(planned, rows, mesh)
    return step.update.compiled.lower(step.state, step.frozen, step.batch, planned.hypers).compile()


def figures_of(compiled: Any) -> Figures:
    """What a compiled program says of itself."""
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
    """The devices of a TPU slice that is not there, by libtpu's ahead-of-time compiler.

    Raises:
        UserError: This libtpu does not know the slice.
    """
    from jax.experimental import topologies

    # A chip of v4 has two cores, which are one device unless it is asked otherwise; libtpu must be told so.
    fused = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **fused).devices
    except (RuntimeError, ValueError) as error:
        raise UserError(f"libtpu knows no slice {topology}", got=str(error)[:200]) from None


def cpu_devices(count: int) -> Any:
    """So many of this machine's CPU devices, simulated where XLA_FLAGS asked for them.

    Raises:
        UserError: There are fewer.
    """
    found = jax.devices("cpu")
    if len(found) < count:
        raise UserError("this process simulates fewer CPU devices", got=len(found), expected=count)
    return found[:count]
