"""The folder in which XLA caches compiled programs across processes."""

import os
import sys

import jax

from pairjax.base.errors import UserError
from pairjax.base.fields import cache_root


def check_devices() -> None:
    """Starts JAX's devices.

    Raises:
        UserError: JAX finds no device, for example because JAX_PLATFORMS names one that this machine does not have.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        reason = str(error).strip().splitlines()
        raise UserError(
            "JAX cannot start its devices" + (f" (JAX_PLATFORMS={platforms})" if platforms else ""),
            got=reason[0][:200] if reason else "no device of this kind",
            fix="unset JAX_PLATFORMS or set it to cpu, or install JAX for the device"
            if platforms
            else "install JAX for the device, or set JAX_PLATFORMS=cpu",
        ) from error


def use_compilation_cache(folder: str | None) -> None:
    """Turns on the cache of compiled programs for this process.

    Args:
        folder: The cache folder; None for ~/.cache/pairjax/xla, '' to leave the cache as it is.
    """
    check_devices()
    if folder == "":
        return
    root = cache_root()
    if folder is None and root is None:
        line = "this user has no home folder, so compiled programs are not cached; name a folder with XDG_CACHE_HOME"
        print(f"pairjax: {line}", file=sys.stderr)
        return
    path = folder or os.path.join(root or "", "pairjax", "xla")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache() -> str:
    """Returns the cache folder of this process; '' if there is none."""
    return jax.config.values["jax_compilation_cache_dir"] or ""
