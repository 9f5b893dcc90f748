"""`pairjax predict MODEL [pairs.tsv] [--output out.jsonl]`: a file or standard input to a file or standard output."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import tyro

from pairjax.base.config import MeshConfig
from pairjax.base.errors import UserError
from pairjax.cli.options import parse

SECONDS_BETWEEN_LINES = 30.0


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
    bad_rows: Literal["refuse", "mark"] = "refuse"
    """A row that is no pair (an empty text, bytes that are not UTF-8, a NUL, a ragged line): refuse ends there with
    nothing written to --output; mark writes {"line": ..., "error": ...} in its place and goes on."""
    batch_size: int = 64
    texts: bool = True
    """Repeat the texts in the output."""
    progress: bool = True
    """Show how far it is: a bar on a terminal, elsewhere a line now and then."""
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
        raise UserError(f"{target}: its folder does not exist", got=target.parent, fix="create it first")
    if target.is_dir():
        raise UserError(f"{target}: is a folder", expected="a file name for --output")
    from pairjax.storage.files import whole_file

    with whole_file(target, fix="free some space, or choose another --output") as file:
        yield file


def _count(path: str) -> int | None:
    """Rows of a file, about (a header counts, and so does a line break within a field); None where that is unknown."""
    if path == "-" or Path(path).suffix.lower() not in (".tsv", ".csv", ".jsonl"):
        return None
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


@contextmanager
def _progress(path: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A function that is told how many pairs are done."""
    if not shown:
        yield lambda done: None
        return
    began = last = time.monotonic()
    total = _count(path)
    if not sys.stderr.isatty():

        def say(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= SECONDS_BETWEEN_LINES:
                last = now
                of = f" of about {total:,}" if total else ""
                print(f"{done:,}{of} pairs, {done / (now - began):,.0f} pairs/s", file=sys.stderr, flush=True)

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [BarColumn(), TextColumn("{task.completed:,} pairs, {task.fields[rate]:,.0f} pairs/s")]
    times = [TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predict", total=total, rate=0.0)
        yield lambda done: bar.update(task, completed=done, rate=done / max(time.monotonic() - began, 1e-9))


def main(args: Sequence[str]) -> int:
    options = parse(PredictOptions, args, prog="pairjax predict", description=PredictOptions.__doc__ or "")

    from pairjax.data.stream import iter_pairs, iter_rows
    from pairjax.data.table import BadRow
    from pairjax.inference.classifier import load
    from pairjax.step.compilation import use_compilation_cache

    read = iter_rows if options.bad_rows == "mark" else iter_pairs
    rows = read(options.input, format=options.format, first=options.first, second=options.second)
    use_compilation_cache(None)
    model = load(options.model, mesh=options.mesh)
    count = bad = 0
    began = time.monotonic()
    shown = options.progress and not (options.output == "-" and sys.stdout.isatty())
    with _output(options.output) as out, _progress(options.input, shown=shown) as tell:
        for row, answer in model.predict_rows(rows, batch_size=options.batch_size):
            if isinstance(row, BadRow):
                said: dict[str, Any] = {"line": row.number, "error": row.reason}
                bad += 1
            else:
                assert answer is not None
                texts = {"sentence1": row[0], "sentence2": row[1]} if options.texts else {}
                said = texts | answer.to_json()
            out.write(json.dumps(said, ensure_ascii=False) + "\n")
            count += 1
            if count % 1024 == 0:
                tell(count)
    rate = count / max(time.monotonic() - began, 1e-9)
    if bad:
        print(f"{bad:,} of {count:,} rows are no pairs and are marked as such", file=sys.stderr)
    print(f"{count - bad:,} pairs labelled, {rate:,.0f} pairs/s", file=sys.stderr)
    return 0
