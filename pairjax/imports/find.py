"""Finds the folder of a model by its name: a local folder, an installed package, or an id of the Hugging Face hub."""

import re
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.storage.files import expand_path
from pairjax.weights.source import INDEX, PACKAGE, TOKENISER_FILES, fetch_snapshot, resolve_encoder

PATTERNS = (
    *("config.json", "model.safetensors", "model-*.safetensors", INDEX, *TOKENISER_FILES),
    *("pairjax.json", "head.safetensors", "README.md", "encoder/*"),
    *("modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "pair_head.*"),
    "[0-9]_*/*.json",
    *("[0-9]_*/*.safetensors", "[0-9]_*/*.txt", "[0-9]_*/*.model"),
)
"""Files of a hub model that are downloaded: settings, safetensors and tokenisers of every kind of model."""


def find_model(name: str | Path, *, download: bool = False) -> Path:
    """Returns the folder of a model.

    Args:
        name: A folder; `package:NAME`, an installed package that holds one; or an id of the hub, looked up in the hub's
            cache.
        download: Whether to download a hub id.

    Raises:
        UserError: The name stands for no folder; the message says how to get it.
    """
    folder = expand_path(name)
    if folder.exists():
        return folder
    if str(name).startswith(PACKAGE):
        return resolve_encoder(str(name))
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(name)):
        raise UserError(
            f"{folder}: no such folder", expected="a model's folder, such as runs/NAME, or a hub id ORG/NAME"
        )
    return fetch_snapshot(str(name), download=download, patterns=PATTERNS, option="--download (or --model.download)")
