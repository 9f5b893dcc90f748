"""`pairjax predict MODEL [pairs.tsv] [--output out.jsonl]`: labels the pairs of a file or of standard input."""

import itertools
import json
import os
import stat
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

Slice = tuple[int, int | None, int]
"""Start, stop and step of the rows to answer."""
SECONDS_BETWEEN_LINES = 30.0
SECONDS_OF_WAITING = 0.05
"""Time after which pairs that arrived through a pipe are answered, although more may follow."""


@dataclass(frozen=True)
class PredictOptions:
    """Label pairs with a saved model."""

    model: Annotated[str, tyro.conf.Positional]
    """Model folder, a run folder that holds a model, a folder that pairjax export --to onnx wrote, a folder of
    transformers or sentence-transformers, or a hub id."""
    input: Annotated[str, tyro.conf.Positional] = "-"
    """File of pairs (.tsv, .jsonl.gz, .parquet, ...) with the usual column names, or with two columns
    and no header. The name - stands for TSV or JSON lines on standard input. Pairs from a pipe are
    answered as they arrive."""
    output: str = "-"
    """File for the answers, one JSON line per pair in the same order; - is standard output. A file appears
    when it is complete; a device or a named pipe is written to."""
    format: Literal["auto", "tsv", "csv", "jsonl"] = "auto"
    """Format of the input; auto decides by the file's name."""
    encoding: str = "utf-8"
    """Encoding of the input, such as utf-16 or windows-1252."""
    first: str | None = None
    """Column of the first text."""
    second: str | None = None
    """Column of the second text."""
    bad_rows: Literal["refuse", "mark"] = "refuse"
    """What to do with an invalid line (an empty text, a missing field, bytes that are not UTF-8) or a pair
    that the model's truncation may not cut. refuse stops with an error and leaves --output unwritten. mark
    writes {"line": ..., "error": ...} in its place and continues."""
    shard: str | None = None
    """Answer only one of several shards: i/n, with i from 1 to n. The answers are written beside --output, as
    NAME-i-of-n.jsonl. A shard that is complete is not answered again."""
    merge: int | None = None
    """Merge the files of this number of shards into --output, and answer nothing. Input, model and options must be
    those of the shards."""
    labels: tuple[str, ...] = ()
    """Names of the classes of a model that does not name them itself, in the order of its outputs."""
    download: bool = False
    """Download a hub id that is not in the cache (needs the network)."""
    batch_size: int = 64
    """Pairs per batch."""
    runtime: Literal["jax", "onnx"] | None = None
    """What computes the model: JAX, or onnxruntime on the CPU (extra onnx). By default onnx for an exported
    folder, else jax."""
    int8: bool = False
    """Compute with int8 weights, with --runtime onnx: faster, with answers that may differ. An exported folder
    needs the files of pairjax export --int8."""
    texts: bool = True
    """Repeat the two texts in each answer."""
    progress: bool = True
    """Show progress: a bar on a terminal, otherwise a line every 30 seconds."""
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError("--batch-size is too small", got=self.batch_size, expected="at least 1")
        if self.shard is not None and self.merge is not None:
            raise UserError("--shard and --merge exclude each other", fix="merge when all shards are answered")
        if self.merge is not None and self.merge < 1:
            raise UserError("--merge is too small", got=self.merge, expected="the number of shards")
        if (self.shard or self.merge) and "-" in (self.input, self.output):
            raise UserError("--shard and --merge need a file of pairs and an --output", got="-")


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    """Opens standard output for None, or a file that appears under its name only when it is complete."""
    if path is None:
        yield sys.stdout
        return

    from pairjax.storage.files import whole_file

    with whole_file(path, fix="free some space, or choose another --output") as file:
        yield file


def _is_regular(path: str) -> bool:
    """Returns whether the input is a regular file, and not a pipe, a terminal or a device."""
    try:
        mode = (os.fstat(sys.stdin.fileno()) if path == "-" else os.stat(path)).st_mode
    except (OSError, ValueError, AttributeError):
        return True
    return stat.S_ISREG(mode)


def _count(path: str) -> int | None:
    """Counts the lines of a file, about one per pair; None if that cannot be known in advance."""
    if path == "-" or Path(path).suffix.lower() not in (".tsv", ".csv", ".jsonl") or not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


@contextmanager
def _progress(path: str, *, enabled: bool) -> Iterator[Callable[[int], None]]:
    """Gives a function that is called with the number of finished pairs and shows the progress."""
    if not enabled:
        yield lambda done: None
        return
    start = last = time.monotonic()
    total = _count(path)
    if not sys.stderr.isatty():

        def print_line(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= SECONDS_BETWEEN_LINES:
                last = now
                goal = f" of about {total:,}" if total else ""
                print(f"{done:,}{goal} pairs, {done / (now - start):,.0f} pairs/s", file=sys.stderr, flush=True)

        yield print_line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [BarColumn(), TextColumn("{task.completed:,} pairs, {task.fields[rate]:,.0f} pairs/s")]
    times = [TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predict", total=total, rate=0.0)
        yield lambda done: bar.update(task, completed=done, rate=done / max(time.monotonic() - start, 1e-9))


def _work(options: PredictOptions, source: str) -> dict[str, Any]:
    """Returns what all shards of these options have in common."""
    from pairjax.inference.shards import describe_work

    names = ("format", "first", "second", "bad_rows", "texts")
    return describe_work(Path(source), options.model, {name: getattr(options, name) for name in names})


def _merge(options: PredictOptions, source: str, output: Path) -> int:
    """Merges the files of all shards and returns the exit code."""
    from pairjax.inference.shards import merge_shards

    assert options.merge is not None
    count = merge_shards(output, options.merge, _work(options, source))
    print(f"{count:,} answers merged", file=sys.stderr)
    return 0


def _open_shard(options: PredictOptions, source: str, target: Path | None) -> tuple[Path | None, str, Slice]:
    """Returns the output, its first line and the rows to answer: those of --shard, or else all."""
    if target is None or options.shard is None:
        return target, "", (0, None, 1)
    from pairjax.inference.shards import Shard, header_line

    shard = Shard.parse(options.shard)
    return shard.file_of(target), header_line(shard, _work(options, source)), (shard.number - 1, None, shard.count)


def main(args: Sequence[str]) -> int:
    """Labels pairs and returns the exit code."""
    options = parse(PredictOptions, args, prog="pairjax predict", description=PredictOptions.__doc__ or "")

    from pairjax.data.compression import open_raw
    from pairjax.data.stream import iter_pairs, iter_rows
    from pairjax.data.table import BadRow
    from pairjax.inference.export_folder import needs_runtime
    from pairjax.inference.load import load
    from pairjax.inference.model_folder import find_artifact
    from pairjax.inference.shards import is_complete
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.storage.files import expand_path
    from pairjax.storage.outputs import check_output

    # 1. All checks that need no model.
    source = options.input if options.input == "-" else str(expand_path(options.input))
    target = None if options.output == "-" else check_output(options.output, inputs=[source])
    if not needs_runtime(options.model):
        find_artifact(options.model, download=options.download)
    regular = _is_regular(source)
    if regular and source != "-":
        open_raw(Path(source)).close()
    if target is not None and options.merge is not None:
        return _merge(options, source, target)
    target, header, every = _open_shard(options, source, target)
    if target is not None and header and is_complete(target, header):
        print(f"{target} is complete", file=sys.stderr)
        return 0
    iterate = iter_rows if options.bad_rows == "mark" else iter_pairs
    rows = iterate(source, format=options.format, first=options.first, second=options.second, encoding=options.encoding)
    lines = itertools.islice(rows, *every)
    # 2. The model.
    use_compilation_cache(None)
    model = load(
        options.model,
        mesh=options.mesh,
        labels=options.labels,
        download=options.download,
        runtime=options.runtime,
        int8=options.int8,
    )
    # 3. The answers, in the order of the pairs.
    count = bad = 0
    start = time.monotonic()
    # Answers on a terminal would be mixed with the progress bar.
    progress = options.progress and not (options.output == "-" and sys.stdout.isatty())
    notes: list[str] = []
    with _output(target) as out, _progress(source, enabled=progress) as show_progress:
        ascii_only = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
        out.write(header)
        answers = model.predict_rows(
            lines,
            batch_size=options.batch_size,
            mark=options.bad_rows == "mark",
            wait=None if regular else SECONDS_OF_WAITING,
            report=notes.extend,
        )
        for line, answer in answers:
            if isinstance(line, BadRow):
                record: dict[str, Any] = {"line": line.number, "error": line.reason}
                bad += 1
            else:
                assert answer is not None
                texts = {"sentence1": line[0], "sentence2": line[1]} if options.texts else {}
                record = texts | answer.to_json()
            out.write(json.dumps(record, ensure_ascii=ascii_only) + "\n")
            if not regular:
                out.flush()
            count += 1
            if count % 1024 == 0:
                show_progress(count)
    # 4. A summary.
    rate = count / max(time.monotonic() - start, 1e-9)
    for note in (*model.artifact.notes, *notes):
        print(note, file=sys.stderr)
    if bad:
        print(f"{bad:,} of {count:,} lines are not valid pairs and are marked as errors", file=sys.stderr)
    print(f"{count - bad:,} pairs labelled, {rate:,.0f} pairs/s", file=sys.stderr)
    return 0
