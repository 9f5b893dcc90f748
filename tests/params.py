"""Build parameter trees for tests."""

from collections.abc import Callable
from typing import Any

from pairjax.base.params import flatten, unflatten
from pairjax.base.types import Params


def map_paths(fn: Callable[[str, Any], Any], params: Params) -> Params:
    """Returns a tree shaped like `params` whose leaves are `fn(path, leaf)`."""
    return unflatten({path: fn(path, leaf) for path, leaf in flatten(params).items()})
