"""Where a result comes from: versions, machine, commit, command line. Nothing of the environment: it holds secrets."""

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


def provenance(*, device_kind: str, device_count: int) -> dict[str, Any]:
    """Where a result comes from: versions, machine, commit, command line and start. Nothing of the environment."""
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
    """The version that is installed; None for a package that is not (pairjax itself, run from its source)."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Commit and whether the tree differs from it; None where the package stands in no git checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=5, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed copy may lie inside somebody else's checkout, which would not track it.
    if ask("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return None
    commit = ask("rev-parse", "HEAD")
    changed = ask("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": None if changed is None else bool(changed)}
