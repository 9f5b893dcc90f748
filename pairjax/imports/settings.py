"""Reads the settings of Hugging Face folders: activations, row lengths, and what an export of pairjax left there."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pairjax.base.data_config import Truncation
from pairjax.base.errors import UserError
from pairjax.base.types import EncoderSpec
from pairjax.imports.model import PAIRJAX
from pairjax.storage.files import read_json

ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Identity": "identity", "Sigmoid": "sigmoid"}
ACTIVATIONS["Softmax"] = "softmax"
"""Classes of torch.nn, and their names here."""
SHORTEST = 8.0
"""Fewest tokens of a row."""


class PairjaxSettings(NamedTuple):
    """What an export of pairjax keeps beside the format's own settings.

    Attributes:
        pooler: Whether the first dense layer of a chain is the encoder's pooler.
        truncation: How longer rows are cut.
        temperature: The temperature that was fitted on dev.
        folded: Whether the last layer was divided by the temperature.
        threshold: The threshold of the positive class that was fitted on dev.
        positive: The positive one of two classes.
    """

    pooler: bool = False
    truncation: Truncation = "longest_first"
    temperature: float = 1.0
    folded: bool = False
    threshold: float | None = None
    positive: str | None = None

    @property
    def divisor(self) -> float:
        """What the last layer was divided by."""
        return self.temperature if self.folded else 1.0


def read_settings(path: Path) -> dict[str, Any]:
    """Returns a JSON object, or {} if there is no such file."""
    return read_json(path, kind="a model's settings", fix="fetch the model again") if path.is_file() else {}


def read_pairjax_settings(folder: Path) -> PairjaxSettings:
    """Returns what an export of pairjax left in a folder's config.json; the defaults if it is not one.

    Raises:
        UserError: A value is impossible.
    """
    values = read_settings(folder / "config.json").get(PAIRJAX, {})
    settings = (
        PairjaxSettings(**{k: v for k, v in values.items() if k in PairjaxSettings._fields})
        if isinstance(values, Mapping)
        else None
    )
    if settings is None or not (
        all(isinstance(flag, bool) for flag in (settings.pooler, settings.folded))
        and settings.truncation in get_args(Truncation)
        and _is_number(settings.temperature, low=1e-6, high=1e6)
        and (settings.threshold is None or _is_number(settings.threshold, low=0.0, high=1.0))
        and (settings.positive is None or isinstance(settings.positive, str))
    ):
        raise UserError(
            f"{folder / 'config.json'}: the settings of pairjax are damaged",
            got=json.dumps(values)[:200],
            fix="export the model again",
        )
    return settings


def _is_number(value: object, *, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def activation_of(name: object, *, place: str) -> str:
    """Returns the name of an activation, given as the dotted path of a class of torch.

    Args:
        name: The path, such as "torch.nn.modules.activation.Tanh".
        place: Where it was read, for messages.

    Raises:
        UserError: It is not a known class of torch, so it may be code of the model's own.
    """
    match = re.fullmatch(r"torch\.nn\.(?:modules\.\w+\.)?(\w+)", name) if isinstance(name, str) else None
    if match is None or match[1] not in ACTIVATIONS:
        raise UserError(
            f"{place}: the activation is not supported",
            got=f"{name!r:.100}",
            expected=f"a class of torch.nn: {', '.join(ACTIVATIONS)}",
        )
    return ACTIVATIONS[match[1]]


def refuse_code(config: Mapping[str, Any], *, path: Path) -> None:
    """Raises UserError if a model needs Python code of its own repository, as `auto_map` says."""
    if config.get("auto_map"):
        raise UserError(
            f"{path}: the model needs Python code of its own repository, which pairjax never runs",
            got=f"auto_map {json.dumps(config['auto_map'])[:160]}",
            expected="a model whose class is part of transformers",
        )


def read_max_length(folder: Path, spec: EncoderSpec) -> int:
    """Returns the longest row in tokens that a folder's settings allow.

    It is `max_seq_length` of sentence-transformers, else `model_max_length` of the tokeniser, and never more than the
    encoder has positions.

    Args:
        folder: The folder with the tokeniser.
        spec: The encoder's architecture.

    Raises:
        UserError: The length is no row's.
    """
    named = [read_settings(path).get("max_seq_length") for path in sorted(folder.glob("sentence_*_config.json"))]
    named.append(read_settings(folder / "tokenizer_config.json").get("model_max_length"))
    lengths = [length for length in named if length is not None]
    if not lengths:
        return spec.max_positions
    if not _is_number(lengths[0], low=SHORTEST, high=float("inf")):
        raise UserError(
            f"{folder}: the longest row is impossible",
            got=f"{lengths[0]!r:.40}",
            expected=f"{SHORTEST:g} tokens or more",
        )
    # transformers writes 1e30 if a tokeniser has no limit.
    return int(min(lengths[0], spec.max_positions))
