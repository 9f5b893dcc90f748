"""The folder in which XLA keeps compiled programs across processes."""

import os
from pathlib import Path

import jax


def use_compilation_cache(folder: str | None) -> None:
    """Keep compiled programs across processes; '' keeps none."""
    if folder == "":
        return
    path = folder or os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pairjax", "xla")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache() -> str:
    """The folder that `use_compilation_cache` named in this process; '' for none."""
    return jax.config.values["jax_compilation_cache_dir"] or ""
