"""The leaves of a training state by path, and the check that a checkpoint fits a state."""

from collections.abc import Mapping
from typing import Any

import jax

from pairjax.base.errors import UserError


def flatten_state(state: Any) -> dict[str, Any]:
    """Returns the leaves by path, such as `opt_state.0.mu.encoder.layer_0...`, in one dict for any containers."""
    pairs = jax.tree_util.tree_flatten_with_path(state)[0]
    flat = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in pairs}
    if len(flat) != len(pairs):
        raise ValueError("two leaves of the state have the same path")
    return flat


def leaf_spec(leaf: Any) -> str:
    """Returns a leaf's dtype and shape, such as `float32[8,16]`."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def check_fits(place: str, *, saved: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Checks that a checkpoint has the paths, dtypes and shapes of a state; Orbax would cast silently.

    Args:
        place: The checkpoint, for the message.
        saved: The spec of each leaf in the checkpoint, by path.
        wanted: The spec of each leaf of the state, by path.

    Raises:
        UserError: They differ; names the first path.
    """
    differ = [path for path in sorted(saved.keys() | wanted.keys()) if saved.get(path) != wanted.get(path)]
    if differ:
        first = differ[0]
        raise UserError(
            f"{place} is of another model: {first}" + (f" and {len(differ) - 1} more" if len(differ) > 1 else ""),
            got=saved.get(first, "nothing in the checkpoint"),
            expected=wanted.get(first, "nothing of that path"),
            fix="resume with the model and the optimiser that the run was started with",
        )
