"""The verdict of a claim as tables and files."""

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from pairjax.evaluation.intervals import Sampled
from pairjax.evaluation.significance import holm, smallest_difference
from pairjax.storage.files import read_json, write_json, write_text
from pairjax.storage.provenance import provenance
from pairjax.studies.claim import UNITS, Claim, ClaimRun, Hypothesis, Outcome
from pairjax.studies.registration import committed, registered_after_result, seen_before_commit
from pairjax.studies.rules import Verdict, claim_verdict, part_verdict, power_of


def verdict_row(run: ClaimRun, outcome: Outcome, *, file: Path, minutes: float) -> dict[str, Any]:
    """Returns the content of verdict.json, without the tables.

    The verdict is None if the run may not give one; `no_verdict_because` is then the reason.

    Args:
        run: The run.
        outcome: Its result.
        file: The claim's file.
        minutes: How long the run took.
    """
    commit, reason = committed(file)
    if run.records is not None and run.records.only_read and run.records.registration:
        # The records belong to the design as it was registered, whatever the state of the checkout.
        commit, reason = run.records.registration["commit"], None
    reason = reason or seen_before_commit(run.root / run.claim.id)
    if run.quick:
        reason = "a quick run gives no verdict"
    elif not run.claim.decides:
        reason = "this experiment reports effects; it decides nothing"
    elif run.seeds < run.claim.seeds:
        reason = f"{run.seeds} seeds; the claim needs {run.claim.seeds}"
    elif run.claim.round == 2 and not run.claim.parts:
        reason = "the claim states no parts, so the power of its design is unknown"
    decides = reason is None and outcome.undecided_because is None
    corrected = holm([_p_value(run.claim, hypothesis) for hypothesis in outcome.hypotheses])
    if reason is None:
        _check_parts(run.claim, outcome)
    verdict = cautious = "undecided"
    if outcome.undecided_because is None:
        verdict, cautious = _verdicts(run.claim, outcome)
    notes = [*([outcome.undecided_because] if outcome.undecided_because else []), *outcome.notes]
    undefined = [hypothesis.name for hypothesis in outcome.hypotheses if not math.isfinite(hypothesis.effect.value)]
    notes += [f"{name} is undefined: a run diverged, or its metric is undefined on test" for name in undefined]
    return {
        "id": run.claim.id,
        "statement": run.claim.statement,
        "round": run.claim.round,
        "verdict": verdict if reason is None else None,
        "cautious_verdict": cautious if reason is None else None,
        "registered_after_result": registered_after_result(run.root / run.claim.id),
        "no_verdict_because": reason,
        "hypotheses": [
            _hypothesis_row(run, hypothesis, p, decides=decides)
            for hypothesis, p in zip(outcome.hypotheses, corrected, strict=True)
        ],
        "board": outcome.board,
        "seeds": run.seeds,
        "encoder": run.claim.encoder,
        "pooling": run.claim.pooling,
        "commit": commit,
        "command": "pairjax " + shlex.join(sys.argv[1:]),
        "minutes": round(minutes, 1),
        "notes": notes,
        "provenance": provenance(device_kind=jax.devices()[0].device_kind, device_count=jax.device_count()),
    }


def _verdicts(claim: Claim, outcome: Outcome) -> tuple[Verdict, Verdict]:
    """Returns the verdict on a claim, and the one that its cautious intervals give by the same rule."""
    primary = [hypothesis for hypothesis in outcome.hypotheses if hypothesis.primary]
    verdicts = [hypothesis.verdict(rule=claim.round, level=claim.level) for hypothesis in primary]
    cautious = [_cautious_verdict(claim, hypothesis) for hypothesis in primary]
    return claim_verdict(verdicts, rule=claim.round), claim_verdict(cautious, rule=claim.round)


def _cautious_verdict(claim: Claim, hypothesis: Hypothesis) -> Verdict:
    """Returns the verdict of a hypothesis by its cautious interval and the rule of the claim's round."""
    interval = hypothesis.effect.cautious_interval(level=claim.level)
    return part_verdict(interval, hypothesis.smallest, rule=claim.round)


def _check_parts(claim: Claim, outcome: Outcome) -> None:
    """Raises ValueError if the primary hypotheses of a claim of round 2 are not the parts that it states."""
    measured = [(h.name, h.smallest, h.unit) for h in outcome.hypotheses if h.primary]
    stated = [(part.name, part.smallest, part.unit) for part in claim.parts]
    if claim.round == 2 and measured != stated:
        raise ValueError(f"{claim.id}: the primary hypotheses are {measured}, the parts are {stated}")


def _p_value(claim: Claim, hypothesis: Hypothesis) -> float:
    """Returns the p of no effect in round 1, and of the smallest effect of interest in round 2."""
    if claim.round == 1:
        return hypothesis.effect.p_value()
    return hypothesis.effect.p_value(hypothesis.smallest, cautious=True)


def _hypothesis_row(run: ClaimRun, hypothesis: Hypothesis, p_holm: float, *, decides: bool) -> dict[str, Any]:
    """Returns a hypothesis as JSON; without a verdict if the run does not decide, or if it is no part in round 2."""
    effect, claim = hypothesis.effect, run.claim
    p = _p_value(claim, hypothesis)
    decided = decides and (hypothesis.primary or claim.round == 1)
    detectable = smallest_difference(effect.error)
    row: dict[str, Any] = {}
    if claim.round == 2:
        # The widened spread, and the distance from the smallest effect of interest instead of from 0.
        spread = Sampled(effect.value, effect.cautious, effect.cautious).error
        detectable = hypothesis.smallest + smallest_difference(spread, alpha=1 - claim.level)
        row = {"level": claim.level}
        parts = {part.name: part for part in claim.parts}
        if hypothesis.name in parts:
            row["power"] = power_of(parts[hypothesis.name], run.seeds, level=claim.level)._asdict()
    return row | {
        "name": hypothesis.name,
        "question": hypothesis.question,
        "primary": hypothesis.primary,
        "unit": hypothesis.unit,
        "effect": effect.interval().to_json(),
        "cautious": effect.cautious_interval(level=claim.level).to_json(),
        "smallest_effect_of_interest": hypothesis.smallest,
        "p": p,
        "p_holm": p_holm,
        # The smallest p that these resamples can give: a p at this bound means `less than`.
        "p_is_bound": p <= 2.0 / (len(effect.samples) + 1.0) * (1 + 1e-9),
        "smallest_detectable": detectable,
        "verdict": hypothesis.verdict(rule=claim.round, level=claim.level) if decided else None,
        "cautious_verdict": _cautious_verdict(claim, hypothesis) if decided else None,
    }


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table of text cells; the first row is its header."""
    safe = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in safe]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def hypothesis_table(row: dict[str, Any]) -> list[list[str]]:
    """Returns the effects of a verdict row with their intervals, one hypothesis per line."""
    head = ["hypothesis", "effect", "unit", "95 % interval", "cautious interval"]
    if row.get("round", 1) == 1:
        head += ["p of no effect (Holm)", "detectable with 80 % power"]
    else:
        head += ["p of the smallest of interest (Holm)", "supported with 80 % power from"]
    table = [[*head, "smallest of interest", "verdict"]]
    for hypothesis in row["hypotheses"]:
        verdict, cautious = hypothesis["verdict"] or "-", hypothesis["cautious_verdict"]
        agrees = cautious in (hypothesis["verdict"], None)
        table.append(
            [
                hypothesis["name"] + (" (primary)" if hypothesis["primary"] else ""),
                _signed(hypothesis["effect"]["value"]),
                _unit(hypothesis),
                _interval(hypothesis["effect"]),
                _interval(hypothesis["cautious"]),
                p_text(hypothesis),
                f"{hypothesis['smallest_detectable']:.2f}",
                f"{hypothesis['smallest_effect_of_interest']:.1f}",
                verdict if agrees else f"{verdict} (cautious interval: {cautious})",
            ]
        )
    return table


def p_text(hypothesis: dict[str, Any]) -> str:
    """Writes the corrected p of a hypothesis, with `<` if it is the smallest that its resamples can give."""
    return ("< " if hypothesis.get("p_is_bound") else "") + f"{hypothesis['p_holm']:.3g}"


def verdict_text(row: dict[str, Any]) -> str:
    """Writes a claim's verdict, or that there is none, with marks for round 1 and for a registration after a result."""
    marks = [f"round {row['round']}"] if row.get("round") == 1 else []
    marks += ["registered after a result"] if row.get("registered_after_result") else []
    return (row["verdict"] or "no verdict") + (f" ({', '.join(marks)})" if marks else "")


def _signed(number: float | None) -> str:
    return "-" if number is None else f"{number:+.2f}"


def _unit(hypothesis: dict[str, Any]) -> str:
    """Returns the unit of an effect; '' for a verdict that was written before effects had units."""
    return UNITS[hypothesis["unit"]] if "unit" in hypothesis else ""


def _interval(interval: dict[str, float | None]) -> str:
    return f"{_signed(interval['low'])} to {_signed(interval['high'])}"


def write_outcome(folder: Path, row: dict[str, Any], outcome: Outcome) -> None:
    """Writes verdict.json and table.md of a claim, and the table of all claims next to its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {row['id']}: {verdict_text(row)}\n", row["statement"] + "\n"]
    if row["no_verdict_because"]:
        parts.append(f"No verdict: {row['no_verdict_because']}.\n")
    parts.append(f"{row['seeds']} seeds; encoder {row['encoder']}, pooling {row['pooling']}; commit {row['commit']}.\n")
    parts.append(markdown(hypothesis_table(row)))
    for title, table in outcome.tables.items():
        parts += [f"\n## {title}\n", markdown(table)]
    parts += ["", *(f"- {note}" for note in row["notes"])]
    write_text(folder / "table.md", "\n".join(parts) + "\n")
    write_json(folder / "verdict.json", row | {"tables": outcome.tables})
    write_text(folder.parent / "verdicts.md", markdown(verdict_table(folder.parent)))


def verdict_table(root: Path) -> list[list[str]]:
    """Returns one line for each claim in a folder that has a verdict."""
    table = [["claim", "verdict", "effect (95 % interval), p (Holm)", "seeds", "encoder", "commit", "command"]]
    for path in sorted(root.glob("*/verdict.json")):
        row = read_json(path)
        if row["verdict"] is None:
            continue
        effects = [
            f"{h['name']}: {_signed(h['effect']['value'])} {_unit(h)} ({_interval(h['effect'])}), p {p_text(h)}"
            for h in row["hypotheses"]
            if h["primary"]
        ]
        encoder = f"{row['encoder']}, {row['pooling']}"
        commit = str(row["commit"])[:10]
        table.append(
            [
                row["id"],
                verdict_text(row),
                "; ".join(effects),
                str(row["seeds"]),
                encoder,
                commit,
                f"`{row['command']}`",
            ]
        )
    return table
