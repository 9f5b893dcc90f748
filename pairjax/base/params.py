"""Address parameters by path: flatten, split and merge trees, and look paths up in tables of patterns.

A table is a sequence of (pattern, value). The first pattern that matches a path gives its value, and a path that no
pattern matches is an error. Weight decay, learning rates, freezing and sharding are such tables.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pairjax.base.errors import UserError
from pairjax.base.types import Params

T = TypeVar("T")
Table = Sequence[tuple[str, T]]


def flatten(params: Params) -> dict[str, Any]:
    """Converts a nested dict to `{path: leaf}`, sorted by key at each level."""
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
    """Converts `{path: leaf}` back to a nested dict."""
    tree: Params = {}
    for path, leaf in flat.items():
        node = tree
        *parents, name = path.split("/")
        for key in parents:
            node = node.setdefault(key, {})
        node[name] = leaf
    return tree


def lookup(table: Table[T], paths: Sequence[str]) -> dict[str, T]:
    """Returns the value of each path: that of the first pattern that matches the whole path (`re.fullmatch`).

    Args:
        table: Pairs of pattern and value.
        paths: The paths to look up.

    Raises:
        UserError: No pattern matches a path.
    """
    values: dict[str, T] = {}
    for path in paths:
        for pattern, value in table:
            if re.fullmatch(pattern, path):
                values[path] = value
                break
        else:
            raise UserError(
                f"no pattern covers the parameter {path}",
                expected=f"one of {', '.join(pattern for pattern, _ in table)}",
            )
    return values


def split(params: Params, chosen: Mapping[str, bool]) -> tuple[Params, Params]:
    """Splits a tree in two: the chosen paths, and the rest.

    Args:
        params: The tree.
        chosen: Whether each path belongs to the first tree.
    """
    flat = flatten(params)
    inside = {path: leaf for path, leaf in flat.items() if chosen[path]}
    outside = {path: leaf for path, leaf in flat.items() if not chosen[path]}
    return unflatten(inside), unflatten(outside)


def merge(first: Params, second: Params) -> Params:
    """Merges two trees.

    Raises:
        ValueError: A path is in both trees.
    """
    left, right = flatten(first), flatten(second)
    both = left.keys() & right.keys()
    if both:
        raise ValueError(f"parameters in both trees: {sorted(both)}")
    return unflatten(left | right)
