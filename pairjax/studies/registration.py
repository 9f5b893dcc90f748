"""The registration of a claim: its text, and the commit that holds it."""

import ast
import hashlib
import subprocess
import time
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.storage.files import read_json, write_json


def _stated(source: str) -> str | None:
    """What a claim's file says beforehand: its docstring."""
    return ast.get_docstring(ast.parse(source))


def committed(file: Path) -> tuple[str | None, str | None]:
    """The commit that last changed what a claim's file says beforehand, its docstring, and why there is none.

    A verdict rests on what stood there before it. Code below it may move with the package.

    Returns:
        (commit, None) or (None, reason).
    """

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ("git", "-C", str(file.resolve().parent), *words),
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    history = (ask("log", "--format=%H", "--", file.name) or "").split()
    if not history:
        return None, f"{file.name} is not committed"
    if ask("status", "--porcelain", "--", file.name) != "":
        return None, f"{file.name} differs from its commit"
    text = _stated(file.read_text(encoding="utf-8"))
    unchanged = history[0]
    for commit in history[1:]:
        source = ask("show", f"{commit}:./{file.name}")
        if source is None or _stated(source) != text:
            break
        unchanged = commit
    return unchanged, None


def register(folder: Path, file: Path) -> str | None:
    """Keep what a claim's file says when its first full run begins, and hold later ones to it.

    Args:
        folder: Of the claim's results.
        file: The claim's. One that is not committed by then gives no verdict in this folder, whenever it is committed:
            its effects were seen first.

    Returns:
        Why no verdict will come of it, None where one may.

    Raises:
        UserError: The text has changed since.
    """
    commit, reason = committed(file)
    digest = hashlib.sha256((_stated(file.read_text(encoding="utf-8")) or "").encode()).hexdigest()
    path = folder / "registered.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"text": digest, "commit": commit, "date": time.strftime("%Y-%m-%d")})
        return reason
    kept = read_json(path)
    if kept["text"] != digest:
        raise UserError(
            f"{file}: what the claim says was changed after its first full run",
            got=f"the docstring of {_named(commit)}",
            expected=f"that of {_named(kept['commit'])}, with which the run began on {kept['date']}",
            fix="restore the docstring, or give the changed claim another --dir",
        )
    return reason or _seen_before(folder)


def _named(commit: str | None) -> str:
    return f"commit {commit[:10]}" if commit else "a file that was not committed"


def _seen_before(folder: Path) -> str | None:
    """Why a claim's folder gives no verdict: its first full run began before its text was committed."""
    path = folder / "registered.json"
    if not path.is_file() or read_json(path)["commit"] is not None:
        return None
    return "its first full run began before the claim was committed; commit it, and give it another --dir"
