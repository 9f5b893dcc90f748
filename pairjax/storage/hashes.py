"""Hashes of pairs and of files."""

import hashlib
import json
from dataclasses import asdict

from pairjax.base.types import PairData
from pairjax.storage.bucket import AnyPath, files_below, size_of
from pairjax.storage.files import to_json


def hash_pairs(data: PairData) -> "hashlib._Hash":
    """SHA-256 of a task, its texts and its labels, to which more may be added."""
    digest = hashlib.sha256(json.dumps(asdict(data.task)).encode())
    for name in sorted(data.splits):
        pairs = data.splits[name]
        digest.update(to_json([name, pairs.first, pairs.second]).encode("utf-8", "surrogatepass"))
        digest.update(b"" if pairs.label is None else pairs.label.tobytes())
    return digest


def _hash_file(path: AnyPath) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def hash_files(root: AnyPath) -> dict[str, tuple[int, str]]:
    """Bytes and SHA-256 of every file below `root`, by its path from there."""
    return {name: _hash_file(path) for name, path in files_below(root)}


def file_fault(root: AnyPath, name: str, expected: tuple[int, str]) -> str | None:
    """What is wrong with one file of a step; its size is looked at first, as that costs nothing."""
    path, (size, digest) = root / name, expected
    try:
        found = size_of(path)
        if found != size:
            return f"{name}: {found} bytes where {size} were saved"
        return None if _hash_file(path)[1] == digest else f"{name}: damaged (its SHA-256 differs)"
    except FileNotFoundError:
        return f"{name}: missing"
    except OSError as error:
        return f"{name}: {error.strerror}"
