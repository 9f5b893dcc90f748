"""Rename the keys of result.json and metrics.jsonl that older versions wrote to today's names."""

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "order_accuracy": "segment_accuracy",
    "order_accuracy_whole": "segment_accuracy_unmasked",
    "order_loss": "segment_loss",
    "oracles": "baselines",
    "over_oracles": "over_baselines",
}
"""Names of version 0.1.0 with today's names; a split may precede them, as in "dev/order_loss"."""


def with_current_names(value: Any) -> Any:
    """Returns plain data with the names of older versions replaced by today's.

    Args:
        value: The contents of a JSON file.

    Returns:
        The same data, in which keys that `RENAMED` lists are replaced at any depth.
    """
    if isinstance(value, Mapping):
        return {_current(name): with_current_names(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_current_names(item) for item in value]
    return value


def _current(name: str) -> str:
    """Returns today's name for a key, whose split (before the slash) is kept."""
    head, slash, last = name.rpartition("/")
    return head + slash + RENAMED.get(last, last)
