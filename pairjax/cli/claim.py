"""`pairjax claim experiments/claims/X.py [--budget MINUTES] [--quick]`: test a claim and print its verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pairjax.base.errors import UserError
from pairjax.cli.options import load_experiment, parse


@dataclass(frozen=True)
class ClaimOptions:
    """Run a claim's experiment and write its verdict. If the run is interrupted or its budget runs out, the same
    command continues it: finished cells are kept, and claims share them."""

    file: Annotated[str, tyro.conf.Positional]
    """Python file that defines `claim`. Its docstring states in advance what is tested and how."""
    budget: float = 40.0
    """Minutes after which the run stops; the same command continues it. Some claims choose their size from it."""
    seeds: int | None = None
    """Runs of each cell; at least as many as the claim needs for its verdict."""
    quick: bool = False
    """Make a smoke run of about a minute on rule-made pairs. It gives no verdict."""
    encoder: str | None = None
    """Encoder to use instead of the claim's, as in --model.encoder. The verdict is then about this encoder, and its
    results go to a folder of its name inside --dir."""
    group_texts: bool = True
    """Keep pairs that share a text in one fold, in claims that cut folds. --no-group-texts recomputes the design with
    which Lemmas 2 and 2.1 were registered."""
    from_records: bool = False
    """Recompute tables and verdict from the records beside the claim's file, without training, data or encoder."""
    dir: str = "runs/claims"
    """Folder for the results, cells and features of all claims."""
    compilation_cache: str | None = None
    """Same as --run.compilation-cache."""

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise UserError("--budget must be positive", got=self.budget)
        if self.from_records and self.quick:
            raise UserError("--from-records and --quick exclude each other", fix="leave one out")
        if self.seeds is not None and self.seeds < 2:
            raise UserError("--seeds is too small", got=self.seeds, expected="at least 2")


def main(args: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    options = parse(ClaimOptions, args, prog="pairjax claim", description=ClaimOptions.__doc__ or "")
    claim = load_experiment(options.file, defines="claim").claim

    from rich.markup import escape
    from rich.table import Table

    from pairjax.base.terminal import table_console
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.studies.claim import Claim
    from pairjax.studies.run_claim import run_claim
    from pairjax.studies.verdict import verdict_text

    if not isinstance(claim, Claim):
        raise UserError(
            f"{options.file}: claim is not a Claim", got=type(claim).__name__, expected="claim = Claim(...)"
        )
    console = table_console()

    def log(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    use_compilation_cache(options.compilation_cache)
    result = run_claim(
        claim,
        file=Path(options.file),
        root=Path(options.dir),
        log=log,
        budget=options.budget,
        seeds=options.seeds,
        quick=options.quick,
        encoder=options.encoder,
        group_texts=options.group_texts,
        from_records=options.from_records,
    )
    if result is None:
        return 0
    for title, rows in result.tables.items():
        # Rich would read combiners, which are written in brackets, as markup.
        table = Table(*map(escape, rows[0]), title=escape(title))
        for cells in rows[1:]:
            table.add_row(*map(escape, cells))
        console.print(table)
    row = result.row
    for note in row["notes"]:
        log(f"- {note}")
    verdict = verdict_text(row) if row["verdict"] else f"no verdict: {row['no_verdict_because']}"
    print(f"{row['id']}: {verdict} ({row['seeds']} seeds, {row['minutes']} minutes; {result.folder / 'table.md'})")
    return 0
