"""`pairjax import MODEL --output DIR`: writes a model of another library as a model folder of pairjax."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class ImportOptions:
    """Write a classifier of transformers or a model of sentence-transformers as a model folder of pairjax. Encoder,
    head, class names and tokeniser are kept; every command reads the original too, without this step."""

    model: Annotated[str, tyro.conf.Positional]
    """Folder of transformers or sentence-transformers, or a hub id."""
    output: str
    """Folder to write."""
    labels: tuple[str, ...] = ()
    """Names of the classes of a model that does not name them itself, in the order of its outputs."""
    download: bool = False
    """Download a hub id that is not in the cache (needs the network)."""


def main(args: Sequence[str]) -> int:
    """Converts a model and returns the exit code."""
    options = parse(ImportOptions, args, prog="pairjax import", description=ImportOptions.__doc__ or "")

    from pairjax.inference.card import escaped
    from pairjax.inference.model_folder import load_artifact, save_artifact
    from pairjax.storage.outputs import check_output_folder

    output = check_output_folder(options.output)
    if output.exists():
        raise UserError(f"{output}: exists", fix="choose another --output, or remove it")
    artifact = load_artifact(options.model, labels=options.labels, download=options.download)
    if artifact.own_combiner:
        raise UserError(f"{artifact.folder}: a model of pairjax already, with the user's own combiner")
    classes = ", ".join(artifact.task.labels) or "a score"
    front = {"library_name": "pairjax", "pipeline_tag": "text-classification", "base_model": options.model}
    card = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()),
        "---",
        "",
        f"# {escaped(output.name)}",
        "",
        f"Imported from {escaped(options.model)}. Output for a pair of texts: {escaped(classes)}.",
        "",
        *(f"- {escaped(note)}" for note in artifact.notes),
        "",
    ]
    save_artifact(
        output,
        task=artifact.task,
        model=artifact.model,
        max_length=artifact.max_length,
        truncation=artifact.truncation,
        prefixes=artifact.prefixes or ("", ""),
        calibration=artifact.calibration,
        spec=artifact.spec,
        params=artifact.params,
        encoder_source=artifact.encoder_folder,
        card="\n".join(card),
    )
    for note in artifact.notes:
        print(note)
    print(f"{output}: {classes}; rows of up to {artifact.max_length} tokens")
    return 0
