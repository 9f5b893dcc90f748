"""Memory in huge pages, where the system gives them to those who ask.

A training step writes a gigabyte of activations into memory that the system hands out afresh each time, by default 4 KB
at a time. On Linux, glibc asks for pages of 2 MB if it is told to before the process starts
(experiments/benchmarks/NOTES.md says what that gives).
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLES, HUGE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SINCE = (2, 35)
"""Of glibc, which has known the setting since then."""


def with_huge_pages(environ: Mapping[str, str], *, offered: str, libc: tuple[str, str]) -> dict[str, str] | None:
    """The environment in which glibc asks for huge pages; None where it would change nothing.

    Args:
        environ: As it is. A setting of the user's stays.
        offered: What the kernel says, as "always [madvise] never".
        libc: Its name and version.
    """
    name, version = libc
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < SINCE:
        return None
    given = environ.get(TUNABLES, "")
    if "[madvise]" not in offered or HUGE in given:
        return None
    return {**environ, TUNABLES: f"{given}:{HUGE}=1" if given else f"{HUGE}=1"}


def restart_with_huge_pages() -> None:
    """Begin this process again, with its command line, in that environment; return at once where it changes nothing."""
    try:
        offered = OFFERED.read_text()
        found = with_huge_pages(os.environ, offered=offered, libc=platform.libc_ver())
    except (OSError, ValueError):
        return
    if found is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], found)
