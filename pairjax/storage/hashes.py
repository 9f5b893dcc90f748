"""SHA-256 of pairs, files and JSON values."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pairjax.base.types import PairData
from pairjax.storage.bucket import AnyPath, files_below, size_of
from pairjax.storage.files import to_json


def hash_pairs(data: PairData) -> "hashlib._Hash":
    """Returns the SHA-256 object of a task, its texts and its labels; callers may update it with more."""
    digest = hashlib.sha256(json.dumps(data.task.to_json()).encode())
    for name in sorted(data.splits):
        pairs = data.splits[name]
        digest.update(to_json([name, pairs.first, pairs.second]).encode("utf-8", "surrogatepass"))
        digest.update(b"" if pairs.label is None else pairs.label.tobytes())
        for array in (pairs.soft, pairs.group):
            digest.update(b"" if array is None else array.tobytes())
        if pairs.negative:
            digest.update(to_json(pairs.negative).encode("utf-8", "surrogatepass"))
    return digest


def hash_parts(parts: Iterable[bytes]) -> str:
    """Returns the SHA-256, in hex, of parts, each preceded by its length in 8 bytes, so that their borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """Returns the SHA-256, in hex, of a JSON value; the order of keys does not count.

    Files that say what other files hold carry it as their seal, and caches are named by it.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_stream(file: Any) -> str:
    """Returns the SHA-256, in hex, of an open binary file from its position to its end."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def hash_file(path: AnyPath) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hash_stream(file)


def hash_files(root: AnyPath) -> dict[str, tuple[int, str]]:
    """Returns bytes and SHA-256 of every file below `root`, by its path relative to `root`."""
    hashes = {}
    for name, path in files_below(root):
        with path.open("rb") as file:
            digest = hash_stream(file)
            hashes[name] = file.tell(), digest
    return hashes


def file_fault(root: AnyPath, name: str, expected: tuple[int, str]) -> str | None:
    """Returns what is wrong with a file, or None if it is as expected; compares the size first, which is cheap.

    Args:
        root: The folder.
        name: The file's path relative to `root`.
        expected: Bytes and SHA-256, as `hash_files` returned them.
    """
    path, (expected_size, expected_hash) = root / name, expected
    try:
        size = size_of(path)
        if size != expected_size:
            return f"{name}: {size} bytes where {expected_size} were saved"
        return None if hash_file(path) == expected_hash else f"{name}: damaged (its SHA-256 differs)"
    except FileNotFoundError:
        return f"{name}: missing"
    except OSError as error:
        return f"{name}: {error.strerror}"
