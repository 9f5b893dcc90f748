"""`pairjax predict MODEL [pairs.tsv] [--output out.jsonl]`: a file or standard input to a file or standard output."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Literal

import tyro

from pairjax.base.config import MeshConfig
from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class PredictOptions:
    """Label pairs with a saved model."""

    model: Annotated[str, tyro.conf.Positional]
    """Model folder, or the run folder that holds it."""
    input: Annotated[str, tyro.conf.Positional] = "-"
    """Pairs as .tsv, .csv, .jsonl or .parquet, with the usual column names, or without a header two columns; - reads
    TSV or JSON lines from standard input."""
    output: str = "-"
    """JSON lines, one a pair, in order; - writes to standard output."""
    format: Literal["auto", "tsv", "csv", "jsonl"] = "auto"
    """Of the input; auto goes by the file's name."""
    first: str | None = None
    """Column of the first text."""
    second: str | None = None
    """Column of the second text."""
    batch_size: int = 128
    texts: bool = True
    """Repeat the texts in the output."""
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError("--batch-size is too small", got=self.batch_size, expected="at least 1")


@contextmanager
def _output(path: str) -> Iterator[IO[str]]:
    """Standard output, or a file that appears under its name only when it is complete."""
    if path == "-":
        yield sys.stdout
        return
    target = Path(path)
    if not target.parent.is_dir():
        raise UserError(f"{target}: its folder does not exist", got=target.parent, mend="create it first")
    if target.is_dir():
        raise UserError(f"{target}: is a folder", expected="a file name for --output")
    handle, partial = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)


def main(args: Sequence[str]) -> int:
    options = parse(PredictOptions, args, prog="pairjax predict", description=PredictOptions.__doc__ or "")

    from pairjax.data.sources import iter_pairs
    from pairjax.training.predict import load
    from pairjax.training.setup import use_compilation_cache

    pairs = iter_pairs(options.input, format=options.format, first=options.first, second=options.second)
    use_compilation_cache(None)
    model = load(options.model, mesh=options.mesh)
    count = 0
    with _output(options.output) as out:
        for (first, second), answer in model.predict_stream(pairs, batch_size=options.batch_size):
            row = {"sentence1": first, "sentence2": second} if options.texts else {}
            out.write(json.dumps(row | answer.to_json(), ensure_ascii=False) + "\n")
            count += 1
    print(f"{count:,} pairs labelled", file=sys.stderr)
    return 0
