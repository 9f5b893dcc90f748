"""The verdict of a claim as tables and files."""

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from pairjax.evaluation.significance import holm, smallest_difference
from pairjax.storage.files import read_json, write_json, write_text
from pairjax.storage.provenance import provenance
from pairjax.studies.claim import UNITS, ClaimRun, Hypothesis, Outcome, overall
from pairjax.studies.registration import committed, seen_before_commit


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
    reason = reason or seen_before_commit(run.root / run.claim.id)
    if run.quick:
        reason = "a quick run gives no verdict"
    elif not run.claim.decides:
        reason = "this experiment reports effects; it decides nothing"
    elif run.seeds < run.claim.seeds:
        reason = f"{run.seeds} seeds; the claim needs {run.claim.seeds}"
    decides = reason is None and outcome.undecided_because is None
    corrected = holm([hypothesis.effect.p_value() for hypothesis in outcome.hypotheses])
    primary = [hypothesis for hypothesis in outcome.hypotheses if hypothesis.primary]
    verdict = cautious = "undecided"
    if outcome.undecided_because is None:
        verdict = overall([hypothesis.verdict for hypothesis in primary])
        cautious = overall([hypothesis.cautious_verdict for hypothesis in primary])
    notes = [*([outcome.undecided_because] if outcome.undecided_because else []), *outcome.notes]
    undefined = [hypothesis.name for hypothesis in outcome.hypotheses if not math.isfinite(hypothesis.effect.value)]
    notes += [f"{name} is undefined: a run diverged, or its metric is undefined on test" for name in undefined]
    return {
        "id": run.claim.id,
        "statement": run.claim.statement,
        "verdict": verdict if reason is None else None,
        "cautious_verdict": cautious if reason is None else None,
        "no_verdict_because": reason,
        "hypotheses": [
            _hypothesis_row(hypothesis, p, decides=decides)
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


def _hypothesis_row(hypothesis: Hypothesis, p_holm: float, *, decides: bool) -> dict[str, Any]:
    """Returns a hypothesis as JSON; without a verdict if the run does not decide."""
    effect = hypothesis.effect
    return {
        "name": hypothesis.name,
        "question": hypothesis.question,
        "primary": hypothesis.primary,
        "unit": hypothesis.unit,
        "effect": effect.interval().to_json(),
        "cautious": effect.cautious_interval().to_json(),
        "smallest_effect_of_interest": hypothesis.smallest,
        "p": effect.p_value(),
        "p_holm": p_holm,
        "smallest_detectable": smallest_difference(effect.error),
        "verdict": hypothesis.verdict if decides else None,
        "cautious_verdict": hypothesis.cautious_verdict if decides else None,
    }


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table of text cells; the first row is its header."""
    safe = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in safe]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def hypothesis_table(row: dict[str, Any]) -> list[list[str]]:
    """Returns the effects of a verdict row with their intervals, one hypothesis per line."""
    head = ["hypothesis", "effect", "unit", "95 % interval", "cautious interval", "p (Holm)"]
    table = [[*head, "detectable with 80 % power", "smallest of interest", "verdict"]]
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
                f"{hypothesis['p_holm']:.3g}",
                f"{hypothesis['smallest_detectable']:.2f}",
                f"{hypothesis['smallest_effect_of_interest']:.1f}",
                verdict if agrees else f"{verdict} (cautious interval: {cautious})",
            ]
        )
    return table


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
    parts = [f"# {row['id']}: {row['verdict'] or 'no verdict'}\n", row["statement"] + "\n"]
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
            f"{h['name']}: {_signed(h['effect']['value'])} {_unit(h)} ({_interval(h['effect'])}), p {h['p_holm']:.2g}"
            for h in row["hypotheses"]
            if h["primary"]
        ]
        encoder = f"{row['encoder']}, {row['pooling']}"
        commit = str(row["commit"])[:10]
        table.append(
            [row["id"], row["verdict"], "; ".join(effects), str(row["seeds"]), encoder, commit, f"`{row['command']}`"]
        )
    return table
