"""The manifest of a saved model: its task, config and calibration, the digest of every file, and a seal on all of it.

Model folders and exported folders have one each, under different names.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.model_config import (
    CombineConfig,
    DropoutConfig,
    HeadConfig,
    InteractConfig,
    ModelConfig,
    ProjectConfig,
)
from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.storage.files import read_json
from pairjax.storage.hashes import hash_file, hash_json

AGAIN = "copy the model folder again"


@dataclass(frozen=True)
class ModelFacts:
    """What a manifest says about the model.

    Attributes:
        task: The task.
        model: The model's configuration, without the user's own combiner.
        own_combiner: Whether the model was trained with the user's own combiner.
        max_length: Longest row in tokens, special tokens included: of a pair (cross-encoder) or a text (bi-encoder).
        truncation: How longer rows are cut.
        calibration: Temperature and threshold, fitted on dev.
        prefixes: Text before each first text, and before each second text. None if the folder is older than prefixes:
            its model learned from pairs that were joined as its encoder's family does, whatever the tokeniser.
    """

    task: TaskSpec
    model: ModelConfig
    own_combiner: bool
    max_length: int
    truncation: Truncation
    calibration: Calibration
    prefixes: tuple[str, str] | None


def _model_to_json(model: ModelConfig, *, own_combiner: bool) -> dict[str, Any]:
    """Converts a model's configuration to plain data; of the user's own combiner only its presence is kept."""
    plain = dataclasses.replace(model, combiner=None, init=None, labels=())
    return dataclasses.asdict(plain) | {"combiner": own_combiner}


def _model_from_json(values: Mapping[str, Any]) -> tuple[ModelConfig, bool]:
    """Converts plain data to a model's configuration and whether it has the user's own combiner."""
    fields = dict(values)
    own = bool(fields.pop("combiner"))
    combine = dict(fields.pop("combine"))
    head = dict(fields.pop("head"))
    project = dict(fields.pop("project", {}))
    model = ModelConfig(
        **{name: fields[name] for name in fields if name not in ("interact", "dropout")},
        project=ProjectConfig(**project),
        interact=InteractConfig(**fields["interact"]),
        dropout=DropoutConfig(**fields["dropout"]),
        combine=CombineConfig(**(combine | {"features": tuple(combine["features"])})),
        head=HeadConfig(**(head | {"hidden": tuple(head["hidden"])})),
    )
    return model, own


def _conforms(value: Any, hint: Any) -> bool:
    """Returns whether a value read from JSON has the annotated type; NaN and infinities do not count as floats."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return isinstance(value, hint) and all(_conforms(getattr(value, name), hints[name]) for name in hints)
    match get_origin(hint), get_args(hint):
        case (origin, members) if origin is Literal:
            return any(value == member and type(value) is type(member) for member in members)
        case (origin, members) if origin in (Union, UnionType):
            return any(_conforms(value, member) for member in members)
        case (origin, (inner, *_)) if origin is tuple:
            return isinstance(value, tuple) and all(_conforms(item, inner) for item in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint if hint in (bool, int, str, NoneType) else True


def _check_fields(path: Path, **parts: tuple[Any, Any]) -> None:
    """Raises UserError if a part of the manifest, given as (value, annotation), does not have that type."""
    for name, (value, hint) in parts.items():
        if not _conforms(value, hint):
            raise UserError(f"{path}: damaged", got=f"{name} {value!r:.200}", fix=AGAIN)


def _check_task(path: Path, task: TaskSpec) -> None:
    """Raises UserError if the fields of the task contradict each other."""
    ambiguous = task.kind != "regression" and len(set(task.labels)) < max(2, len(task.labels))
    ambiguous |= task.head == "sigmoid" and task.positive_index is None
    if ambiguous or (task.positive is not None and task.positive not in task.labels) or task.scale <= 0:
        raise UserError(f"{path}: damaged", got=f"the task {task!r:.200}", fix=AGAIN)


def read_manifest(path: Path, *, newest: int, sealed_since: int) -> dict[str, Any]:
    """Reads a manifest and checks its format and its seal.

    Args:
        path: The manifest.
        newest: The newest version of the format that is known.
        sealed_since: The first version of the format that has a seal.

    Raises:
        UserError: The file is missing or no manifest, its format is newer, or its seal is another.
    """
    manifest = read_json(path, kind="a model's manifest", required=("format",), fix=AGAIN)
    version = manifest["format"]
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{path}: not a model's manifest", got=f"format {version!r}", expected="a positive integer")
    if version > newest:
        raise UserError(
            f"{path}: written by a newer pairjax", got=f"format {version}", expected=f"at most {newest}", fix="update"
        )
    seal = manifest.pop("seal", None)
    if (version >= sealed_since or seal is not None) and seal != hash_json(manifest):
        raise UserError(f"{path}: differs from what was saved (its seal)", fix=AGAIN)
    return manifest


def check_files(path: Path, manifest: Mapping[str, Any], *, needed: Sequence[str]) -> None:
    """Compares every file of the folder with its digest.

    Args:
        path: The manifest.
        manifest: Its content, from `read_manifest`.
        needed: Names of files that must be among them.

    Raises:
        UserError: A file is missing, outside the folder, or not the one that was saved.
    """
    folder, files = path.parent, manifest.get("files")
    if not isinstance(files, Mapping):
        raise UserError(f"{path}: damaged", got=f"files {files!r:.200}", fix=AGAIN)
    missing = [name for name in needed if name not in files]
    if missing:
        raise UserError(f"{path}: lists no digest of {', '.join(missing)}", fix=AGAIN)
    for name, digest in files.items():
        if "\0" in name:
            raise UserError(f"{path}: names an impossible file", got=repr(name))
        # Only the name is checked: in the hub's cache each file is a link to a blob outside the folder, and the digest
        # vouches for the contents.
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{path}: names a file outside its folder", got=name)
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: missing from the model", fix=AGAIN)
        try:
            actual = hash_file(file)
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        if actual != digest:
            raise UserError(f"{file}: differs from what was saved (SHA-256)", fix=AGAIN)


def write_manifest(path: Path, facts: ModelFacts, *, version: int, **entries: Any) -> None:
    """Writes the manifest of a folder that is otherwise complete.

    Args:
        path: The manifest.
        facts: The model.
        version: Version of the folder's format.
        entries: Further entries, plain data.
    """
    folder = path.parent
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != path)
    manifest = {
        "format": version,
        "task": facts.task.to_json(),
        "model": _model_to_json(facts.model, own_combiner=facts.own_combiner),
        "max_length": facts.max_length,
        "truncation": facts.truncation,
        "calibration": facts.calibration.to_json(),
        **({} if facts.prefixes is None else {"prefixes": list(facts.prefixes)}),
        **entries,
        "files": {file.relative_to(folder).as_posix(): hash_file(file) for file in files},
    }
    manifest = json.loads(json.dumps(manifest))
    # A label or a threshold that changed is as wrong as a weight: the seal covers the manifest's own values.
    manifest["seal"] = hash_json(manifest)
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_facts(path: Path, manifest: Mapping[str, Any]) -> ModelFacts:
    """Returns what a manifest says about the model.

    Args:
        path: The manifest, for messages.
        manifest: Its content, from `read_manifest`.

    Raises:
        UserError: An entry is missing, has another type, or contradicts another.
    """
    try:
        task = TaskSpec(**(manifest["task"] | {"labels": tuple(manifest["task"]["labels"])}))
        model, own = _model_from_json(manifest["model"])
        calibration = Calibration.from_json(manifest["calibration"])
        max_length, truncation = manifest["max_length"], manifest["truncation"]
        prefixes = tuple(manifest["prefixes"]) if "prefixes" in manifest else None
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(f"{path}: damaged", got=repr(error), fix=AGAIN) from None
    _check_fields(
        path,
        task=(task, TaskSpec),
        model=(model, ModelConfig),
        calibration=(calibration, Calibration),
        max_length=(max_length, int),
        truncation=(truncation, Truncation),
        prefixes=(prefixes, tuple[str, str] | None),
    )
    _check_task(path, task)
    if max_length < 8 or calibration.temperature <= 0:
        got = f"max_length {max_length}, temperature {calibration.temperature}"
        raise UserError(f"{path}: damaged", got=got, fix=AGAIN)
    return ModelFacts(task, model, own, max_length, truncation, calibration, prefixes)
