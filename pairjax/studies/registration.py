"""The registration of a claim: its text and design, and the commit that contains them."""

import ast
import dataclasses
import hashlib
import inspect
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.storage.files import read_json, write_json
from pairjax.storage.hashes import hash_json
from pairjax.studies.claim import Claim


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


def design_of(claim: Claim, *, budget: float, group_texts: bool) -> dict[str, Any]:
    """Returns everything that a claim of round 2 fixes in advance besides its docstring, as JSON values.

    This includes all upper-case constants of the claim's file, its own and imported ones.

    Args:
        claim: The claim.
        budget: The time budget in minutes; part of the design only if the claim says so.
        group_texts: Whether folds keep pairs that share a text together.

    Raises:
        ValueError: A constant has a type that cannot be registered.
    """
    names = inspect.unwrap(claim.run).__globals__
    return {
        "seeds": list(claim.planned),
        "encoder": claim.encoder,
        "pooling": claim.pooling,
        "parts": _plain(claim.parts, "parts"),
        "design": _plain(claim.design, "design"),
        "constants": {name: _plain(names[name], name) for name in sorted(names) if name.isupper()},
        "budget": budget if claim.budget_sets_size else None,
        "group_texts": group_texts,
    }


def _plain(value: Any, name: str) -> Any:
    """Converts a constant to JSON values."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each, name) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, name) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(each, name) for each in value), key=str)
    raise ValueError(f"{name}: a {type(value).__name__} cannot be registered")


def design_digest(file: Path, claim: Claim, *, budget: float, group_texts: bool) -> str:
    """Returns the SHA-256 of a claim's docstring and design, to which its records belong."""
    text = _docstring(file.read_text(encoding="utf-8")) or ""
    return hash_json([text, design_of(claim, budget=budget, group_texts=group_texts)])


def register(folder: Path, file: Path, claim: Claim, *, budget: float = 0.0, group_texts: bool = True) -> str | None:
    """Records a claim's docstring at its first full run, and checks it at later runs; in round 2 its design as well.

    Args:
        folder: The folder of the claim's results. If it holds a verdict when the claim is registered, the registration
            is marked as made after a result.
        file: The claim's file. If it is not committed at the first full run, no run in this folder gives a verdict,
            even after a later commit: the effects were seen before the commit.
        claim: The claim.
        budget: The time budget in minutes.
        group_texts: Whether folds keep pairs that share a text together.

    Returns:
        Why the run will give no verdict; None if it may give one.

    Raises:
        UserError: The docstring or the design has changed since the first full run.
    """
    commit, reason = committed(file)
    digest = hashlib.sha256((_docstring(file.read_text(encoding="utf-8")) or "").encode()).hexdigest()
    design = design_of(claim, budget=budget, group_texts=group_texts) if claim.round == 2 else None
    path = folder / "registered.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {"text": digest, "commit": commit, "date": time.strftime("%Y-%m-%d")}
        if design is not None:
            record |= {"design": design, "after_result": (folder / "verdict.json").is_file()}
        write_json(path, record)
        return reason
    record = dict(read_json(path))
    changed = "docstring" if record["text"] != digest else _changed(record.get("design"), design)
    if changed:
        raise UserError(
            f"{file}: the {changed} of the claim was changed after its first full run",
            got=f"the {changed} of {_commit_name(commit)}",
            expected=f"that of {_commit_name(record['commit'])}, with which the first run began on {record['date']}",
            fix=f"restore the {changed}, or give the changed claim another --dir",
        )
    return reason or seen_before_commit(folder)


def _changed(registered: dict[str, Any] | None, design: dict[str, Any] | None) -> str | None:
    """Returns the name of what differs between two designs; None if they are equal."""
    if registered is None or design is None:
        return None
    for name in ("constants", *design):
        if name not in registered or registered[name] == design[name]:
            continue
        if name != "constants":
            return name
        keys = sorted(set(registered[name]) | set(design[name]))
        return next(f"constant {key}" for key in keys if registered[name].get(key) != design[name].get(key))
    return None


def registered_after_result(folder: Path) -> bool:
    """Returns whether a claim was registered when its folder already held a verdict."""
    path = folder / "registered.json"
    return path.is_file() and bool(read_json(path).get("after_result"))


def _commit_name(commit: str | None) -> str:
    return f"commit {commit[:10]}" if commit else "a file that was not committed"


def seen_before_commit(folder: Path) -> str | None:
    """Returns why a claim's folder gives no verdict: its first full run began before the claim was committed."""
    path = folder / "registered.json"
    if not path.is_file() or read_json(path)["commit"] is not None:
        return None
    return "its first full run began before the claim was committed; commit the claim and give it another --dir"
