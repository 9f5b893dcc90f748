"""The run of a claim, from its registration to its verdict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairjax.base.errors import UserError
from pairjax.storage.files import read_json, write_json
from pairjax.studies.claim import BudgetSpentError, Claim, ClaimRun
from pairjax.studies.records import Records
from pairjax.studies.registration import design_digest, register
from pairjax.studies.rules import ENOUGH, power_line, power_of, runs_needed
from pairjax.studies.verdict import hypothesis_table, verdict_row, write_outcome


@dataclass(frozen=True)
class ClaimResult:
    """The result of a claim's run, as it was written.

    Attributes:
        row: The content of verdict.json, without the tables.
        tables: By title, rows of text cells; the first row is the header.
        folder: The folder of the claim's results.
    """

    row: dict[str, Any]
    tables: dict[str, list[list[str]]]
    folder: Path


def run_claim(
    claim: Claim,
    *,
    file: Path,
    root: Path,
    log: Callable[[str], None],
    budget: float,
    seeds: int | None = None,
    quick: bool = False,
    encoder: str | None = None,
    group_texts: bool = True,
    from_records: bool = False,
) -> ClaimResult | None:
    """Runs a claim's experiment and writes its verdict.

    Args:
        claim: The claim.
        file: The file that defines the claim. A full run registers its docstring.
        root: The folder of all claims' results. Runs with another encoder and quick runs use folders inside it.
        log: Prints a line.
        budget: Minutes after which the run stops.
        seeds: Runs of each score; None for the number that the claim needs.
        quick: Whether to make a smoke run, which gives no verdict.
        encoder: Another encoder than the claim names; None for the claim's own.
        group_texts: Whether folds keep pairs that share a text together. Claims registered before this was possible
            are recomputed as they were registered without it.
        from_records: Whether to recompute tables and verdict from the records beside the claim's file, without a run.

    Returns:
        The result; None if the budget ran out first. Finished work is then kept, and the same call continues it.

    Raises:
        UserError: There are too few seeds for a verdict, the claim changed after its first full run, or its records
            are missing, damaged or those of another design.
    """
    kept = file.parent / "records"
    if encoder is not None:
        claim = replace(claim, encoder=encoder)
        root, kept = root / Path(encoder).name, kept / Path(encoder).name
    if quick:
        root /= "quick"
    folder = root / claim.id
    records = None
    if claim.round == 2 and claim.decides and not quick:
        design = design_digest(file, claim, budget=budget, group_texts=group_texts)
        records = Records(kept / claim.id, design, only_read=from_records)
        _restore_registration(records, folder)
    if from_records:
        seeds = seeds or _recorded_seeds(claim, records)
    seeds = 2 if quick else seeds or claim.seeds
    if claim.decides and not quick:
        check_seeds(claim, seeds)
    if claim.decides and not quick and not from_records:
        check_power(claim, seeds, log=log)
        # The design is registered before the first effect is computed.
        if reason := register(folder, file, claim, budget=budget, group_texts=group_texts):
            log(f"this run will give no verdict: {reason}")
    began = time.monotonic()
    run = ClaimRun(
        claim=claim,
        root=root,
        seeds=seeds,
        quick=quick,
        deadline=began + 60.0 * budget,
        budget=budget,
        group_texts=group_texts,
        log=log,
        records=records,
    )
    try:
        outcome = claim.run(run)
    except BudgetSpentError:
        log(
            f"stopped after {budget:g} minutes with {run.cells_run} cells done and no verdict yet: "
            "run the same command to continue"
        )
        return None
    row = verdict_row(run, outcome, file=file, minutes=(time.monotonic() - began) / 60.0)
    write_outcome(folder, row, outcome)
    if records is not None and not from_records and row["no_verdict_because"] is None:
        registration = read_json(folder / "registered.json")
        records.write(seeds=seeds, registration=registration, verdict=row | {"tables": outcome.tables})
    return ClaimResult(row, {f"{claim.id}: {claim.statement}": hypothesis_table(row), **outcome.tables}, folder)


def _restore_registration(records: Records, folder: Path) -> None:
    """Writes the registration of existing records to the folder of a claim's results, if that has none."""
    if records.registration is not None and not (folder / "registered.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "registered.json", records.registration)


def _recorded_seeds(claim: Claim, records: Records | None) -> int:
    """Returns the number of seeds of the last recorded look.

    Raises:
        UserError: The claim keeps no records, or was not registered before its run.
    """
    if records is None:
        raise UserError(
            f"{claim.id} keeps no records",
            got=f"a claim of round {claim.round}" if claim.decides else "an experiment that decides nothing",
            expected="a full run of a claim of round 2",
            fix="leave --from-records out",
        )
    registration = records.registration or {}
    if registration.get("commit") is None:
        raise UserError(
            f"{records.folder}: the claim was not registered",
            got="a run that began before the claim was committed",
            expected="the commit that contains its design",
            fix="commit the claim, delete the records and run it again",
        )
    return records.looks[-1]


def check_seeds(claim: Claim, seeds: int) -> None:
    """Raises UserError if a verdict with this number of seeds is not planned.

    Round 1 accepted any number from the planned one on, which allows to stop at a good moment. Round 2 does not.
    """
    if claim.round == 1 and seeds < claim.seeds:
        raise UserError(
            f"too few seeds for a verdict on {claim.id}",
            got=seeds,
            expected=f"at least {claim.seeds}",
            fix="leave --seeds out, or use --quick for a smoke run",
        )
    if claim.round == 2 and seeds not in claim.planned:
        raise UserError(
            f"no verdict on {claim.id} is planned for this number of seeds",
            got=seeds,
            expected=" or ".join(map(str, claim.planned)),
            fix="leave --seeds out, or use --quick for a smoke run",
        )


def check_power(claim: Claim, seeds: int, *, log: Callable[[str], None]) -> None:
    """Prints the power for each part of a claim of round 2.

    Raises:
        UserError: The largest planned number of seeds is too small for a part.
    """
    if claim.round == 1:
        return
    for part in claim.parts:
        log(power_line(part, seeds, level=claim.level))
    most = claim.planned[-1]
    for part in claim.parts:
        power = power_of(part, most, level=claim.level).supported
        if power < ENOUGH:
            enough = runs_needed(part, level=claim.level)
            raise UserError(
                f"{claim.id}: the design is too small for a verdict on {part.name}",
                got=f"power {power:.2f} with {most} seeds",
                expected=f"at least {ENOUGH}",
                fix="more test pairs: no number of seeds is enough" if enough is None else f"plan {enough} seeds",
            )
