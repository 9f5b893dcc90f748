"""`pairjax evaluate MODEL --data.path DIR`: scores a model on labelled pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from pairjax.base.config import EvalConfig, MeshConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a saved model on every labelled split of a data source. The model's own truncation and maximum length
    apply, and its temperature and threshold stay as fitted in training."""

    model: Annotated[str, tyro.conf.Positional]
    """Model folder, a run folder that holds a model, a folder of transformers or sentence-transformers, or a hub id."""
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    labels: tuple[str, ...] = ()
    """Names of the classes of a model that does not name them itself, in the order of its outputs."""
    download: bool = False
    """Download a hub id that is not in the cache (needs the network)."""
    output: str | None = None
    """Also write the scores to this JSON file."""


def main(args: Sequence[str]) -> int:
    """Scores a model, prints the scores and returns the exit code."""
    options = parse(EvaluateOptions, args, prog="pairjax evaluate", description=EvaluateOptions.__doc__ or "")

    from rich.console import Console

    from pairjax.data.sources import load_for_task
    from pairjax.evaluation.tables import print_results
    from pairjax.inference.evaluate import evaluate_splits
    from pairjax.inference.load import load
    from pairjax.inference.model_folder import find_artifact
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.storage.files import write_json
    from pairjax.storage.outputs import check_output

    find_artifact(options.model, download=options.download)
    sources = (options.data.path, options.data.train, options.data.dev, options.data.test)
    inputs = [name for name in sources if name is not None]
    output = None if options.output is None else check_output(options.output, kind="a JSON file", inputs=inputs)
    use_compilation_cache(None)
    model = load(options.model, mesh=options.mesh, labels=options.labels, download=options.download)
    data = load_for_task(options.data, model.task)
    scores = evaluate_splits(model, data, config=options.evaluation)
    metrics = scores["metrics"]
    if not metrics:
        raise UserError("no split has labels", got=", ".join(data.splits), fix="use pairjax predict")
    console = Console()
    for note in (*model.artifact.notes, *data.notes, *scores["notes"]):
        console.print(note, highlight=False, markup=False)
    print_results(
        console,
        metrics=metrics,
        reports=scores["classes"],
        baselines=scores.get("baselines", {}),
        slices=scores.get("slices", {}),
        positive=model.task.positive,
        threshold=model.artifact.calibration.threshold if options.evaluation.fit else None,
    )
    if output is not None:
        write_json(output, scores, fix="free some space, or choose another --output")
    return 0
