"""The manifest of a folder that `pairjax export` wrote: its model, its check, and the digest of each file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.inference.manifest import AGAIN, ModelFacts, check_files, read_facts, read_manifest, write_manifest
from pairjax.storage.files import expand_path, read_json

FORMAT = 1
"""Version of the manifest."""
MANIFEST = "pairjax_export.json"
OWN_RUNTIME = ("onnx", "stablehlo")
"""Formats whose files are programs; those of the other formats are read as models of their library."""


@dataclass(frozen=True)
class ExportFolder:
    """An exported folder whose files are those that were written.

    Attributes:
        folder: The folder.
        target: Name of its format, such as "onnx".
        facts: The model; the temperature is 1 if it was folded in.
        entries: All entries of the manifest.
    """

    folder: Path
    target: str
    facts: ModelFacts
    entries: Mapping[str, Any]


def write_export_manifest(folder: Path, facts: ModelFacts, *, target: str, **entries: Any) -> None:
    """Writes the manifest of a folder that is otherwise complete.

    Args:
        folder: The folder.
        facts: The model.
        target: Name of the folder's format.
        entries: Further entries, plain data.
    """
    write_manifest(folder / MANIFEST, facts, version=FORMAT, target=target, **entries)


def is_export(path: str | Path) -> bool:
    """Returns whether a path is a folder that `pairjax export` wrote."""
    return (expand_path(path) / MANIFEST).is_file()


def needs_runtime(path: str | Path) -> bool:
    """Returns whether a path is an exported folder that only its own runtime reads, unlike those of other libraries."""
    if not is_export(path):
        return False
    return read_json(expand_path(path) / MANIFEST).get("target") in OWN_RUNTIME


def check_export(folder: Path) -> None:
    """Checks every file of an exported folder of any format against its digest.

    Raises:
        UserError: The manifest's format is newer, or a file is missing or changed.
    """
    place = folder / MANIFEST
    check_files(place, read_manifest(place, newest=FORMAT, sealed_since=1), needed=())


def read_export(path: str | Path, *, target: str) -> ExportFolder:
    """Reads the manifest of an exported folder and checks every file against its digest.

    Args:
        path: The folder.
        target: The format that the caller can read.

    Raises:
        UserError: There is no manifest, its format is newer, the folder is of another format, or a file is missing or
            changed.
    """
    folder = expand_path(path)
    place = folder / MANIFEST
    manifest = read_manifest(place, newest=FORMAT, sealed_since=1)
    if manifest.get("target") != target:
        raise UserError(
            f"{folder}: not exported for {target}",
            got=f"a folder in the format {manifest.get('target')!r:.40}",
            fix=f"run: pairjax export MODEL --to {target} --output DIR",
        )
    facts = read_facts(place, manifest)
    if facts.own_combiner:
        raise UserError(f"{place}: damaged", got="a combiner that a folder cannot hold", fix=AGAIN)
    check_files(place, manifest, needed=())
    return ExportFolder(folder, target, facts, manifest)
