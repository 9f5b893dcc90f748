"""Shares jitted functions between the runs of a process, so a second run with the same settings compiles nothing.

`jax.jit` finds its compiled programs by the identity of a function. A function that is built anew for each run is
therefore traced and compiled anew, even if the settings are the same.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from pairjax.base.params import flatten
from pairjax.base.types import Params

F = TypeVar("F")
LIMIT = 32
"""Number of functions that are kept; the one that was used least recently is dropped."""

_functions: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.Lock()


def share(key: Hashable, build: Callable[[], F]) -> F:
    """Returns the jitted function that was built under this key, or builds it.

    Shared functions live as long as the process, so they must hold no arrays.

    Args:
        key: Everything that the function depends on, except its arguments. None, and a key that cannot be hashed,
            share nothing.
        build: Builds the function.
    """
    try:
        hash(key)
    except TypeError:
        key = None
    if key is None:
        return build()
    with _lock:
        function: F = _functions.pop(key) if key in _functions else build()
        _functions[key] = function
        if len(_functions) > LIMIT:
            _functions.popitem(last=False)
    return function


def tree_key(tree: Params | None) -> Hashable:
    """Returns a key of a tree whose leaves can be hashed."""
    return None if tree is None else tuple(flatten(tree).items())
