"""Parameter trees for tests."""

from collections.abc import Callable
from typing import Any

from pairjax.base.params import flatten, unflatten
from pairjax.base.types import Params


def map_paths(function: Callable[[str, Any], Any], params: Params) -> Params:
    """Returns the tree with `function(path, leaf)` in place of each leaf."""
    return unflatten({path: function(path, leaf) for path, leaf in flatten(params).items()})
