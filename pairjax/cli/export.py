"""`pairjax export MODEL --to FORMAT --output DIR`: writes a model in the format of another tool."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pairjax.base.data_config import DataConfig
from pairjax.base.export_config import ExportConfig
from pairjax.cli.options import parse

if TYPE_CHECKING:
    from pairjax.base.types import Pairs, TaskSpec


@dataclass(frozen=True)
class ExportOptions:
    """Write a trained model in the format of another tool. The folder appears only after its files have given the same
    outputs as pairjax on 64 pairs, if the format's own runtime is installed."""

    model: Annotated[str, tyro.conf.Positional]
    """Model folder, or a run folder that holds a model."""
    to: Literal["onnx", "stablehlo", "transformers", "sentence-transformers"]
    """The format. onnx: graphs for onnxruntime, transformers.js, text-embeddings-inference and Vespa. stablehlo: a
    program for JAX on CPU, CUDA and TPU, with a runner that does not need pairjax."""
    output: str
    """Folder to write; it must not exist."""
    int8: bool = False
    """Also write a file with int8 weights (onnx), and print how often its labels agree with those in float32."""
    fold_temperature: bool = False
    """Divide the last layer by the temperature fitted on dev, so that a plain softmax of the file's logits is
    calibrated."""
    data: DataConfig = field(default_factory=DataConfig)
    """Labelled pairs on which int8 is compared with float32. By default those of the run."""


def main(args: Sequence[str]) -> int:
    """Exports a model and returns the exit code."""
    options = parse(ExportOptions, args, prog="pairjax export", description=ExportOptions.__doc__ or "")

    from pairjax.export.model import check_target, export_model
    from pairjax.inference.classifier import PairClassifier
    from pairjax.inference.model_folder import load_artifact
    from pairjax.step.compilation import use_compilation_cache

    config = ExportConfig(int8=options.int8, fold_temperature=options.fold_temperature)
    artifact = load_artifact(options.model)
    check_target(options.to, options.output, artifact, config)
    dev = _dev(options, artifact.folder, artifact.task) if options.int8 else None
    use_compilation_cache(None)
    result = export_model(PairClassifier(artifact), options.to, options.output, config=config, dev=dev)
    for line in result.lines():
        print(line)
    return 0


def _dev(options: ExportOptions, folder: Path, task: "TaskSpec") -> "Pairs | None":
    """Returns labelled pairs to compare int8 with float32 on: dev of the options' data, else of the run's data."""
    from pairjax.base.config import Config
    from pairjax.base.errors import UserError
    from pairjax.data.sources import load_for_task
    from pairjax.storage.files import read_json

    data = options.data
    if data == DataConfig():
        record = folder.parent / "config.json"
        if folder.name != "model" or not record.is_file():
            return None
        try:
            splits = load_for_task(Config.from_dict(read_json(record)).data, task).splits
        except UserError:
            # The run's data may have moved; the export does not depend on it.
            return None
    else:
        splits = load_for_task(data, task).splits
    labelled = [splits[name] for name in ("dev", "test", "train") if name in splits and splits[name].label is not None]
    if not labelled and data != DataConfig():
        raise UserError("the data has no split dev, test or train with labels", got=", ".join(splits))
    return labelled[0] if labelled else None
