"""The pages of round 1 against the rules: verdicts are recomputed from the printed intervals, by both rounds' rules."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from pairjax.cli.options import load_experiment
from pairjax.evaluation.intervals import Interval
from pairjax.studies.rules import claim_verdict, part_verdict

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = ROOT / "experiments" / "claims"
NAMES = sorted(path.stem for path in CLAIMS.glob("*.py"))
LATE = {"supported": "sustentada", "mixed": "mista", "undecided": "indecisa"}


class Row(NamedTuple):
    """A hypothesis of a page: its name, the value as printed, both intervals, S and the printed verdict."""

    name: str
    value: str
    plain: Interval
    cautious: Interval
    smallest: float
    verdict: str


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def interval(text: str) -> Interval:
    low, high = (float(bound) for bound in text.split(" to "))
    return Interval((low + high) / 2, low, high)


def hypotheses(name: str) -> list[Row]:
    text = (CLAIMS / "round_1" / f"{name}.md").read_text("utf-8")
    table = text[text.index("| hypothesis |") :].split("\n\n")[0].split("\n")[2:]
    rows = [cells(line) for line in table]
    return [Row(row[0], row[1], interval(row[3]), interval(row[4]), float(row[7]), row[8]) for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_the_verdicts_of_round_1_follow_from_its_rule(name: str) -> None:
    assert load_experiment(str(CLAIMS / f"{name}.py"), defines="claim").claim.round == 1
    for row in hypotheses(name):
        plain, cautious = (part_verdict(bounds, row.smallest, rule=1) for bounds in (row.plain, row.cautious))
        assert row.verdict == plain + (f" (cautiously {cautious})" if cautious != plain else ""), row.name


@pytest.mark.parametrize("name", NAMES)
def test_results_hold_the_effects_and_the_verdicts_of_both_rules(name: str) -> None:
    lines = (ROOT / "experiments" / "RESULTS.md").read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if f"(claims/round_1/{name}.md)" in line and "**whole**" in line)
    primary = [row for row in hypotheses(name) if "(primary)" in row.name]
    now = [part_verdict(row.cautious, row.smallest) for row in primary]
    before = [part_verdict(row.plain, row.smallest, rule=1) for row in primary]
    whole = cells(lines[start])
    assert whole[4:] == [f"**{claim_verdict(now)}**", claim_verdict(before, rule=1)]
    for line, row, new, old in zip(lines[start + 1 :], primary, now, before, strict=False):
        _, part, effect, smallest, *verdicts = cells(line)
        assert part.split()[0] == row.name.split()[0]
        assert effect == f"{row.value} ({row.cautious.low:+.2f} to {row.cautious.high:+.2f})"
        assert float(smallest) == row.smallest
        assert verdicts == [new, old]


def test_the_guides_hold_the_same_verdicts() -> None:
    for page, names in (("docs/claims.md", None), ("LEIAME.md", LATE)):
        text = (ROOT / page).read_text("utf-8")
        rows = [cells(line) for line in text.splitlines() if re.match(r"\| (Lem|Prop|Cor)", line)]
        assert len(rows) == len(NAMES)
        by_name = dict(zip(("lemma_1", "lemma_1_1", "proposition_1", "proposition_1_1"), rows[:4], strict=True))
        by_name |= dict(zip(("lemma_2", "lemma_2_1", "corollary_1_1", "corollary_1_2"), rows[4:], strict=True))
        for name, row in by_name.items():
            primary = [each for each in hypotheses(name) if "(primary)" in each.name]
            before = claim_verdict([part_verdict(each.plain, each.smallest, rule=1) for each in primary], rule=1)
            now = claim_verdict([part_verdict(each.cautious, each.smallest) for each in primary])
            assert row[1] == (names[before] if names else before)
            assert row[2].startswith(names[now] if names else now)


def test_the_page_of_results_is_short() -> None:
    assert len((ROOT / "experiments" / "RESULTS.md").read_text("utf-8").splitlines()) <= 120
