"""Record where a result comes from. Environment variables are never recorded, because they may hold secrets."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "pairjax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
)


def provenance(*, device_kind: str | None = None, device_count: int | None = None) -> dict[str, Any]:
    """Returns versions, machine, commit, command line and time of start, as config.json holds them.

    Args:
        device_kind: Kind of the devices ("cpu"); None if none was used.
        device_count: Number of devices; None if none was used.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device_kind": device_kind,
        "device_count": device_count,
        "versions": {name: installed_version(name) for name in PACKAGES},
        "git": _git(Path(__file__).resolve().parent),
    }


def installed_version(package: str) -> str | None:
    """Returns the installed version of a package; None if it is not installed (pairjax run from its source)."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Returns the commit and whether the tree differs from it; None if the package is not in a git checkout."""

    def ask(*words: str) -> str | None:
        try:
            process = subprocess.run(
                ("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=5, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return process.stdout.strip()

    # An installed copy may be inside another project's checkout, which does not track it.
    if ask("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return None
    commit = ask("rev-parse", "HEAD")
    changed = ask("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": None if changed is None else bool(changed)}
