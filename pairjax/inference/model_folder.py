"""A model as one folder: encoder, tokeniser, head, label names, calibration. It needs nothing else to load.

pairjax.json          task, model config, calibration, SHA-256 of every other file
head.safetensors      all above the encoder, by parameter path
encoder/              a Hugging Face folder (transformers opens it) with the tokeniser
README.md             the model card
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import safetensors.numpy

from pairjax.base.config import CombineConfig, DropoutConfig, HeadConfig, InteractConfig, ModelConfig, Truncation
from pairjax.base.errors import UserError
from pairjax.base.params import flatten, unflatten
from pairjax.base.types import EncoderSpec, Params, TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.storage.files import read_json, whole_folder
from pairjax.storage.hashes import hash_file, hash_json
from pairjax.weights import load_encoder, read_encoder_spec, save_encoder

FORMAT = 2
"""2 added the seal; what 1 wrote loads still."""
MANIFEST = "pairjax.json"
NEEDED = ("head.safetensors", "encoder/config.json", "encoder/model.safetensors")
"""Files that make up a model; the manifest must give the digest of each."""


@dataclass(frozen=True)
class Artifact:
    """What a model folder holds.

    Attributes:
        folder: Where it was read; the tokeniser lies in `folder/encoder`.
        own_combiner: Whether a user's own combiner was trained, which loading must be given again.
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
    return dataclasses.asdict(dataclasses.replace(model, combiner=None)) | {"combiner": model.combiner is not None}


def _model_from_json(values: Mapping[str, Any]) -> tuple[ModelConfig, bool]:
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
    """Whether a value read from JSON is of an annotation of the dataclasses here; NaN and infinities are no floats."""
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
    """Raises UserError where a part of the manifest, given as (value, annotation), is none of that kind."""
    for name, (value, hint) in parts.items():
        if not _conforms(value, hint):
            raise UserError(f"{path}: damaged", got=f"{name} {value!r:.200}", fix="copy the model folder anew")


def _check_task(path: Path, task: TaskSpec) -> None:
    """Raises UserError where the task's parts do not go together."""
    few = task.kind == "classification" and len(set(task.labels)) < max(2, len(task.labels))
    if few or (task.positive is not None and task.positive not in task.labels) or task.scale <= 0:
        raise UserError(f"{path}: damaged", got=f"the task {task!r:.200}", fix="copy the model folder anew")


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
    """Write the model folder, whole or not at all.

    Args:
        folder: Replaced if it is there.
        encoder_source: The Hugging Face folder the encoder came from, for its config and tokeniser.
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
    """The model folder that is meant: itself, or `model/` of a run folder.

    Raises:
        UserError: Neither holds a pairjax.json.
    """
    given = Path(path)
    for folder in (given, given / "model"):
        if (folder / MANIFEST).is_file():
            return folder
    raise UserError(
        f"{given}: no pairjax model here" if given.exists() else f"{given}: no such folder",
        expected=f"a folder with {MANIFEST}, such as runs/NAME/model",
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    manifest = read_json(path, kind="a model's manifest", required=("format",), fix="copy the model folder anew")
    version = manifest["format"]
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{path}: not a model's manifest", got=f"format {version!r}", expected="a positive integer")
    if version > FORMAT:
        raise UserError(
            f"{path}: written by a newer pairjax", got=f"format {version}", expected=f"at most {FORMAT}", fix="update"
        )
    seal = manifest.pop("seal", None)
    if (version > 1 or seal is not None) and seal != hash_json(manifest):
        raise UserError(f"{path}: differs from what was saved (its seal)", fix="copy the model folder anew")
    return manifest


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise UserError(
            f"{folder / MANIFEST}: gives no digest of {', '.join(missing)}", fix="copy the model folder anew"
        )
    for name, digest in files.items():
        if "\0" in name:
            raise UserError(f"{folder / MANIFEST}: names a file that cannot be", got=repr(name))
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{folder / MANIFEST}: names a file outside its folder", got=name)
        if not path.is_file():
            raise UserError(f"{path}: missing from the model", fix="copy the model folder anew")
        try:
            found = hash_file(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if found != digest:
            raise UserError(f"{path}: differs from what was saved (SHA-256)", fix="copy the model folder anew")


def load_artifact(path: str | Path) -> Artifact:
    """Read a model folder; every file is checked against its digest.

    Raises:
        UserError: No model there, a newer format, a missing or changed file, a manifest that lacks something.
    """
    folder = find_artifact(path)
    manifest = _read_manifest(folder)
    try:
        task = TaskSpec(**(manifest["task"] | {"labels": tuple(manifest["task"]["labels"])}))
        model, own = _model_from_json(manifest["model"])
        calibration = Calibration(**manifest["calibration"])
        max_length, truncation, files = manifest["max_length"], manifest["truncation"], dict(manifest["files"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST}: damaged", got=repr(error), fix="copy the model folder anew") from None
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
        raise UserError(f"{folder / MANIFEST}: damaged", got=got, fix="copy the model folder anew")
    _verify(folder, files)
    spec = read_encoder_spec(folder / "encoder")
    if max_length > spec.max_positions:
        got = f"max_length {max_length} for an encoder of {spec.max_positions} positions"
        raise UserError(f"{folder / MANIFEST}: damaged", got=got, fix="copy the model folder anew")
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
