"""What the operations of a compiled program are for, from XLA's text of it."""

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
"""What an operation is for: the first whose pattern is in its `op_name`, after DOT where it holds a product."""
OTHER = "copies, constants and the like"


@dataclass(frozen=True)
class Operation:
    """An instruction of a compiled program; `flops` is the arithmetic of its products."""

    group: str
    direction: str
    flops: float


LINE = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([a-z\-]+)\((.*)$")


def _dimensions(shape: str) -> list[int]:
    found = re.match(r"\w+\[([\d,]*)\]", shape)
    return [int(n) for n in found[1].split(",") if n] if found else []


def _dot(shape: str, rest: str, shapes: dict[str, str]) -> float:
    """Two operations for each element of the result and each term of its sum."""
    left = re.match(r"(?:[^%]\S* )?%([\w.\-]+)", rest)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    assert left, rest
    assert contracted, rest
    sizes = _dimensions(shapes[left[1]])
    return 2.0 * prod(_dimensions(shape)) * prod(sizes[int(i)] for i in contracted[1].split(","))


def read_program(text: str) -> dict[str, Operation]:
    """Operations by name, from XLA's text of an optimised module."""
    inside: dict[str, float] = defaultdict(float)
    made: dict[str, Operation] = {}
    computation, shapes = "", {}
    for line in text.splitlines():
        if begins := re.match(r"^(?:ENTRY )?%([\w.\-]+) .*\{$", line):
            computation, shapes = begins[1], {}
        if not (found := LINE.match(line)):
            continue
        name, shape, opcode, rest = found.groups()
        shapes[name] = shape
        flops = _dot(shape, rest, shapes) if opcode == "dot" else 0.0
        # Computations stand before those that call them.
        if called := re.search(r"(?:calls|to_apply)=%([\w.\-]+)", rest):
            flops += inside[called[1]]
        inside[computation] += flops
        scope = re.search(r'op_name="([^"]*)"', rest)
        place = ("DOT " if flops else "") + (scope[1] if scope else "")
        group = next((label for label, pattern in GROUPS if re.search(pattern, place)), OTHER)
        direction = "backward" if "transpose(" in place else "forward" if "jvp(" in place else ""
        made[name] = Operation(group, direction, flops)
    return made
