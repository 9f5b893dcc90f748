"""Save and load a trained model as one folder that needs nothing else: encoder, tokeniser, head, labels, calibration.

pairjax.json          task, model config, calibration, SHA-256 of every other file
head.safetensors      all parameters above the encoder, by path
encoder/              a Hugging Face folder with the tokeniser; transformers can open it
README.md             the model card
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import safetensors.numpy

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.model_config import CombineConfig, DropoutConfig, HeadConfig, InteractConfig, ModelConfig
from pairjax.base.params import flatten, unflatten
from pairjax.base.types import EncoderSpec, Params, TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.storage.files import expand_path, read_json, whole_folder
from pairjax.storage.hashes import hash_file, hash_json
from pairjax.weights import load_encoder, read_encoder_spec, save_encoder

FORMAT = 2
"""Version of the format. Version 2 added the seal; folders of version 1 still load."""
MANIFEST = "pairjax.json"
NEEDED = ("head.safetensors", "encoder/config.json", "encoder/model.safetensors")
"""Files that every model folder holds; the manifest must list the digest of each."""


@dataclass(frozen=True)
class Artifact:
    """The contents of a model folder.

    Attributes:
        folder: The folder that was read; the tokeniser is in `folder/encoder`.
        task: The task.
        model: The model's configuration.
        max_length: Longest row in tokens, special tokens included: of a pair (cross-encoder) or a text (bi-encoder).
        truncation: How longer rows are cut.
        calibration: Temperature and threshold, fitted on dev.
        spec: The encoder's architecture.
        params: All parameters, float32.
        own_combiner: Whether the model was trained with the user's own combiner, which loading needs again.
    """

    folder: Path
    task: TaskSpec
    model: ModelConfig
    max_length: int
    truncation: Truncation
    calibration: Calibration
    spec: EncoderSpec
    params: Params
    own_combiner: bool


def _model_to_json(model: ModelConfig) -> dict[str, Any]:
    """Converts a model's configuration to plain data; of the user's own combiner only its presence is kept."""
    return dataclasses.asdict(dataclasses.replace(model, combiner=None)) | {"combiner": model.combiner is not None}


def _model_from_json(values: Mapping[str, Any]) -> tuple[ModelConfig, bool]:
    """Converts plain data to a model's configuration and whether it has the user's own combiner."""
    fields = dict(values)
    own = bool(fields.pop("combiner"))
    combine = dict(fields.pop("combine"))
    head = dict(fields.pop("head"))
    model = ModelConfig(
        **{name: fields[name] for name in fields if name not in ("interact", "dropout")},
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
            raise UserError(f"{path}: damaged", got=f"{name} {value!r:.200}", fix="copy the model folder again")


def _check_task(path: Path, task: TaskSpec) -> None:
    """Raises UserError if the fields of the task contradict each other."""
    ambiguous = task.kind == "classification" and len(set(task.labels)) < max(2, len(task.labels))
    if ambiguous or (task.positive is not None and task.positive not in task.labels) or task.scale <= 0:
        raise UserError(f"{path}: damaged", got=f"the task {task!r:.200}", fix="copy the model folder again")


def save_artifact(
    folder: Path,
    *,
    task: TaskSpec,
    model: ModelConfig,
    max_length: int,
    truncation: Truncation,
    calibration: Calibration,
    spec: EncoderSpec,
    params: Params,
    encoder_source: Path,
    card: str,
) -> None:
    """Writes a model folder, whole or not at all.

    Args:
        folder: The folder; one that exists is replaced.
        task: The task.
        model: The model's configuration.
        max_length: Longest row in tokens, special tokens included.
        truncation: How longer rows are cut.
        calibration: Temperature and threshold, fitted on dev.
        spec: The encoder's architecture.
        params: All parameters.
        encoder_source: The Hugging Face folder that the encoder came from, for its config and tokeniser.
        card: Text of README.md.
    """
    with whole_folder(folder) as partial:
        above = {name: tree for name, tree in params.items() if name != "encoder"}
        save_encoder(partial / "encoder", spec, params["encoder"], params.get("pooler"), source=encoder_source)
        flat = {path: np.ascontiguousarray(np.asarray(leaf, np.float32)) for path, leaf in flatten(above).items()}
        safetensors.numpy.save_file(flat, partial / "head.safetensors")
        (partial / "README.md").write_text(card, encoding="utf-8")
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT,
            "task": dataclasses.asdict(task),
            "model": _model_to_json(model),
            "max_length": max_length,
            "truncation": truncation,
            "calibration": dataclasses.asdict(calibration),
            "files": {path.relative_to(partial).as_posix(): hash_file(path) for path in files},
        }
        manifest = json.loads(json.dumps(manifest))
        # A label or a threshold that changed is as wrong as a weight: the seal covers the manifest's own values.
        manifest["seal"] = hash_json(manifest)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def find_artifact(path: str | Path) -> Path:
    """Returns the model folder at a path: the folder itself, or `model/` of a run folder.

    Raises:
        UserError: Neither folder holds a pairjax.json.
    """
    given = expand_path(path)
    for folder in (given, given / "model"):
        if (folder / MANIFEST).is_file():
            return folder
    raise UserError(
        f"{given}: no pairjax model in this folder" if given.exists() else f"{given}: no such folder",
        expected=f"a folder with {MANIFEST}, such as runs/NAME/model",
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest and checks its format and its seal."""
    path = folder / MANIFEST
    manifest = read_json(path, kind="a model's manifest", required=("format",), fix="copy the model folder again")
    version = manifest["format"]
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{path}: not a model's manifest", got=f"format {version!r}", expected="a positive integer")
    if version > FORMAT:
        raise UserError(
            f"{path}: written by a newer pairjax", got=f"format {version}", expected=f"at most {FORMAT}", fix="update"
        )
    seal = manifest.pop("seal", None)
    if (version > 1 or seal is not None) and seal != hash_json(manifest):
        raise UserError(f"{path}: differs from what was saved (its seal)", fix="copy the model folder again")
    return manifest


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    """Raises UserError if a file is missing, outside the folder, or not the one that was saved."""
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise UserError(
            f"{folder / MANIFEST}: lists no digest of {', '.join(missing)}", fix="copy the model folder again"
        )
    for name, digest in files.items():
        if "\0" in name:
            raise UserError(f"{folder / MANIFEST}: names an impossible file", got=repr(name))
        # Only the name is checked: in the hub's cache each file is a link to a blob outside the folder, and the digest
        # vouches for the contents.
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{folder / MANIFEST}: names a file outside its folder", got=name)
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing from the model", fix="copy the model folder again")
        try:
            actual = hash_file(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if actual != digest:
            raise UserError(f"{path}: differs from what was saved (SHA-256)", fix="copy the model folder again")


def load_artifact(path: str | Path) -> Artifact:
    """Reads a model folder and checks every file against its digest.

    Args:
        path: A model folder, or a run folder, whose `model/` is read.

    Raises:
        UserError: There is no model, its format is newer, a file is missing or changed, or the manifest is incomplete.
    """
    folder = find_artifact(path)
    manifest = _read_manifest(folder)
    try:
        task = TaskSpec(**(manifest["task"] | {"labels": tuple(manifest["task"]["labels"])}))
        model, own = _model_from_json(manifest["model"])
        calibration = Calibration(**manifest["calibration"])
        max_length, truncation, files = manifest["max_length"], manifest["truncation"], dict(manifest["files"])
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(f"{folder / MANIFEST}: damaged", got=repr(error), fix="copy the model folder again") from None
    _check_fields(
        folder / MANIFEST,
        task=(task, TaskSpec),
        model=(model, ModelConfig),
        calibration=(calibration, Calibration),
        max_length=(max_length, int),
        truncation=(truncation, Truncation),
    )
    _check_task(folder / MANIFEST, task)
    if max_length < 8 or calibration.temperature <= 0:
        got = f"max_length {max_length}, temperature {calibration.temperature}"
        raise UserError(f"{folder / MANIFEST}: damaged", got=got, fix="copy the model folder again")
    _verify(folder, files)
    spec = read_encoder_spec(folder / "encoder")
    if max_length > spec.max_positions:
        got = f"max_length {max_length} for an encoder of {spec.max_positions} positions"
        raise UserError(f"{folder / MANIFEST}: damaged", got=got, fix="copy the model folder again")
    encoder = load_encoder(folder / "encoder", spec)
    above = unflatten(safetensors.numpy.load_file(folder / "head.safetensors"))
    return Artifact(
        folder=folder,
        task=task,
        model=model,
        max_length=max_length,
        truncation=truncation,
        calibration=calibration,
        spec=spec,
        params={"encoder": encoder.params, **above},
        own_combiner=own,
    )
