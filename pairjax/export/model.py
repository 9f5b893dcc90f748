"""Export a model: write the folder, check it in its own runtime, and let it appear complete or not at all."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.base.export_config import ExportConfig
from pairjax.base.types import Pairs
from pairjax.export.card import export_card
from pairjax.export.check import PAIRS, check_export, check_pairs
from pairjax.export.formats import Format, Request, check_format, check_options, find_format
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.export_folder import write_export_manifest
from pairjax.inference.manifest import ModelFacts
from pairjax.inference.model_folder import Artifact
from pairjax.storage.files import storage_error, whole_folder
from pairjax.storage.outputs import check_output_folder


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        folder: The folder.
        difference: Largest difference of the files' outputs from pairjax's on 64 pairs; None if their own runtime is
            not installed.
        notes: Lines on what the folder leaves out.
        entries: Further entries of the manifest, by name.
    """

    folder: Path
    difference: float | None
    notes: tuple[str, ...]
    entries: Mapping[str, Any]

    def lines(self) -> list[str]:
        """Returns what the command prints."""
        return [*self.notes, _check_line(self.difference), f"written to {self.folder}"]


def check_target(to: str, output: str | Path, artifact: Artifact, config: ExportConfig) -> tuple[Format, Path]:
    """Checks all that can be checked before the model is built.

    Args:
        to: Name of the format.
        output: The folder to write.
        artifact: The model.
        config: The options.

    Returns:
        The format and the folder.

    Raises:
        UserError: The format is not known or cannot express the model, a package is missing, or the folder exists or
            cannot be made.
    """
    target = find_format(to)
    folder = check_output_folder(output)
    if folder.exists():
        raise UserError(f"{folder} exists", fix="remove it, or choose another --output")
    check_options(artifact, config)
    check_format(target, artifact, config)
    return target, folder


def export_model(
    model: PairClassifier, to: str, output: str | Path, *, config: ExportConfig, dev: Pairs | None = None
) -> ExportResult:
    """Writes a model in another format.

    Args:
        model: The model.
        to: Name of the format.
        output: The folder to write; it must not exist, and appears only after its files have passed the check.
        config: The options.
        dev: Labelled pairs on which int8 weights are compared with float32.

    Raises:
        UserError: As `check_target`; or the files do not pass the check, or the disk refuses the write.
    """
    target, folder = check_target(to, output, model.artifact, config)
    artifact, request = model.artifact, Request(model.in_float32(), config, dev)
    temperature = artifact.calibration.temperature if config.fold_temperature else 1.0
    calibration = artifact.calibration
    if config.fold_temperature:
        calibration = dataclasses.replace(calibration, temperature=1.0)
    facts = ModelFacts(
        artifact.task,
        dataclasses.replace(artifact.model, combiner=None),
        artifact.own_combiner,
        artifact.max_length,
        artifact.truncation,
        calibration,
        artifact.prefixes,
    )
    try:
        with whole_folder(folder, replace=False) as partial:
            written = target.write(request, partial)
            notes = (*target.notes(artifact, config), *written.notes)
            difference = check_export(target, request, partial, check_pairs())
            check = {"pairs": PAIRS, "largest_difference": difference}
            card = artifact.folder / "README.md"
            text = export_card(
                card.read_text(encoding="utf-8") if card.is_file() else "",
                name=folder.name,
                library=target.library,
                pipeline_tag=target.pipeline_tag(artifact),
                use=target.use(artifact, config),
                notes=(*notes, _check_line(difference)),
            )
            (partial / "README.md").write_text(text, encoding="utf-8")
            write_export_manifest(
                partial, facts, target=target.name, folded_temperature=temperature, check=check, **written.entries
            )
    except OSError as error:
        fix = "free some space, or choose another --output"
        raise storage_error(f"{folder} cannot be written", error, fix=fix) or error from error
    return ExportResult(folder, difference, notes, written.entries)


def _check_line(difference: float | None) -> str:
    """Returns the line on the check."""
    if difference is None:
        return "not checked: the format's own runtime is not installed here"
    return f"checked on {PAIRS} pairs: the largest difference from pairjax's outputs is {difference:.2g}"
