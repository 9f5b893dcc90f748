"""`pairjax claim experiments/claims/X.py [--budget MINUTES] [--quick]`: test a claim, and give its verdict."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from pairjax.base.errors import UserError
from pairjax.cli.options import load_experiment, parse


@dataclass(frozen=True)
class ClaimOptions:
    """Run a claim's experiment and write its verdict. Run stopped by the budget or by hand goes on with the same
    command: finished cells are kept, and shared between claims."""

    file: Annotated[str, tyro.conf.Positional]
    """Python file that defines `claim`; its docstring says beforehand what is tested and how."""
    budget: float = 40.0
    """Minutes after which the run stops, to be taken up again; some claims also take their size from it."""
    seeds: int | None = None
    """Runs of each cell; no fewer than the claim needs for its verdict."""
    quick: bool = False
    """A smoke run of a minute on rule-made pairs; it never gives a verdict."""
    encoder: str | None = None
    """Another encoder than the claim names, as --model.encoder: the verdict is about it, and everything lies below a
    folder of its name in --dir."""
    dir: str = "runs/claims"
    """Where results, cells and features of all claims are kept."""
    compilation_cache: str | None = None
    """As --run.compilation-cache."""

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise UserError("--budget must be positive", got=self.budget)
        if self.seeds is not None and self.seeds < 2:
            raise UserError("--seeds is too small", got=self.seeds, expected="at least 2")


def main(args: Sequence[str]) -> int:
    options = parse(ClaimOptions, args, prog="pairjax claim", description=ClaimOptions.__doc__ or "")
    module = load_experiment(options.file, defines="claim")

    from rich.markup import escape
    from rich.table import Table

    from pairjax.base.terminal import table_console
    from pairjax.step.compilation import use_compilation_cache
    from pairjax.studies.claim import BudgetSpentError, Claim, ClaimRun
    from pairjax.studies.registration import register
    from pairjax.studies.verdict import hypothesis_table, verdict_row, write_outcome

    claim = module.claim
    if not isinstance(claim, Claim):
        raise UserError(f"{options.file}: claim is no Claim", got=type(claim).__name__, expected="claim = Claim(...)")
    console = table_console()
    use_compilation_cache(options.compilation_cache)
    root = Path(options.dir)
    if options.encoder is not None:
        claim = replace(claim, encoder=options.encoder)
        root /= Path(options.encoder).name
    if options.quick:
        root /= "quick"
    seeds, reason = 2 if options.quick else options.seeds or claim.seeds, None
    if claim.decides and not options.quick:
        if seeds < claim.seeds:
            raise UserError(
                f"too few seeds for a verdict on {claim.id}",
                got=seeds,
                expected=f"at least {claim.seeds}",
                fix="leave --seeds out, or use --quick for a look",
            )
        reason = register(root / claim.id, Path(options.file))
    began = time.monotonic()
    run = ClaimRun(
        claim=claim,
        root=root,
        seeds=seeds,
        quick=options.quick,
        deadline=began + 60.0 * options.budget,
        budget=options.budget,
        say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
    )
    if reason:
        run.say(f"no verdict will come of this: {reason}")
    try:
        outcome = claim.run(run)
    except BudgetSpentError:
        run.say(
            f"stopped after {options.budget:g} minutes with {run.cells_run} cells done; no verdict yet: "
            "the same command goes on"
        )
        return 0
    minutes = (time.monotonic() - began) / 60.0
    row = verdict_row(run, outcome, file=Path(options.file), minutes=minutes)
    write_outcome(root / claim.id, row, outcome)
    for title, rows in {f"{claim.id}: {claim.statement}": hypothesis_table(row), **outcome.tables}.items():
        # Combiners are written in brackets, which would be read as markup.
        table = Table(*map(escape, rows[0]), title=escape(title))
        for line in rows[1:]:
            table.add_row(*map(escape, line))
        console.print(table)
    for note in row["notes"]:
        run.say(f"- {note}")
    verdict = row["verdict"] or f"no verdict: {row['no_verdict_because']}"
    print(f"{claim.id}: {verdict} ({row['seeds']} seeds, {row['minutes']} minutes; {root / claim.id}/table.md)")
    return 0
