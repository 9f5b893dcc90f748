"""Reads a folder of another library, whatever kind of model it holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.imports.chain import read_chained_classifier, read_text_model
from pairjax.imports.classifier import read_classifier
from pairjax.imports.model import ImportedModel
from pairjax.imports.modules import MODULES, read_modules
from pairjax.imports.settings import activation_of, read_settings

SETTINGS = "config_sentence_transformers.json"


def is_foreign(folder: Path) -> bool:
    """Returns whether a folder looks like a model of transformers or sentence-transformers.

    A run folder has a config.json too, without the type of a model.
    """
    if (folder / MODULES).is_file():
        return True
    path = folder / "config.json"
    if not path.is_file():
        return False
    config = read_settings(path)
    return not ("provenance" in config or "config" in config)


def read_model(folder: Path, *, name: str, labels: Sequence[str] = ()) -> ImportedModel:
    """Reads a model.

    Args:
        folder: A folder of transformers or sentence-transformers.
        name: What the user called the model.
        labels: Names of the classes from the user, in the order of the outputs.

    Raises:
        UserError: The model is not supported, is damaged, or needs Python code of its own.
    """
    if not (folder / MODULES).is_file():
        return read_classifier(folder, name=name, labels=labels)
    settings = read_settings(folder / SETTINGS)
    activation = settings.get("activation_fn")
    activation = None if activation is None else activation_of(activation, place=str(folder / SETTINGS))
    kind: Any = settings.get("model_type", "SentenceTransformer")
    modules = read_modules(folder)
    match kind, modules.task:
        case ("CrossEncoder", "sequence-classification") if modules.pooling is None:
            return read_classifier(modules.transformer, name=name, labels=labels, activation=activation)
        case ("CrossEncoder", "feature-extraction"):
            return read_chained_classifier(folder, modules, name=name, activation=activation, labels=labels)
        case ("SentenceTransformer", "feature-extraction"):
            return read_text_model(folder, modules, name=name, labels=labels)
    raise UserError(
        f"{folder / SETTINGS}: this kind of model is not supported",
        got=f"{kind!r:.60} with the task {modules.task}",
        expected="CrossEncoder or SentenceTransformer",
    )
