"""Claims: what is to be tested stands in a file before it is run, and a verdict follows from numbers by a rule.

A hypothesis is an effect with its bootstrap distribution, and the smallest effect of interest. It is supported where
the 95 % interval lies above that effect, refuted where it lies wholly below, and undecided else. A claim is supported
or refuted where all of its primary hypotheses are; else it is undecided.

Beside each interval stands a cautious one (`pairjax.evaluation.intervals.two_way_bootstrap`): pairs that share texts
are drawn together, and the spread over few seeds is widened. It decides nothing, and shows what a verdict hangs on.
"""

import ast
import hashlib
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pairjax.base.config import DataConfig, FeatureConfig
from pairjax.base.errors import UserError
from pairjax.base.types import PairData
from pairjax.data.sources import load_pairs
from pairjax.evaluation.intervals import Interval, Sampled
from pairjax.evaluation.significance import holm, smallest_difference
from pairjax.population.features import Features, cached_features
from pairjax.population.pooled import HeadTask, head_task
from pairjax.population.tokens import TokenTask
from pairjax.storage.files import write_json, write_text
from pairjax.storage.provenance import provenance
from pairjax.studies.attention.nested_cv import NestedDesign, Setting, SettingResult, run_setting, setting_flops
from pairjax.studies.combiners.cells import Cell, CellDesign, CellResult, run_cell

Verdict = Literal["supported", "refuted", "undecided"]
Unit = Literal["points", "steps", "nats"]
UNITS: dict[Unit, str] = {"points": "points", "steps": "% of a run", "nats": "0.01 nat"}
"""How a unit of effects is written: hundredths of a score, updates saved in percent of a run, hundredths of a nat."""


class BudgetSpentError(Exception):
    """The time of a claim is used up; what is done is kept, and the same command goes on."""


@dataclass(frozen=True)
class Hypothesis:
    """One effect.

    Attributes:
        name: Short, for the table.
        effect: In `unit`, positive in the claim's direction.
        smallest: Smallest effect of interest, likewise.
        primary: Whether the claim's verdict reads it.
        question: In words.
        unit: Of the effect and of the smallest of interest.
    """

    name: str
    effect: Sampled
    smallest: float
    primary: bool
    question: str
    unit: Unit = "points"

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.effect.interval(), self.smallest)

    @property
    def cautious_verdict(self) -> Verdict:
        return verdict_of(self.effect.cautious_interval(), self.smallest)


def verdict_of(interval: Interval, smallest: float) -> Verdict:
    """By where the interval lies; one that is undefined decides nothing."""
    if interval.low > smallest:
        return "supported"
    return "refuted" if interval.high < smallest else "undecided"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim, from its primary hypotheses."""
    return verdicts[0] if verdicts and len(set(verdicts)) == 1 else "undecided"


@dataclass(frozen=True)
class Outcome:
    """What a claim's run gives.

    Attributes:
        hypotheses: Primary ones first.
        tables: By title, rows of text cells, the first being the header.
        notes: What was cut, what diverged, what limits the conclusion.
        undecided_because: Why the run cannot decide the claim, whatever its intervals (a treatment that did not take).
    """

    hypotheses: Sequence[Hypothesis]
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    undecided_because: str | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of the chapter, as an experiment file defines it.

    Attributes:
        id: Names the folder of its results.
        statement: In words.
        seeds: How many runs each score is the mean of; fewer give no verdict.
        encoder: Whose representations a verdict is about.
        pooling: Likewise.
        run: Does the work; raises BudgetSpentError when its time is up.
        decides: False for an experiment that shows its figures and gives no verdict.
    """

    id: str
    statement: str
    seeds: int
    run: Callable[["ClaimRun"], Outcome]
    encoder: str = FeatureConfig().encoder
    pooling: Literal["cls", "pooler", "mean", "max"] = "mean"
    decides: bool = True


@dataclass
class ClaimRun:
    """What a claim's `run` may use.

    Attributes:
        claim: Itself.
        root: Of all claims' results; cells and features below it are shared.
        seeds: How many.
        quick: A smoke run: few steps, few seeds, no verdict.
        deadline: On the clock of `time.monotonic`.
        say: Shows a line.
        budget: Minutes, from which a design may take its size.
        cells_run: Units done by this command.
    """

    claim: Claim
    root: Path
    seeds: int
    quick: bool
    deadline: float
    say: Callable[[str], None]
    budget: float = 40.0
    cells_run: int = 0

    @property
    def design(self) -> CellDesign:
        """The cells' design with the seeds of this run."""
        if self.quick:
            return CellDesign(rates=(1e-2,), decays=(0.01,), tuning_seeds=(1000,), seeds=(0, 1), steps=60)
        return CellDesign(seeds=tuple(range(self.seeds)))

    @property
    def nested(self) -> NestedDesign:
        """The design of nested cross-validations with the seeds of this run."""
        if self.quick:
            return NestedDesign(folds=3, seeds=(0, 1), token_rates=(3e-3,), pooled_rates=(3e-3,), steps=20)
        return NestedDesign(seeds=tuple(range(self.seeds)))

    def check_time(self) -> None:
        """Raises BudgetSpentError past the deadline."""
        if time.monotonic() > self.deadline:
            raise BudgetSpentError

    def task(self, name: str, data: Callable[[], PairData]) -> HeadTask:
        """A task's pairs with their cached features."""
        pairs = data()
        return head_task(pairs, self.features(name, pairs))

    def features(self, name: str, pairs: PairData, *, tokens: bool = False) -> Features:
        """Cached features of a task's texts under a name of their own."""
        features = cached_features(
            pairs.splits.values(),
            self.root / "features" / name,
            FeatureConfig(encoder=self.claim.encoder, pooling=self.claim.pooling, tokens=tokens),
        )
        for note in features.notes:
            self.say(f"{name}: {note}")
        return features

    def cell(self, task: str, source: HeadTask, cell: Cell) -> CellResult:
        """A cell, run now or read; says its score."""
        self.check_time()
        began = time.monotonic()
        found = run_cell(source, cell, self.design, folder=self.root / "cells")
        seconds = time.monotonic() - began
        self.cells_run += 1
        head = f"hidden {found.width}" if cell.hidden else "linear"
        noise = f", {cell.noise:.0%} noise" if cell.noise else ""
        scores = f"dev {100 * found.dev.mean():6.2f} test {100 * found.test.mean():6.2f}"
        self.say(
            f"{self.cells_run:4d} {task:14s} {cell.name:28s} {head:10s}{noise} "
            f"rate {found.rate:g} decay {found.decay:g} {scores} ({seconds:.0f} s)"
        )
        return found

    def setting(self, task: str, source: TokenTask, fold: np.ndarray, setting: Setting) -> SettingResult:
        """A setting of a nested cross-validation, run now or read; says its score and its speed."""
        self.check_time()
        began, design = time.monotonic(), self.nested
        found = run_setting(source, fold, setting, design, folder=self.root / "settings")
        seconds = time.monotonic() - began
        self.cells_run += 1
        score = 100 * (found.predicted == source.heads.label("train")).mean()
        work = setting_flops(source, setting, design)
        speed = f"{work / 1e12:.2f} TFLOP, {seconds:.0f} s, {work / seconds / 1e9:.0f} GFLOP/s"
        self.say(
            f"{self.cells_run:4d} {task:10s} {setting.name:12s} {found.parameters:7,d} parameters, "
            f"inner {100 * found.judged.mean():6.2f} outer {score:6.2f} "
            f"({'run before' if found.read else speed})"
        )
        return found


def data_folder() -> Path:
    """The folder with the real sets.

    Raises:
        UserError: PAIRJAX_DATA names none.
    """
    folder = os.environ.get("PAIRJAX_DATA", "")
    if not folder or not Path(folder).is_dir():
        raise UserError(
            "PAIRJAX_DATA names no folder with the real sets",
            got=folder or "nothing",
            expected="a folder with mrpc/, sick/, stsb/, assin2/",
            mend="set it, as PAIRJAX_DATA=../shared/data, or use --quick on rule-made pairs",
        )
    return Path(folder)


def real_pairs(name: str) -> PairData:
    """A set of PAIRJAX_DATA by the name of its folder."""
    return load_pairs(DataConfig(path=str(data_folder() / name)))


def _stated(source: str) -> str | None:
    """What a claim's file says beforehand: its docstring."""
    return ast.get_docstring(ast.parse(source))


def committed(file: Path) -> tuple[str | None, str | None]:
    """The commit that last changed what a claim's file says beforehand, its docstring, and why there is none.

    A verdict rests on what stood there before it. Code below it may move with the package.

    Returns:
        (commit, None) or (None, reason).
    """

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ("git", "-C", str(file.resolve().parent), *words),
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    history = (ask("log", "--format=%H", "--", file.name) or "").split()
    if not history:
        return None, f"{file.name} is not committed"
    if ask("status", "--porcelain", "--", file.name) != "":
        return None, f"{file.name} differs from its commit"
    text = _stated(file.read_text(encoding="utf-8"))
    unchanged = history[0]
    for commit in history[1:]:
        source = ask("show", f"{commit}:./{file.name}")
        if source is None or _stated(source) != text:
            break
        unchanged = commit
    return unchanged, None


def register(folder: Path, file: Path) -> str | None:
    """Keep what a claim's file says when its first full run begins, and hold later ones to it.

    Args:
        folder: Of the claim's results.
        file: The claim's. One that is not committed by then gives no verdict in this folder, whenever it is committed:
            its effects were seen first.

    Returns:
        Why no verdict will come of it, None where one may.

    Raises:
        UserError: The text has changed since.
    """
    commit, reason = committed(file)
    digest = hashlib.sha256((_stated(file.read_text(encoding="utf-8")) or "").encode()).hexdigest()
    path = folder / "registered.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"text": digest, "commit": commit, "date": time.strftime("%Y-%m-%d")})
        return reason
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["text"] != digest:
        raise UserError(
            f"{file}: what the claim says was changed after its first full run",
            got=f"the docstring of {_named(commit)}",
            expected=f"that of {_named(kept['commit'])}, with which the run began on {kept['date']}",
            mend="restore the docstring, or give the changed claim another --dir",
        )
    return reason or _seen_before(folder)


def _named(commit: str | None) -> str:
    return f"commit {commit[:10]}" if commit else "a file that was not committed"


def _seen_before(folder: Path) -> str | None:
    """Why a claim's folder gives no verdict: its first full run began before its text was committed."""
    path = folder / "registered.json"
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8"))["commit"] is not None:
        return None
    return "its first full run began before the claim was committed; commit it, and give it another --dir"


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
        row = json.loads(path.read_text(encoding="utf-8"))
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
