"""Finds the purpose of each operation of a compiled program in XLA's text of it."""

import re
from collections import defaultdict
from dataclasses import dataclass
from math import prod

GROUPS = (
    ("products of attention", r"DOT.*(rhqs|rqhd)"),
    ("products of the vocabulary", r"DOT.*/mlm"),
    ("products of affine maps", r"DOT"),
    ("softmax, mask, dropout, heads", r"/attention/"),
    ("LayerNorm", r"norm/"),
    ("embeddings", r"/embeddings/"),
    ("GELU, dropout, residuals", r"/layer_\d+/"),
    ("above the encoder, loss", r"jvp|classify|pooled|PairModel"),
    ("optimiser, norms of gradients", r"jit\(step\)/"),
)
"""Purposes of operations: the first pattern found in an `op_name` decides. DOT precedes the name of a product."""
OTHER = "copies, constants and the like"


@dataclass(frozen=True)
class Operation:
    """An instruction of a compiled program.

    Attributes:
        group: Its purpose, a label of `GROUPS` or `OTHER`.
        direction: "forward" or "backward" in a program with gradients, else empty.
        flops: Operations of the matrix products in it.
    """

    group: str
    direction: str
    flops: float


LINE = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([a-z\-]+)\((.*)$")


def _dimensions(shape: str) -> list[int]:
    """Parses the dimensions of an array's shape."""
    match = re.match(r"\w+\[([\d,]*)\]", shape)
    return [int(n) for n in match[1].split(",") if n] if match else []


def _dot_flops(shape: str, rest: str, shapes: dict[str, str]) -> float:
    """Counts two operations for each element of the result and each term of its sum."""
    left = re.match(r"(?:[^%]\S* )?%([\w.\-]+)", rest)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    assert left, rest
    assert contracted, rest
    sizes = _dimensions(shapes[left[1]])
    return 2.0 * prod(_dimensions(shape)) * prod(sizes[int(i)] for i in contracted[1].split(","))


def read_program(text: str) -> dict[str, Operation]:
    """Returns the operations of an optimised module by name, from XLA's text of it."""
    inside: dict[str, float] = defaultdict(float)
    operations: dict[str, Operation] = {}
    computation, shapes = "", {}
    for line in text.splitlines():
        if begins := re.match(r"^(?:ENTRY )?%([\w.\-]+) .*\{$", line):
            computation, shapes = begins[1], {}
        if not (instruction := LINE.match(line)):
            continue
        name, shape, opcode, rest = instruction.groups()
        shapes[name] = shape
        flops = _dot_flops(shape, rest, shapes) if opcode == "dot" else 0.0
        # A computation precedes its callers in the text.
        if called := re.search(r"(?:calls|to_apply)=%([\w.\-]+)", rest):
            flops += inside[called[1]]
        inside[computation] += flops
        scope = re.search(r'op_name="([^"]*)"', rest)
        label = ("DOT " if flops else "") + (scope[1] if scope else "")
        group = next((group for group, pattern in GROUPS if re.search(pattern, label)), OTHER)
        direction = "backward" if "transpose(" in label else "forward" if "jvp(" in label else ""
        operations[name] = Operation(group, direction, flops)
    return operations
