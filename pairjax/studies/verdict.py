"""What came out of a claim, as tables and files."""

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairjax.evaluation.significance import holm, smallest_difference
from pairjax.storage.files import read_json, write_json, write_text
from pairjax.storage.provenance import provenance
from pairjax.studies.claim import UNITS, ClaimRun, Outcome, overall
from pairjax.studies.registration import _seen_before, committed


def verdict_row(run: ClaimRun, outcome: Outcome, *, file: Path, minutes: float) -> dict[str, Any]:
    """The row of the verdict table, ready for JSON; the verdict is None where the run may give none, and why."""
    commit, reason = committed(file)
    reason = reason or _seen_before(run.root / run.claim.id)
    if run.quick:
        reason = "a quick run gives no verdict"
    elif not run.claim.decides:
        reason = "an experiment, which shows its figures and decides nothing"
    elif run.seeds < run.claim.seeds:
        reason = f"{run.seeds} seeds, where the claim needs {run.claim.seeds}"
    corrected = holm([hypothesis.effect.p_value() for hypothesis in outcome.hypotheses])
    rows = []
    for hypothesis, p in zip(outcome.hypotheses, corrected, strict=True):
        interval, effect = hypothesis.effect.interval(), hypothesis.effect
        decides = reason is None and outcome.undecided_because is None
        rows.append(
            {
                "name": hypothesis.name,
                "question": hypothesis.question,
                "primary": hypothesis.primary,
                "unit": hypothesis.unit,
                "effect": interval.to_json(),
                "cautious": effect.cautious_interval().to_json(),
                "smallest_effect_of_interest": hypothesis.smallest,
                "p": effect.p_value(),
                "p_holm": p,
                "smallest_detectable": smallest_difference(effect.error),
                "verdict": hypothesis.verdict if decides else None,
                "cautious_verdict": hypothesis.cautious_verdict if decides else None,
            }
        )
    primary = [hypothesis for hypothesis in outcome.hypotheses if hypothesis.primary]
    verdict = cautious = "undecided"
    if outcome.undecided_because is None:
        verdict = overall([one.verdict for one in primary])
        cautious = overall([one.cautious_verdict for one in primary])
    notes = [*([outcome.undecided_because] if outcome.undecided_because else []), *outcome.notes]
    undefined = [one.name for one in outcome.hypotheses if not math.isfinite(one.effect.value)]
    notes += [f"{name} is undefined: a run diverged, or its metric is undefined on test" for name in undefined]
    return {
        "id": run.claim.id,
        "statement": run.claim.statement,
        "verdict": verdict if reason is None else None,
        "cautious_verdict": cautious if reason is None else None,
        "no_verdict_because": reason,
        "hypotheses": rows,
        "seeds": run.seeds,
        "encoder": run.claim.encoder,
        "pooling": run.claim.pooling,
        "commit": commit,
        "command": "pairjax " + shlex.join(sys.argv[1:]),
        "minutes": round(minutes, 1),
        "notes": notes,
        "provenance": provenance(device_kind="cpu", device_count=1) | _device(),
    }


def _device() -> dict[str, Any]:
    import jax

    return {"device_kind": jax.devices()[0].device_kind, "device_count": jax.device_count()}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of text cells, the first row its header."""
    safe = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in safe]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def hypothesis_table(row: dict[str, Any]) -> list[list[str]]:
    """Effects with intervals, one line a hypothesis."""
    head = ["hypothesis", "effect", "unit", "95 % interval", "cautious interval", "p of no effect (Holm)"]
    table = [[*head, "seen with 80 % power", "of interest", "verdict"]]
    for found in row["hypotheses"]:
        verdict, cautious = found["verdict"] or "-", found["cautious_verdict"]
        table.append(
            [
                found["name"] + (" (primary)" if found["primary"] else ""),
                _signed(found["effect"]["value"]),
                _unit(found),
                _span(found["effect"]),
                _span(found["cautious"]),
                f"{found['p_holm']:.3g}",
                f"{found['smallest_detectable']:.2f}",
                f"{found['smallest_effect_of_interest']:.1f}",
                verdict if cautious in (found["verdict"], None) else f"{verdict} (cautiously {cautious})",
            ]
        )
    return table


def _signed(number: float | None) -> str:
    return "-" if number is None else f"{number:+.2f}"


def _unit(found: dict[str, Any]) -> str:
    """Empty in verdicts that were written before effects had units."""
    return UNITS[found["unit"]] if "unit" in found else ""


def _span(interval: dict[str, float | None]) -> str:
    return f"{_signed(interval['low'])} to {_signed(interval['high'])}"


def write_outcome(folder: Path, row: dict[str, Any], outcome: Outcome) -> None:
    """verdict.json and table.md of a claim, and the table of all claims beside its folder."""
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
    """One line a claim that has been run in full."""
    table = [["claim", "verdict", "effect (95 % interval), p (Holm)", "seeds", "encoder", "commit", "command"]]
    for path in sorted(root.glob("*/verdict.json")):
        row = read_json(path)
        if row["verdict"] is None:
            continue
        effects = [
            f"{h['name']}: {_signed(h['effect']['value'])} {_unit(h)} ({_span(h['effect'])}), p {h['p_holm']:.2g}"
            for h in row["hypotheses"]
            if h["primary"]
        ]
        where = f"{row['encoder']}, {row['pooling']}"
        short = str(row["commit"])[:10]
        table.append(
            [row["id"], row["verdict"], "; ".join(effects), str(row["seeds"]), where, short, f"`{row['command']}`"]
        )
    return table
