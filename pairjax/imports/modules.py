"""Reads the modules of a sentence-transformers folder: modules.json, and the settings and weights of each module."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pairjax.base.errors import UserError
from pairjax.base.types import Params
from pairjax.imports.settings import activation_of, read_settings
from pairjax.weights.safetensors_folder import refuse_pickles

MODULES = "modules.json"
KNOWN = ("Transformer", "Pooling", "Dense", "Normalize")
MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Old switches of a pooling module, and the modes that replaced them."""
EMBEDDING, SCORES = "sentence_embedding", "scores"


@dataclass(frozen=True)
class DenseModule:
    """A dense layer.

    Attributes:
        params: {kernel [inputs, outputs], bias [outputs]}, float32.
        activation: Name of its activation.
        output: What it computes: the vector of the text, or the scores of a pair.
        folder: Its folder.
    """

    params: Params
    activation: str
    output: Literal["sentence_embedding", "scores"]
    folder: Path

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of inputs and outputs."""
        inputs, outputs = self.params["kernel"].shape
        return inputs, outputs


@dataclass(frozen=True)
class Modules:
    """The modules of a folder in their order, checked.

    Attributes:
        transformer: Folder of the encoder and its tokeniser.
        task: What the transformer computes: hidden states, or with its own head the scores of a pair.
        pooling: How tokens become a vector; None without a pooling module.
        dense: The dense layers after pooling.
        normalize: Whether vectors are scaled to length 1 at the end.
    """

    transformer: Path
    task: Literal["feature-extraction", "sequence-classification"]
    pooling: Literal["cls", "mean", "max"] | None
    dense: tuple[DenseModule, ...]
    normalize: bool


def read_modules(folder: Path) -> Modules:
    """Reads modules.json and every module but the encoder's weights.

    Raises:
        UserError: A module is code of the repository, is not supported, or does not fit the one before it.
    """
    path = folder / MODULES
    entries = _entries(path)
    kinds = [kind for kind, _ in entries]
    if kinds[:1] != ["Transformer"] or kinds.count("Transformer") != 1:
        raise UserError(
            f"{path}: the first module is not the encoder", got=" ".join(kinds), expected="Transformer first"
        )
    if kinds[1:] and (kinds[1] != "Pooling" or kinds.count("Pooling") != 1):
        raise UserError(
            f"{path}: no pooling after the encoder", got=" ".join(kinds), expected="Transformer Pooling ..."
        )
    if "Normalize" in kinds[:-1]:
        raise UserError(
            f"{path}: a module after the scaling of vectors", got=" ".join(kinds), expected="Normalize last"
        )
    transformer = entries[0][1]
    settings: dict[str, Any] = {}
    for file in sorted(transformer.glob("sentence_*_config.json")):
        settings |= read_settings(file)
    task = settings.get("transformer_task", "feature-extraction")
    if task not in ("feature-extraction", "sequence-classification"):
        raise UserError(f"{transformer}: the task of the encoder is not supported", got=f"{task!r:.60}")
    pooling = _read_pooling(entries[1][1]) if kinds[1:] else None
    dense = tuple(read_dense(place) for kind, place in entries if kind == "Dense")
    return Modules(transformer, task, pooling, dense, "Normalize" in kinds)


def _entries(path: Path) -> list[tuple[str, Path]]:
    """Returns kind and folder of each module in their order."""
    import json

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON", got=error, fix="fetch the model again") from None
    entries = []
    for value in values if isinstance(values, list) else [None]:
        kind, place = (value.get("type"), value.get("path")) if isinstance(value, Mapping) else (None, None)
        if not isinstance(kind, str) or not isinstance(place, str) or "\0" in place:
            raise UserError(f"{path}: not a list of modules", got=f"{value!r:.100}", expected="type and path of each")
        if not kind.startswith("sentence_transformers."):
            raise UserError(
                f"{path}: a module is Python code of the model's own, which pairjax never runs",
                got=kind[:100],
                expected=f"modules of sentence-transformers: {', '.join(KNOWN)}",
            )
        name = kind.rsplit(".", 1)[1]
        if name not in KNOWN:
            raise UserError(f"{path}: a module is not supported", got=name[:60], expected=", ".join(KNOWN))
        if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            raise UserError(f"{path}: names a folder outside the model", got=place)
        entries.append((name, path.parent / place))
    return entries


def _read_pooling(folder: Path) -> Literal["cls", "mean", "max"]:
    """Returns the mode of a pooling module."""
    path = folder / "config.json"
    settings = read_settings(path)
    modes: Any = settings.get("pooling_mode") or [mode for key, mode in MODES.items() if settings.get(key)] or "mean"
    names: list[Any] = [modes] if isinstance(modes, str) else modes if isinstance(modes, list) else []
    if len(names) != 1 or names[0] not in ("cls", "mean", "max"):
        raise UserError(f"{path}: the pooling is not supported", got=f"{modes!r:.80}", expected="cls, mean or max")
    if settings.get("include_prompt", True) is not True:
        raise UserError(f"{path}: pooling without the prompt's tokens is not supported", got="include_prompt false")
    mode: Literal["cls", "mean", "max"] = names[0]
    return mode


def read_dense(folder: Path) -> DenseModule:
    """Reads a dense module.

    Raises:
        UserError: Its settings or weights are missing, damaged or not supported.
    """
    path = folder / "config.json"
    settings = read_settings(path)
    source: Any = settings.get("module_input_name", EMBEDDING)
    target: Any = settings.get("module_output_name") or EMBEDDING
    if source != EMBEDDING or target not in (EMBEDDING, SCORES) or settings.get("use_residual"):
        raise UserError(
            f"{path}: the dense layer is not supported",
            got=f"{source!r:.40} to {target!r:.40}" + (", residual" if settings.get("use_residual") else ""),
            expected=f"{EMBEDDING} to {EMBEDDING} or {SCORES}, without a residual connection",
        )
    activation = activation_of(settings.get("activation_function", "torch.nn.Tanh"), place=str(path))
    tensors = read_tensors(folder / "model.safetensors")
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    has_bias = settings.get("bias", True) is not False
    expected: Any = (settings.get("out_features"), settings.get("in_features"))
    names = {"linear.weight", "linear.bias"} if has_bias else {"linear.weight"}
    if tensors.keys() != names or weight is None or weight.shape != expected:
        raise UserError(
            f"{folder}: the weights do not fit config.json",
            got=", ".join(f"{name} {value.shape}" for name, value in sorted(tensors.items()))[:200] or "no tensors",
            expected=f"{', '.join(sorted(names))} of {expected[1]!r:.20} inputs and {expected[0]!r:.20} outputs",
        )
    bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    if bias.shape != weight.shape[:1]:
        raise UserError(f"{folder}: the bias has another shape", got=bias.shape, expected=weight.shape[:1])
    return DenseModule({"kernel": np.ascontiguousarray(weight.T), "bias": bias}, activation, target, folder)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a small safetensors file as float32.

    Raises:
        UserError: It is missing, pickled, damaged, or holds NaN or infinity.
    """
    if not path.is_file():
        refuse_pickles(path.parent)
        raise UserError(f"{path.parent}: the folder has no weights", expected=path.name, fix="fetch the model again")
    try:
        tensors = {name: np.asarray(value).astype(np.float32) for name, value in load_file(path).items()}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cut off or damaged", got=error, fix="fetch the file again") from None
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise UserError(f"{path}: {name} holds NaN or infinity", fix="fetch the file again")
    return tensors
