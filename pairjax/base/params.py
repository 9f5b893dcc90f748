"""Parameters by path: flatten, split, merge, and tables from path patterns to a treatment.

A table is a sequence of (pattern, value); the first pattern that matches a path gives its value, and a path that no
pattern covers is an error: decay, learning rates, freezing and sharding are all such tables.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pairjax.base.errors import UserError
from pairjax.base.types import Params

T = TypeVar("T")
Table = Sequence[tuple[str, T]]


def flatten(params: Params) -> dict[str, Any]:
    """Nested dict to `{path: leaf}`, in the order of the tree."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, Mapping):
            for key in sorted(node):
                walk(f"{prefix}{key}/", node[key])
        else:
            flat[prefix[:-1]] = node

    walk("", params)
    return flat


def unflatten(flat: Mapping[str, Any]) -> Params:
    """`{path: leaf}` back to a nested dict."""
    tree: Params = {}
    for path, leaf in flat.items():
        node = tree
        *parents, name = path.split("/")
        for key in parents:
            node = node.setdefault(key, {})
        node[name] = leaf
    return tree


def lookup(table: Table[T], paths: Sequence[str]) -> dict[str, T]:
    """The value of each path: that of the first pattern which matches the whole of it (`re.fullmatch`).

    Raises:
        UserError: Some path is covered by no pattern.
    """
    found: dict[str, T] = {}
    for path in paths:
        for pattern, value in table:
            if re.fullmatch(pattern, path):
                found[path] = value
                break
        else:
            raise UserError(
                f"no pattern covers the parameter {path}",
                expected=f"one of {', '.join(pattern for pattern, _ in table)}",
            )
    return found


def map_paths(fn: Callable[[str, Any], T], params: Params) -> dict[str, Any]:
    """A tree of `fn(path, leaf)`, shaped like `params`."""
    return unflatten({path: fn(path, leaf) for path, leaf in flatten(params).items()})


def split(params: Params, chosen: Mapping[str, bool]) -> tuple[Params, Params]:
    """Two trees: the paths chosen, and the rest."""
    flat = flatten(params)
    inside = {path: leaf for path, leaf in flat.items() if chosen[path]}
    outside = {path: leaf for path, leaf in flat.items() if not chosen[path]}
    return unflatten(inside), unflatten(outside)


def merge(one: Params, other: Params) -> Params:
    """The tree of both; their paths must be disjoint."""
    left, right = flatten(one), flatten(other)
    both = left.keys() & right.keys()
    if both:
        raise ValueError(f"parameters in both trees: {sorted(both)}")
    return unflatten(left | right)
