"""Save and load a trained model as one folder that needs nothing else: encoder, tokeniser, head, labels, calibration.

Models of other libraries are loaded too; `pairjax.imports` reads them.

pairjax.json          task, model config, calibration, SHA-256 of every other file
head.safetensors      all parameters above the encoder, by path
encoder/              a Hugging Face folder with the tokeniser; transformers can open it
README.md             the model card
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.params import flatten, unflatten
from pairjax.base.types import EncoderSpec, Params, TaskSpec
from pairjax.data.tokenizer import PairTokenizer, load_tokenizer
from pairjax.evaluation.calibration import Calibration
from pairjax.imports.find import find_model
from pairjax.imports.read import is_foreign, read_model
from pairjax.inference.export_folder import check_export, is_export
from pairjax.inference.manifest import ModelFacts, check_files, read_facts, read_manifest, write_manifest
from pairjax.storage.files import whole_folder
from pairjax.weights import load_encoder, read_encoder_spec, save_encoder

FORMAT = 3
"""Newest version of the format. Version 2 added the seal, version 3 heads other than a softmax, abstention and
prefixes. Folders of all versions load, and a model that needs nothing of version 3 is written as version 2."""
MANIFEST = "pairjax.json"
NEEDED = ("head.safetensors", "encoder/config.json", "encoder/model.safetensors")
"""Files that every model folder holds; the manifest must list the digest of each."""


@dataclass(frozen=True)
class Artifact:
    """The contents of a model folder.

    Attributes:
        folder: The folder that was read.
        encoder_folder: The folder of the encoder's config.json and tokeniser.
        task: The task.
        model: The model's configuration.
        max_length: Longest row in tokens, special tokens included: of a pair (cross-encoder) or a text (bi-encoder).
        truncation: How longer rows are cut.
        prefixes: Text before each first text, and before each second text. None in an older folder, whose model
            learned from pairs that were joined as its encoder's family does, whatever the tokeniser.
        calibration: Temperature and threshold, fitted on dev.
        spec: The encoder's architecture.
        params: All parameters, float32.
        own_combiner: Whether the model was trained with the user's own combiner, which loading needs again.
        notes: How the model of another library was understood; empty for a model of pairjax.
    """

    folder: Path
    encoder_folder: Path
    task: TaskSpec
    model: ModelConfig
    max_length: int
    truncation: Truncation
    prefixes: tuple[str, str] | None
    calibration: Calibration
    spec: EncoderSpec
    params: Params
    own_combiner: bool = False
    notes: tuple[str, ...] = ()

    @property
    def row_options(self) -> dict[str, Any]:
        """Arguments of `pairjax.data.encode.encode_pairs` that make rows as in training."""
        return {"kind": self.model.kind, "max_length": self.max_length, "truncation": self.truncation}

    def read_tokenizer(self) -> PairTokenizer:
        """Reads the folder's tokeniser, which joins texts as in training."""
        prefixes = self.prefixes or ("", "")
        tokenizer = load_tokenizer(self.encoder_folder, family=self.spec.family, prefixes=prefixes)
        # Before manifests named prefixes, texts were joined as the family does.
        return tokenizer.joined_by_family() if self.prefixes is None else tokenizer


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
    prefixes: tuple[str, str] = ("", ""),
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
        prefixes: Text that is put before each first text, and before each second text.
    """
    with whole_folder(folder) as partial:
        above = {name: tree for name, tree in params.items() if name != "encoder"}
        save_encoder(partial / "encoder", spec, params["encoder"], params.get("pooler"), source=encoder_source)
        flat = {path: np.ascontiguousarray(np.asarray(leaf, np.float32)) for path, leaf in flatten(above).items()}
        safetensors.numpy.save_file(flat, partial / "head.safetensors")
        (partial / "README.md").write_text(card, encoding="utf-8")
        own = model.combiner is not None
        facts = ModelFacts(task, model, own, max_length, truncation, calibration, prefixes)
        plain = _is_plain(task, calibration) and not any(prefixes)
        write_manifest(partial / MANIFEST, facts, version=2 if plain else FORMAT)


def _is_plain(task: TaskSpec, calibration: Calibration) -> bool:
    """Returns whether a model needs nothing that version 3 of the format added."""
    return (
        task.kind != "multi-label"
        and task.head == "softmax"
        and set(calibration.to_json()) == {"temperature", "threshold"}
    )


def find_artifact(path: str | Path, *, download: bool = False) -> Path:
    """Returns the folder of a model.

    Args:
        path: A model folder of pairjax, or a run folder, whose `model/` is returned; a folder of transformers or
            sentence-transformers; `package:NAME`, or an id of the Hugging Face hub.
        download: Whether to download a hub id that is not in the hub's cache.

    Raises:
        UserError: No model is found.
    """
    given = find_model(path, download=download)
    for folder in (given, given / "model"):
        if (folder / MANIFEST).is_file():
            return folder
    if given.is_dir() and is_foreign(given):
        return given
    raise UserError(
        f"{given}: no model in this folder",
        expected=f"a folder with {MANIFEST}, such as runs/NAME/model, or one of transformers or sentence-transformers",
    )


def _import_model(folder: Path, *, name: str, labels: Sequence[str]) -> Artifact:
    """Reads a model of another library; of a folder that pairjax exported, every file is checked against its digest."""
    if is_export(folder):
        check_export(folder)
    model = read_model(folder, name=name, labels=labels)
    tokenizer = load_tokenizer(model.folder, family=model.spec.family)
    tokenizer.check_vocabulary(model.spec.vocab_size)
    return Artifact(
        folder=folder,
        encoder_folder=model.folder,
        task=model.task,
        model=model.model,
        max_length=model.max_length,
        truncation=model.truncation,
        prefixes=("", ""),
        calibration=Calibration(temperature=model.temperature, threshold=model.threshold),
        spec=model.spec,
        params=model.params,
        notes=(*model.notes, *tokenizer.vocabulary_notes(model.spec.vocab_size)),
    )


def load_artifact(path: str | Path, *, labels: Sequence[str] = (), download: bool = False) -> Artifact:
    """Reads a model; every file of a model folder of pairjax is checked against its digest.

    Args:
        path: As in `find_artifact`.
        labels: Names of the classes of a model that does not name them itself, in the order of its outputs.
        download: Whether to download a hub id that is not in the hub's cache.

    Raises:
        UserError: There is no model, its format is newer or not supported, a file is missing or changed, or the
            manifest is incomplete.
    """
    folder = find_artifact(path, download=download)
    if not (folder / MANIFEST).is_file():
        return _import_model(folder, name=str(path), labels=labels)
    if labels:
        raise UserError(f"{folder}: the model names its classes itself", got=f"--labels {' '.join(labels)}")
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
        encoder_folder=folder / "encoder",
        task=facts.task,
        model=facts.model,
        max_length=facts.max_length,
        truncation=facts.truncation,
        prefixes=facts.prefixes,
        calibration=facts.calibration,
        spec=spec,
        params={"encoder": encoder.params, **above},
        own_combiner=facts.own_combiner,
    )
