"""The formats that a model can be exported to; each has a module of its own, which is imported when it is used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pairjax.base.errors import UserError
from pairjax.base.export_config import ExportConfig
from pairjax.base.types import Pairs
from pairjax.data.encode import EncodedPairs
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.model_folder import Artifact

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "onnx": "pairjax.export.onnx_folder",
        "stablehlo": "pairjax.export.stablehlo_folder",
        "transformers": "pairjax.export.transformers_folder",
        "sentence-transformers": "pairjax.export.sentence_transformers_folder",
    }
)
"""The module that defines `FORMAT`, by the format's name."""
PREFIXES = "it puts a prefix before each text, and programs that read this format would not"
"""Reason for which a format refuses a model with prefixes."""


def calibration_notes(artifact: Artifact, config: ExportConfig) -> list[str]:
    """Returns where temperature and threshold are, for formats that keep both in the manifest of the export."""
    calibration, lines = artifact.calibration, []
    if config.fold_temperature:
        lines.append(f"the logits are divided by the temperature {calibration.temperature:.4g}")
    elif calibration.temperature != 1.0:
        lines.append(
            f"the logits come before the temperature: divide them by {calibration.temperature:.4g} for calibrated "
            "probabilities, or export with --fold-temperature"
        )
    if calibration.threshold is not None:
        threshold = f"{artifact.task.positive}, {calibration.threshold:.4g}"
        lines.append(f"the threshold of {threshold}, is in pairjax_export.json alone")
    return lines


@dataclass(frozen=True)
class Request:
    """An export that was requested.

    Attributes:
        model: The model, with activations in float32.
        config: The options.
        dev: Labelled pairs on which int8 weights are compared with float32; None if none are at hand.
    """

    model: PairClassifier
    config: ExportConfig
    dev: Pairs | None = None


class Written(NamedTuple):
    """What a format wrote.

    Attributes:
        entries: Further entries of the manifest, plain data.
        notes: Lines for the user and the card.
    """

    entries: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format that models are exported to.

    Attributes:
        name: Name of the format, as `--to` spells it.
        library: `library_name` of the hub's front matter.
        needs: Modules without which nothing can be written.
        extra: The extra of pairjax that installs them; None if `needs` is empty.
        runtime: Modules without which the written files cannot be run for the check.
        refuse: Returns why the format cannot express a model; None if it can.
        notes: Returns lines on what the folder leaves out, such as a threshold.
        pipeline_tag: Returns the hub's name of the task that the folder is for.
        use: Returns the lines of Markdown that show how to use the folder.
        write: Writes the files into an empty folder.
        difference: Runs the written files in their own runtime, and returns the largest absolute difference of their
            outputs (logits, or for a regression scores divided by `task.scale`; or vectors) from pairjax's for the
            given pairs.
    """

    name: str
    library: str
    needs: tuple[str, ...]
    extra: str | None
    runtime: tuple[str, ...]
    refuse: Callable[[Artifact, ExportConfig], str | None]
    notes: Callable[[Artifact, ExportConfig], Sequence[str]]
    pipeline_tag: Callable[[Artifact], str]
    use: Callable[[Artifact, ExportConfig], Sequence[str]]
    write: Callable[[Request, Path], Written]
    difference: Callable[[Request, Path, Sequence[tuple[str, str]]], float]


def find_format(name: str) -> Format:
    """Returns a format.

    Raises:
        UserError: There is none of that name.
    """
    if name not in MODULES:
        raise UserError(f"--to {name}: no such format", expected=f"one of {', '.join(MODULES)}")
    found: Format = import_module(MODULES[name]).FORMAT
    return found


def missing_modules(names: Sequence[str]) -> list[str]:
    """Returns those modules that are not installed."""
    return [name for name in names if find_spec(name) is None]


def check_format(target: Format, artifact: Artifact, config: ExportConfig) -> None:
    """Checks that a format can express a model and that its packages are installed.

    Raises:
        UserError: It cannot, and the message gives the reason and the formats that can; or a package is missing.
    """
    reason = target.refuse(artifact, config)
    if reason is not None:
        formats = [find_format(name) for name in MODULES if name != target.name]
        able = [other.name for other in formats if other.refuse(artifact, config) is None]
        raise UserError(
            f"{target.name} cannot express this model: {reason}",
            fix=f"use --to {' or '.join(able)}" if able else "use pairjax itself, as pairjax predict does",
        )
    missing = missing_modules(target.needs)
    if missing:
        raise UserError(
            f"--to {target.name} needs the package {' and '.join(missing)}",
            fix=f"run: pip install 'pairjax[{target.extra}]'",
        )


def check_options(artifact: Artifact, config: ExportConfig) -> None:
    """Checks options against the model, whatever the format.

    Raises:
        UserError: A temperature is to be folded into a model that has none, or no format knows the model's head.
    """
    task = artifact.task
    if task.kind == "multi-label" or task.head != "softmax":
        head = "a sigmoid for each label" if task.kind == "multi-label" else f"a {task.head} for two classes"
        raise UserError(
            f"{artifact.folder}: a model with this head cannot be exported yet", got=head, fix="use pairjax predict"
        )
    if config.fold_temperature and artifact.task.kind == "regression":
        raise UserError("--fold-temperature: a regression has no temperature", fix="leave it out")


def expected_outputs(request: Request, encoded: EncodedPairs) -> np.ndarray:
    """Returns pairjax's own outputs, float32 [N, outputs], divided by the temperature if that is folded in.

    Args:
        request: The export.
        encoded: The pairs, N of them.
    """
    outputs = request.model.encoded_outputs(encoded, batch_size=len(encoded))
    return outputs / request.model.artifact.calibration.temperature if request.config.fold_temperature else outputs
