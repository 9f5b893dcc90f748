"""Builds the sections of claims: the table of verdicts, and each claim with its effects and tables."""

import re
from collections.abc import Sequence
from typing import Any

from pairjax.report.blocks import Block, Cell, Drawing, Facts, Paragraph, Section, Table
from pairjax.report.draw import GREY, Bar, forest
from pairjax.report.figures import HEADS, combiner_panel
from pairjax.report.folder import COMBINERS_FILE, ClaimFolder
from pairjax.report.language import Language
from pairjax.report.provenance import provenance_rows


def verdict_words(row: dict[str, Any], *, language: Language) -> str:
    """Returns the verdict or that there is none, in the language, with marks for round 1 and a late registration."""
    if row["verdict"] is None:
        return language.phrase("verdict.none")
    marks = [language.phrase("verdict.round_1")] if row.get("round", 1) == 1 else []
    marks += [language.phrase("verdict.after_result")] if row.get("registered_after_result") else []
    return language.name("verdict", row["verdict"]) + (f" ({', '.join(marks)})" if marks else "")


def p_cell(hypothesis: dict[str, Any], *, language: Language) -> Cell:
    """Makes a cell of a corrected p, with `<` if it is the smallest that the resamples can give."""
    text = language.p_value(hypothesis["p_holm"])
    return Cell(f"< {text}" if hypothesis.get("p_is_bound") and not text.startswith("<") else text)


def effect_cell(hypothesis: dict[str, Any], *, language: Language) -> Cell:
    """Makes a cell of a hypothesis's effect in its unit, with its interval below."""
    interval = language.interval(hypothesis["effect"], digits=2, signed=True)
    return Cell(_effect_in_unit(hypothesis, language), interval)


def _effect_in_unit(hypothesis: dict[str, Any], language: Language) -> str:
    """Writes an effect with its unit; verdicts of old versions have no unit."""
    unit = language.name("unit", hypothesis.get("unit", ""))
    return f"{language.signed(hypothesis['effect']['value'])} {unit}".rstrip()


def verdict_section(claims: Sequence[ClaimFolder], *, id: str, language: Language) -> Section:
    """Tabulates the claims: verdict, primary effects with intervals, seeds and commit."""
    phrase = language.phrase
    rows = []
    for claim in claims:
        row = claim.row
        primary = [hypothesis for hypothesis in row["hypotheses"] if hypothesis["primary"]]
        for index, hypothesis in enumerate(primary):
            # The claim's own cells are filled in its first line only.
            first = index == 0
            rows.append(
                [
                    Cell(row["id"] if first else "", strong=True),
                    Cell(verdict_words(row, language=language) if first else "", strong=True),
                    Cell(hypothesis["name"]),
                    effect_cell(hypothesis, language=language),
                    p_cell(hypothesis, language=language),
                    Cell(language.count(row["seeds"]) if first else ""),
                    Cell(str(row["commit"] or "–")[:10] if first else ""),
                ]
            )
    head = [phrase(f"verdict.{name}") for name in ("claim", "verdict", "hypothesis", "effect", "p", "seeds", "commit")]
    table = Table(phrase("verdict.table"), head, rows, left=3, note=phrase("verdict.table_note"))
    return Section(id, phrase("verdict.title"), [table])


def claim_section(claim: ClaimFolder, *, id: str, language: Language) -> Section:
    """Builds the section of a claim: verdict, effects, combiners, tables and provenance."""
    phrase, row = language.phrase, claim.row
    blocks: list[Block] = [
        Paragraph(row["statement"], foreign=True),
        Paragraph(verdict_sentence(row, language), "lead"),
    ]
    if row["no_verdict_because"]:
        blocks.append(Paragraph(phrase("verdict.because", reason=row["no_verdict_because"]), "warning"))
    blocks += _effects_figures(row, language=language)
    blocks.append(_hypotheses(row, language=language))
    board = claim.combiners
    if board is not None and _shows_board(row):
        blocks.append(
            Paragraph(phrase("combiners.lead", against=board["against"], seeds=language.count(board["seeds"])))
        )
        for task in board["tasks"]:
            blocks.append(Drawing(combiner_panel(board, task["task"], language=language), task["task"]))
            blocks.append(_combiner_scores(board, task, language=language))
    blocks += [_plain_table(title, rows) for title, rows in row["tables"].items()]
    blocks += [Paragraph(note, "note", foreign=True) for note in row["notes"]]
    facts = [
        (phrase("verdict.encoder"), f"{row['encoder']}, {row['pooling']}"),
        (phrase("verdict.seeds"), language.count(row["seeds"])),
        (phrase("verdict.commit"), str(row["commit"] or "–")),
    ]
    if row.get("minutes") is not None:
        facts.append((phrase("verdict.minutes"), language.number(row["minutes"], 1)))
    origin = {**row.get("provenance", {}), "command": row["command"].split()}
    facts += provenance_rows(origin, language=language)
    blocks.append(Facts(phrase("provenance.title"), facts))
    return Section(id, row["id"], blocks, subtitle=str(claim.path))


def _shows_board(row: dict[str, Any]) -> bool:
    """Returns whether a claim is drawn with the table of combiners, as its verdict.json says."""
    if "board" not in row:  # a verdict of version 0.1.0
        return str(row["id"]).startswith("proposition")
    return row["board"] == COMBINERS_FILE


def verdict_sentence(row: dict[str, Any], language: Language) -> str:
    """States the verdict with the encoder, the number of seeds and the primary effects."""
    effects = [
        language.phrase(
            "verdict.one_effect",
            name=hypothesis["name"],
            effect=_effect_in_unit(hypothesis, language),
            interval=language.interval(hypothesis["effect"], digits=2, signed=True),
        )
        for hypothesis in row["hypotheses"]
        if hypothesis["primary"]
    ]
    return language.phrase(
        "verdict.sentence",
        verdict=verdict_words(row, language=language),
        encoder=row["encoder"],
        pooling=row["pooling"],
        seeds=language.count(row["seeds"]),
        effects=language.listed(effects),
    )


def _effects_figures(row: dict[str, Any], *, language: Language) -> list[Drawing]:
    """Draws one figure per unit, since effects in different units share no axis."""
    phrase = language.phrase
    figures = []
    for unit in dict.fromkeys(hypothesis.get("unit", "") for hypothesis in row["hypotheses"]):
        members = [hypothesis for hypothesis in row["hypotheses"] if hypothesis.get("unit", "") == unit]
        bars = [Bar(member["name"], member["effect"], 0 if member["primary"] else GREY) for member in members]
        smallest = sorted({float(member["smallest_effect_of_interest"]) for member in members})
        references = [("0", 0.0)] + [(language.short(value), value) for value in smallest if value]
        unit_name = language.name("unit", unit)
        title = f"{phrase('verdict.figure')}: {unit_name}" if unit_name else phrase("verdict.figure")
        svg = forest(
            bars,
            language=language,
            axis=f"{phrase('verdict.effect')}, {unit_name}" if unit_name else phrase("verdict.effect"),
            alt=f"{row['id']}: {title}",
            references=references,
            digits=2,
            signed=True,
        )
        figures.append(Drawing(svg, title, phrase("verdict.figure_note")))
    return figures


def _hypotheses(row: dict[str, Any], *, language: Language) -> Table:
    phrase = language.phrase
    rows = [
        [
            Cell(hypothesis["name"], hypothesis["question"], strong=hypothesis["primary"]),
            effect_cell(hypothesis, language=language),
            Cell(language.interval(hypothesis["cautious"], digits=2, signed=True) if "cautious" in hypothesis else "–"),
            p_cell(hypothesis, language=language),
            Cell(language.number(hypothesis["smallest_detectable"], 2)),
            Cell(language.number(hypothesis["smallest_effect_of_interest"], 1)),
            _hypothesis_verdict(hypothesis, language),
        ]
        for hypothesis in row["hypotheses"]
    ]
    names = ("hypothesis", "effect", "cautious", "p", "detectable", "smallest", "verdict")
    head = [phrase(f"verdict.{name}") for name in names]
    return Table(phrase("verdict.hypotheses"), head, rows, note=phrase("verdict.hypotheses_note"))


def _hypothesis_verdict(hypothesis: dict[str, Any], language: Language) -> Cell:
    """Makes a cell of a verdict, with the cautious verdict below if that differs."""
    if not hypothesis["verdict"]:
        return Cell("–")
    word = language.name("verdict", hypothesis["verdict"])
    cautious = language.name("verdict", hypothesis.get("cautious_verdict") or hypothesis["verdict"])
    return Cell(word, "" if cautious == word else language.phrase("verdict.cautiously", verdict=cautious))


def _combiner_scores(board: dict[str, Any], task: dict[str, Any], *, language: Language) -> Table:
    """Tabulates a task's scores in points, with intervals; the best of each column is bold."""
    phrase, rows = language.phrase, [row for row in board["rows"] if row["task"] == task["task"]]
    scores = {(row["combiner"], row["hidden"]): row["score"] for row in rows if row["score"] is not None}
    values = {key: score["value"] for key, score in scores.items() if score["value"] is not None}
    best = {max((key for key in values if key[1] == hidden), key=values.__getitem__, default=None) for hidden in HEADS}

    def cell(name: str, hidden: bool) -> Cell:
        score = scores.get((name, hidden))
        if score is None:
            return Cell(language.number(None))
        interval = language.interval(score, digits=1)
        return Cell(language.number(score["value"], 2), interval, strong=(name, hidden) in best)

    names = dict.fromkeys(row["combiner"] for row in rows)
    lines = [[Cell(name), *(cell(name, hidden) for hidden in HEADS)] for name in names]
    title = phrase(
        "combiners.scores",
        task=task["task"],
        metric=language.name("metric", task["metric"]),
        pairs=language.count(task["pairs"]),
    )
    head = [phrase("combiners.combiner"), phrase("combiners.linear"), phrase("combiners.hidden")]
    return Table(title, head, lines, note=phrase("combiners.scores_note"))


def _plain_table(title: str, rows: Sequence[Sequence[str]]) -> Table:
    """Converts a table of the claim's own; a cell with **text** in double asterisks is bold."""

    def cell(text: str) -> Cell:
        bold = re.search(r"\*\*(.+?)\*\*", text) is not None
        return Cell(text.replace("**", ""), strong=bold)

    return Table(title, list(rows[0]), [[cell(text) for text in line] for line in rows[1:]])
