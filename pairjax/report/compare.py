"""The sections about several runs: one table of all, and paired tests between those that answered the same pairs."""

from collections.abc import Sequence

from pairjax.report.analysis import Test, compare, sharing_a_split
from pairjax.report.blocks import Block, Cell, Drawing, Paragraph, Section, Table
from pairjax.report.draw import Bar, forest
from pairjax.report.folder import RunRecord
from pairjax.report.language import Language
from pairjax.report.pairs import overview_row, score_cell


def overview_section(runs: Sequence[RunRecord], *, id: str, language: Language) -> Section:
    """Every run on pairs with its leading score; a figure for those that share a metric and a split."""
    say = language.say
    rows = []
    for run in runs:
        told, score = overview_row(run, language=language)
        split = run.main_split
        what = say("overview.unfinished") if split is None else language.name("metric", run.metric)
        where = "" if split is None else language.name("split", split)
        rows.append([Cell(run.name, told), Cell(what, where), score_cell(score, language=language)])
    head = [say("overview.run"), say("metrics.metric"), say("overview.score")]
    blocks: list[Block] = [Table(say("overview.table"), head, rows, left=2, note=say("metrics.note"))]
    return Section(id, say("overview.title"), blocks)


def comparison_section(runs: Sequence[RunRecord], *, id: str, language: Language) -> Section | None:
    """Paired tests of each group of runs that share a split; None where no two do."""
    say, blocks = language.say, list[Block]()
    for split, members in sharing_a_split(runs):
        tests = compare(runs, members, split=split)
        first = runs[members[0]]
        pairs = len(first.predictions[split])
        blocks.append(Paragraph(comparison_sentence(runs, tests, split=split, pairs=pairs, language=language), "lead"))
        metric, where = language.name("metric", first.metric), language.name("split", split)
        bars = []
        for number in members:
            _, score = overview_row(runs[number], language=language)
            if score is not None:
                bars.append(Bar(runs[number].name, score, number))
        title = say("overview.figure", metric=metric, split=where)
        blocks.append(Drawing(forest(bars, language=language, axis=metric, alt=title), title))
        leading = tests[0].metric
        gaps = [
            Bar(f"{runs[test.one].name} − {runs[test.other].name}", test.difference.to_json(), 5)
            for test in tests
            if test.metric == leading
        ]
        name = language.name("metric", leading)
        title = say("compare.figure", metric=name)
        svg = forest(
            gaps, language=language, axis=title, alt=title, references=[(say("compare.same"), 0.0)], signed=True
        )
        blocks.append(Drawing(svg, title, say("compare.figure_note")))
        blocks.append(_tests_table(runs, tests, language=language))
    return Section(id, say("compare.title"), blocks) if blocks else None


def comparison_sentence(
    runs: Sequence[RunRecord], tests: Sequence[Test], *, split: str, pairs: int, language: Language
) -> str:
    """Which differences stand after correction."""
    say, leading = language.say, tests[0].metric
    found = [test for test in tests if test.metric == leading]
    told = []
    for test in found:
        if test.p_holm >= 0.05:
            continue
        # Less is better for an error, more for accuracy.
        ahead = (test.difference.value > 0) == (leading == "accuracy")
        better, worse = (test.one, test.other) if ahead else (test.other, test.one)
        told.append(
            say(
                "compare.better",
                better=runs[better].name,
                worse=runs[worse].name,
                difference=language.number(abs(test.difference.value)),
                p=language.p_value(test.p_holm),
            )
        )
    where, metric = language.name("split", split), language.name("metric", leading)
    head = say("compare.lead", count=language.count(pairs), split=where, metric=metric)
    if not told:
        return f"{head} {say('compare.none', tests=language.count(len(found)))}"
    rest = len(found) - len(told)
    tail = f" {say('compare.rest', count=language.count(rest))}" if rest else ""
    return f"{head} {language.listed(told)}.{tail}"


def _tests_table(runs: Sequence[RunRecord], tests: Sequence[Test], *, language: Language) -> Table:
    say = language.say
    rows = []
    for test in tests:
        kind = say(f"compare.{test.test}")
        counts = (
            say("compare.counts", one=language.count(test.only_one), other=language.count(test.only_other))
            if test.test == "mcnemar"
            else ""
        )
        difference = test.difference.to_json()
        rows.append(
            [
                Cell(f"{runs[test.one].name} − {runs[test.other].name}"),
                Cell(language.name("metric", test.metric)),
                Cell(language.signed(test.difference.value, 3), language.interval(difference, signed=True)),
                Cell(kind, counts),
                Cell(language.p_value(test.p)),
                Cell(language.p_value(test.p_holm), strong=test.p_holm < 0.05),
            ]
        )
    head = [
        say("compare.runs"),
        say("metrics.metric"),
        say("compare.difference"),
        say("compare.test"),
        say("compare.p"),
        say("compare.p_holm"),
    ]
    return Table(say("compare.table"), head, rows, left=2, note=say("compare.note"))
