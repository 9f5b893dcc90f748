"""The sections of claims: the verdict table, and each claim with its effects and tables."""

import re
from collections.abc import Sequence
from typing import Any

from pairjax.report.blocks import Block, Cell, Drawing, Facts, Paragraph, Section, Table
from pairjax.report.draw import Bar, forest
from pairjax.report.figures import HEADS, combiner_panel
from pairjax.report.folder import COMBINERS_FILE, ClaimFolder
from pairjax.report.language import Language
from pairjax.report.provenance import provenance_rows


def verdict_words(row: dict[str, Any], *, language: Language) -> str:
    """Supported, refuted, undecided, or why there is none."""
    if row["verdict"] is None:
        return language.say("verdict.none")
    return language.name("verdict", row["verdict"])


def effect_cell(found: dict[str, Any], *, language: Language) -> Cell:
    """A hypothesis's effect in its unit, with its interval."""
    effect = found["effect"]
    return Cell(_measured(found, language), language.interval(effect, digits=2, signed=True))


def _measured(found: dict[str, Any], language: Language) -> str:
    """An effect and its unit; verdicts written before effects had units show none."""
    return f"{language.signed(found['effect']['value'])} {language.name('unit', found.get('unit', ''))}".rstrip()


def verdict_section(claims: Sequence[ClaimFolder], *, id: str, language: Language) -> Section:
    """One row a claim: verdict, primary effects with intervals, seeds, encoder, commit, command."""
    say = language.say
    rows = []
    for claim in claims:
        row = claim.row
        first = True
        for found in row["hypotheses"]:
            if not found["primary"]:
                continue
            effect = effect_cell(found, language=language)
            rows.append(
                [
                    Cell(row["id"] if first else "", strong=True),
                    Cell(verdict_words(row, language=language) if first else "", strong=True),
                    Cell(found["name"]),
                    effect,
                    Cell(language.p_value(found["p_holm"])),
                    Cell(language.count(row["seeds"]) if first else ""),
                    Cell(str(row["commit"] or "–")[:10] if first else ""),
                ]
            )
            first = False
    head = [say(f"verdict.{name}") for name in ("claim", "verdict", "hypothesis", "effect", "p", "seeds", "commit")]
    table = Table(say("verdict.table"), head, rows, left=3, note=say("verdict.table_note"))
    return Section(id, say("verdict.title"), [table])


def claim_section(claim: ClaimFolder, *, id: str, language: Language) -> Section:
    """A claim's verdict, effects, combiners, tables and origin."""
    say, row = language.say, claim.row
    blocks: list[Block] = [
        Paragraph(row["statement"], foreign=True),
        Paragraph(verdict_sentence(row, language), "lead"),
    ]
    if row["no_verdict_because"]:
        blocks.append(Paragraph(say("verdict.because", reason=row["no_verdict_because"]), "warning"))
    blocks += _effects_figures(row, language=language)
    blocks.append(_hypotheses(row, language=language))
    board = claim.combiners
    if board is not None and _shows_board(row):
        blocks.append(Paragraph(say("combiners.lead", against=board["against"], seeds=language.count(board["seeds"]))))
        for one in board["tasks"]:
            blocks.append(Drawing(combiner_panel(board, one["task"], language=language), one["task"]))
            blocks.append(_combiner_scores(board, one, language=language))
    blocks += [_plain_table(title, rows) for title, rows in row["tables"].items()]
    blocks += [Paragraph(note, "note", foreign=True) for note in row["notes"]]
    facts = [
        (say("verdict.encoder"), f"{row['encoder']}, {row['pooling']}"),
        (say("verdict.seeds"), language.count(row["seeds"])),
        (say("verdict.commit"), str(row["commit"] or "–")),
    ]
    if row.get("minutes") is not None:
        facts.append((say("verdict.minutes"), language.number(row["minutes"], 1)))
    origin = {**row.get("provenance", {}), "command": row["command"].split()}
    facts += provenance_rows(origin, language=language)
    blocks.append(Facts(say("provenance.title"), facts))
    return Section(id, row["id"], blocks, subtitle=str(claim.path))


def _shows_board(row: dict[str, Any]) -> bool:
    """Returns whether a claim is drawn with the table of combiners, as its verdict.json says."""
    if "board" not in row:  # a verdict of version 0.1.0
        return str(row["id"]).startswith("proposition")
    return row["board"] == COMBINERS_FILE


def verdict_sentence(row: dict[str, Any], language: Language) -> str:
    """The verdict, on which encoder, with the primary effects."""
    effects = [
        language.say(
            "verdict.one_effect",
            name=found["name"],
            effect=_measured(found, language),
            interval=language.interval(found["effect"], digits=2, signed=True),
        )
        for found in row["hypotheses"]
        if found["primary"]
    ]
    return language.say(
        "verdict.sentence",
        verdict=verdict_words(row, language=language),
        encoder=row["encoder"],
        pooling=row["pooling"],
        seeds=language.count(row["seeds"]),
        effects=language.listed(effects),
    )


def _effects_figures(row: dict[str, Any], *, language: Language) -> list[Drawing]:
    """One a unit, since effects of two units share no axis."""
    say = language.say
    figures = []
    for unit in dict.fromkeys(found.get("unit", "") for found in row["hypotheses"]):
        shown = [found for found in row["hypotheses"] if found.get("unit", "") == unit]
        bars = [Bar(found["name"], found["effect"], 0 if found["primary"] else 5) for found in shown]
        smallest = sorted({float(found["smallest_effect_of_interest"]) for found in shown})
        references = [("0", 0.0)] + [(language.short(value), value) for value in smallest if value]
        named = language.name("unit", unit)
        title = f"{say('verdict.figure')}: {named}" if named else say("verdict.figure")
        svg = forest(
            bars,
            language=language,
            axis=f"{say('verdict.effect')}, {named}" if named else say("verdict.effect"),
            alt=f"{row['id']}: {title}",
            references=references,
            digits=2,
            signed=True,
        )
        figures.append(Drawing(svg, title, say("verdict.figure_note")))
    return figures


def _hypotheses(row: dict[str, Any], *, language: Language) -> Table:
    say = language.say
    rows = [
        [
            Cell(found["name"], found["question"], strong=found["primary"]),
            effect_cell(found, language=language),
            Cell(language.interval(found["cautious"], digits=2, signed=True) if "cautious" in found else "–"),
            Cell(language.p_value(found["p_holm"])),
            Cell(language.number(found["smallest_detectable"], 2)),
            Cell(language.number(found["smallest_effect_of_interest"], 1)),
            _hypothesis_verdict(found, language),
        ]
        for found in row["hypotheses"]
    ]
    names = ("hypothesis", "effect", "cautious", "p", "detectable", "smallest", "verdict")
    head = [say(f"verdict.{name}") for name in names]
    return Table(say("verdict.hypotheses"), head, rows, note=say("verdict.hypotheses_note"))


def _hypothesis_verdict(found: dict[str, Any], language: Language) -> Cell:
    """With the cautious one below it where that differs."""
    if not found["verdict"]:
        return Cell("–")
    word = language.name("verdict", found["verdict"])
    cautious = language.name("verdict", found.get("cautious_verdict") or found["verdict"])
    return Cell(word, "" if cautious == word else language.say("verdict.cautiously", verdict=cautious))


def _combiner_scores(board: dict[str, Any], task: dict[str, Any], *, language: Language) -> Table:
    """A task's scores in points, with intervals; the best of a column in bold."""
    say, rows = language.say, [row for row in board["rows"] if row["task"] == task["task"]]
    found = {(row["combiner"], row["hidden"]): row["score"] for row in rows if row["score"] is not None}
    defined = {place: score["value"] for place, score in found.items() if score["value"] is not None}
    best = {max((p for p in defined if p[1] == hidden), key=defined.__getitem__, default=None) for hidden in HEADS}

    def cell(name: str, hidden: bool) -> Cell:
        score = found.get((name, hidden))
        if score is None:
            return Cell(language.number(None))
        interval = language.interval(score, digits=1)
        return Cell(language.number(score["value"], 2), interval, strong=(name, hidden) in best)

    names = dict.fromkeys(row["combiner"] for row in rows)
    lines = [[Cell(name), *(cell(name, hidden) for hidden in HEADS)] for name in names]
    title = say(
        "combiners.scores",
        task=task["task"],
        metric=language.name("metric", task["metric"]),
        pairs=language.count(task["pairs"]),
    )
    head = [say("combiners.combiner"), say("combiners.linear"), say("combiners.hidden")]
    return Table(title, head, lines, note=say("combiners.scores_note"))


def _plain_table(title: str, rows: Sequence[Sequence[str]]) -> Table:
    """A table that the claim's file made; what stands between two asterisks is bold."""

    def cell(text: str) -> Cell:
        bold = re.search(r"\*\*(.+?)\*\*", text) is not None
        return Cell(text.replace("**", ""), strong=bold)

    return Table(title, list(rows[0]), [[cell(text) for text in line] for line in rows[1:]])
