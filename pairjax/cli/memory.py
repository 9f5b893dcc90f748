"""Restarts a command with huge memory pages, if the system offers them on request.

A training step writes a gigabyte of activations into memory that the system allocates afresh each time, by default in
pages of 4 KB. On Linux, glibc requests pages of 2 MB if the process is started with a certain environment variable
(experiments/benchmarks/NOTES.md has the measured gain).
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLES, HUGE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SINCE = (2, 35)
"""First version of glibc with this setting."""


def with_huge_pages(environ: Mapping[str, str], *, offered: str, libc: tuple[str, str]) -> dict[str, str] | None:
    """Returns the environment in which glibc requests huge pages; None if that would change nothing.

    Args:
        environ: The current environment. The user's own choice of this setting is respected.
        offered: The kernel's setting, for example "always [madvise] never".
        libc: Name and version of the C library.
    """
    name, version = libc
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < SINCE:
        return None
    tunables = environ.get(TUNABLES, "")
    if "[madvise]" not in offered or HUGE in tunables:
        return None
    return {**environ, TUNABLES: f"{tunables}:{HUGE}=1" if tunables else f"{HUGE}=1"}


def restart_with_huge_pages() -> None:
    """Restarts this process with the same command line and huge pages; returns at once if that would change nothing."""
    try:
        offered = OFFERED.read_text()
        environ = with_huge_pages(os.environ, offered=offered, libc=platform.libc_ver())
    except (OSError, ValueError):
        return
    if environ is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
