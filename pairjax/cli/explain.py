"""`pairjax explain MODEL [pairs.tsv] [--output out.jsonl]`: how much each token adds to the logit of a class."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from pairjax.base.config import MeshConfig
from pairjax.cli.options import parse


@dataclass(frozen=True)
class ExplainOptions:
    """Explain the answers of a saved model: the contribution of each token by integrated gradients. The contributions
    sum to the change of the logit from the baseline, in which the pad token replaces every token."""

    model: Annotated[str, tyro.conf.Positional]
    """Model folder, or a run folder that holds a model."""
    input: Annotated[str, tyro.conf.Positional] = "-"
    """File of pairs (.tsv, .csv, .jsonl or .parquet); - is standard input."""
    output: str = "-"
    """File for the explanations, one JSON line per pair; - is standard output."""
    format: Literal["auto", "tsv", "csv", "jsonl"] = "auto"
    """Format of the input; auto decides by the file's name."""
    first: str | None = None
    """Column of the first text."""
    second: str | None = None
    """Column of the second text."""
    label: str | None = None
    """The class whose logit is explained. By default the predicted class of each pair."""
    mesh: MeshConfig = field(default_factory=MeshConfig)


def main(args: Sequence[str]) -> int:
    """Explains pairs and returns the exit code."""
    options = parse(ExplainOptions, args, prog="pairjax explain", description=ExplainOptions.__doc__ or "")

    from pairjax.data.stream import iter_pairs
    from pairjax.inference.load import load
    from pairjax.inference.model_folder import find_artifact
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.storage.files import expand_path, whole_file
    from pairjax.storage.outputs import check_output

    source = options.input if options.input == "-" else str(expand_path(options.input))
    target = None if options.output == "-" else check_output(options.output, inputs=[source])
    find_artifact(options.model)
    pairs = iter_pairs(source, format=options.format, first=options.first, second=options.second)
    use_compilation_cache(None)
    model = load(options.model, mesh=options.mesh)
    fix = "free some space, or choose another --output"
    with nullcontext(sys.stdout) if target is None else whole_file(target, fix=fix) as out:
        ascii_only = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
        for pair in pairs:
            for explanation in model.explain([pair], label=options.label):
                out.write(json.dumps(explanation.to_json(), ensure_ascii=ascii_only) + "\n")
    return 0
