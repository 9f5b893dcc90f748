"""The registration of a claim: its text, and the commit that contains it."""

import ast
import hashlib
import subprocess
import time
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.storage.files import read_json, write_json


def _docstring(source: str) -> str | None:
    """Returns the docstring of a claim's file, in which it states in advance what is tested."""
    return ast.get_docstring(ast.parse(source))


def committed(file: Path) -> tuple[str | None, str | None]:
    """Returns the commit that last changed the docstring of a claim's file.

    A verdict relies on the text of that commit. The code below the docstring may change with the package.

    Returns:
        (commit, None), or (None, the reason why there is no such commit).
    """

    def ask(*words: str) -> str | None:
        try:
            process = subprocess.run(
                ("git", "-C", str(file.resolve().parent), *words),
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return process.stdout.strip()

    history = (ask("log", "--format=%H", "--", file.name) or "").split()
    if not history:
        return None, f"{file.name} is not committed"
    if ask("status", "--porcelain", "--", file.name) != "":
        return None, f"{file.name} differs from its commit"
    text = _docstring(file.read_text(encoding="utf-8"))
    unchanged = history[0]
    for commit in history[1:]:
        source = ask("show", f"{commit}:./{file.name}")
        if source is None or _docstring(source) != text:
            break
        unchanged = commit
    return unchanged, None


def register(folder: Path, file: Path) -> str | None:
    """Records a claim's docstring at its first full run, and checks it at later runs.

    Args:
        folder: The folder of the claim's results.
        file: The claim's file. If it is not committed at the first full run, no run in this folder gives a verdict,
            even after a later commit: the effects were seen before the commit.

    Returns:
        Why the run will give no verdict; None if it may give one.

    Raises:
        UserError: The docstring has changed since the first full run.
    """
    commit, reason = committed(file)
    digest = hashlib.sha256((_docstring(file.read_text(encoding="utf-8")) or "").encode()).hexdigest()
    path = folder / "registered.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"text": digest, "commit": commit, "date": time.strftime("%Y-%m-%d")})
        return reason
    record = read_json(path)
    if record["text"] != digest:
        raise UserError(
            f"{file}: the docstring of the claim was changed after its first full run",
            got=f"the docstring of {_commit_name(commit)}",
            expected=f"that of {_commit_name(record['commit'])}, with which the first run began on {record['date']}",
            fix="restore the docstring, or give the changed claim another --dir",
        )
    return reason or seen_before_commit(folder)


def _commit_name(commit: str | None) -> str:
    return f"commit {commit[:10]}" if commit else "a file that was not committed"


def seen_before_commit(folder: Path) -> str | None:
    """Returns why a claim's folder gives no verdict: its first full run began before the claim was committed."""
    path = folder / "registered.json"
    if not path.is_file() or read_json(path)["commit"] is not None:
        return None
    return "its first full run began before the claim was committed; commit the claim and give it another --dir"
