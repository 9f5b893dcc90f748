"""Save and load a trained model as one folder that needs nothing else: encoder, tokeniser, head, labels, calibration.

pairjax.json          task, model config, calibration, SHA-256 of every other file
head.safetensors      all parameters above the encoder, by path
encoder/              a Hugging Face folder with the tokeniser; transformers can open it
README.md             the model card
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.params import flatten, unflatten
from pairjax.base.types import EncoderSpec, Params, TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.inference.manifest import ModelFacts, check_files, read_facts, read_manifest, write_manifest
from pairjax.storage.files import expand_path, whole_folder
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
        facts = ModelFacts(task, model, model.combiner is not None, max_length, truncation, calibration)
        write_manifest(partial / MANIFEST, facts, version=FORMAT)


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


def load_artifact(path: str | Path) -> Artifact:
    """Reads a model folder and checks every file against its digest.

    Args:
        path: A model folder, or a run folder, whose `model/` is read.

    Raises:
        UserError: There is no model, its format is newer, a file is missing or changed, or the manifest is incomplete.
    """
    folder = find_artifact(path)
    path = folder / MANIFEST
    manifest = read_manifest(path, newest=FORMAT, sealed_since=2)
    facts = read_facts(path, manifest)
    check_files(path, manifest, needed=NEEDED)
    spec = read_encoder_spec(folder / "encoder")
    if facts.max_length > spec.max_positions:
        got = f"max_length {facts.max_length} for an encoder of {spec.max_positions} positions"
        raise UserError(f"{path}: damaged", got=got, fix="copy the model folder again")
    encoder = load_encoder(folder / "encoder", spec)
    above = unflatten(safetensors.numpy.load_file(folder / "head.safetensors"))
    return Artifact(
        folder=folder,
        task=facts.task,
        model=facts.model,
        max_length=facts.max_length,
        truncation=facts.truncation,
        calibration=facts.calibration,
        spec=spec,
        params={"encoder": encoder.params, **above},
        own_combiner=facts.own_combiner,
    )
