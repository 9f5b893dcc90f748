"""Builds the sections about several runs: one table of all, and paired tests of runs on the same pairs."""

from collections.abc import Sequence

from pairjax.evaluation.metrics import LOWER_IS_BETTER
from pairjax.report.analysis import Test, compare, sharing_a_split
from pairjax.report.blocks import Block, Cell, Drawing, Paragraph, Section, Table
from pairjax.report.draw import GREY, Bar, forest
from pairjax.report.folder import RunRecord
from pairjax.report.language import Language
from pairjax.report.pair_tables import score_cell
from pairjax.report.pairs import overview_row

SIGNIFICANT = 0.05
"""Corrected p values below this are significant."""


def overview_section(runs: Sequence[RunRecord], *, id: str, language: Language) -> Section:
    """Tabulates all runs on pairs with their leading scores."""
    phrase = language.phrase
    rows = []
    for run in runs:
        description, score = overview_row(run, language=language)
        split = run.main_split
        metric = phrase("overview.unfinished") if split is None else language.name("metric", run.metric)
        split_name = "" if split is None else language.name("split", split)
        rows.append([Cell(run.name, description), Cell(metric, split_name), score_cell(score, language=language)])
    head = [phrase("overview.run"), phrase("metrics.metric"), phrase("overview.score")]
    blocks: list[Block] = [Table(phrase("overview.table"), head, rows, left=2, note=phrase("metrics.note"))]
    return Section(id, phrase("overview.title"), blocks)


def comparison_section(runs: Sequence[RunRecord], *, id: str, language: Language) -> Section | None:
    """Compares the runs of each group that was scored on the same pairs; None if there is no such group."""
    phrase, blocks = language.phrase, list[Block]()
    for split, members in sharing_a_split(runs):
        tests = compare(runs, members, split=split)
        first = runs[members[0]]
        pairs = len(first.predictions[split])
        blocks.append(Paragraph(comparison_sentence(runs, tests, split=split, pairs=pairs, language=language), "lead"))
        metric = language.name("metric", first.metric)
        bars = []
        for index in members:
            _, score = overview_row(runs[index], language=language)
            if score is not None:
                bars.append(Bar(runs[index].name, score, index))
        title = phrase("overview.figure", metric=metric, split=language.name("split", split))
        blocks.append(Drawing(forest(bars, language=language, axis=metric, alt=title), title))
        leading = tests[0].metric
        differences = [
            Bar(f"{runs[test.first].name} − {runs[test.second].name}", test.difference.to_json(), GREY)
            for test in tests
            if test.metric == leading
        ]
        name = language.name("metric", leading)
        title = phrase("compare.figure", metric=name)
        zero = [(phrase("compare.same"), 0.0)]
        svg = forest(differences, language=language, axis=title, alt=title, references=zero, signed=True)
        blocks.append(Drawing(svg, title, phrase("compare.figure_note")))
        blocks.append(_tests_table(runs, tests, language=language))
    return Section(id, phrase("compare.title"), blocks) if blocks else None


def comparison_sentence(
    runs: Sequence[RunRecord], tests: Sequence[Test], *, split: str, pairs: int, language: Language
) -> str:
    """Says which differences are significant after correction."""
    phrase, leading = language.phrase, tests[0].metric
    tests = [test for test in tests if test.metric == leading]
    phrases = []
    for test in tests:
        if not test.p_holm < SIGNIFICANT:  # or NaN
            continue
        first_is_better = (test.difference.value > 0) != (leading in LOWER_IS_BETTER)
        better, worse = (test.first, test.second) if first_is_better else (test.second, test.first)
        phrases.append(
            phrase(
                "compare.better",
                better=runs[better].name,
                worse=runs[worse].name,
                difference=language.number(abs(test.difference.value)),
                p=language.p_value(test.p_holm),
            )
        )
    split_name, metric = language.name("split", split), language.name("metric", leading)
    lead = phrase("compare.lead", count=language.count(pairs), split=split_name, metric=metric)
    if not phrases:
        return f"{lead} {phrase('compare.none', tests=language.count(len(tests)))}"
    rest = len(tests) - len(phrases)
    tail = f" {phrase('compare.rest', count=language.count(rest))}" if rest else ""
    return f"{lead} {language.listed(phrases)}.{tail}"


def _tests_table(runs: Sequence[RunRecord], tests: Sequence[Test], *, language: Language) -> Table:
    phrase = language.phrase
    rows = []
    for test in tests:
        name = phrase(f"compare.{test.test}")
        counts = (
            phrase("compare.counts", first=language.count(test.only_first), second=language.count(test.only_second))
            if test.only_first or test.only_second
            else ""
        )
        difference = test.difference.to_json()
        rows.append(
            [
                Cell(f"{runs[test.first].name} − {runs[test.second].name}"),
                Cell(language.name("metric", test.metric)),
                Cell(language.signed(test.difference.value, 3), language.interval(difference, signed=True)),
                Cell(name, counts),
                Cell(language.p_value(test.p)),
                Cell(language.p_value(test.p_holm), strong=test.p_holm < SIGNIFICANT),
            ]
        )
    head = [
        phrase("compare.runs"),
        phrase("metrics.metric"),
        phrase("compare.difference"),
        phrase("compare.test"),
        phrase("compare.p"),
        phrase("compare.p_holm"),
    ]
    return Table(phrase("compare.table"), head, rows, left=2, note=phrase("compare.note"))
