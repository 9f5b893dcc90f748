"""`pairjax data inspect --data.path DIR`: look at pairs before training on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pairjax.base.config import DataConfig
from pairjax.base.errors import UserError
from pairjax.cli.options import parse


@dataclass(frozen=True)
class InspectOptions:
    """Show classes, lengths, word overlap, leaks between splits and a few rows."""

    data: DataConfig = field(default_factory=DataConfig)
    rows: int = 2
    """Pairs shown of each class."""
    baselines: bool = False
    """Also fit majority, length, hypothesis-only and word-overlap baselines, and score them on dev."""


def main(args: Sequence[str]) -> int:
    if not args or args[0] != "inspect":
        if args and args[0] in ("-h", "--help"):
            print("usage: pairjax data inspect [options]   (pairjax data inspect --help lists them)")
            return 0
        raise UserError("pairjax data", got=args[0] if args else "nothing", expected="inspect")
    options = parse(InspectOptions, args[1:], prog="pairjax data inspect", description=InspectOptions.__doc__ or "")

    from rich.console import Console

    from pairjax.data.inspect import inspect_pairs, print_summary
    from pairjax.data.sources import load_pairs

    console = Console()
    data = load_pairs(options.data)
    print_summary(inspect_pairs(data), console, rows=options.rows, seed=options.data.seed)
    if options.baselines:
        from pairjax.training.present import baselines_table
        from pairjax.training.probes import lexical_baselines

        console.print(baselines_table(lexical_baselines(data), split="dev"))
    return 0
