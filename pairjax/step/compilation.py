"""The folder in which XLA caches compiled programs across processes."""

import os
from pathlib import Path

import jax


def use_compilation_cache(folder: str | None) -> None:
    """Turns on the cache of compiled programs for this process.

    Args:
        folder: The cache folder; None for ~/.cache/pairjax/xla, '' to leave the cache as it is.
    """
    if folder == "":
        return
    path = folder or os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pairjax", "xla")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache() -> str:
    """Returns the cache folder of this process; '' if there is none."""
    return jax.config.values["jax_compilation_cache_dir"] or ""
