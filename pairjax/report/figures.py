"""The two figures that a README shows: the combiners beside concatenation, and pretraining over its steps.

`pairjax report runs/claims/proposition_1 runs/p1 runs/p2 --figures experiments/figures` writes those that the folders
allow. They bring their own colours for light and dark.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pairjax.report.draw import (
    DARK_SERIES,
    INK,
    LINE,
    MARKERS,
    PAPER,
    SERIES,
    SOFT,
    WIDTH,
    Line,
    draw_curves,
    local_ticks,
    style,
    themed,
    to_svg,
)
from pairjax.report.folder import ClaimFolder, RunRecord
from pairjax.report.language import Language
from pairjax.storage.files import write_text

DARK = {"ink": "#e6edf3", "soft": "#9da7b3", "line": "#3d444d", "paper": "#0d1117"} | {
    f"c{number}": colour for number, colour in enumerate(DARK_SERIES, 1)
}
LIGHT = {"ink": INK, "soft": SOFT, "line": LINE, "paper": PAPER} | {
    f"c{number}": colour for number, colour in enumerate(SERIES, 1)
}
HEADS = (False, True)


def colour_rules(values: Mapping[str, str]) -> str:
    """The colours as CSS variables."""
    return " ".join(f"--{name}: {value};" for name, value in values.items())


def standalone(svg: str) -> str:
    """A themed drawing as a file of its own, with paper behind it and its own colours and font."""
    rules = (
        f"svg {{ {colour_rules(LIGHT)} background: var(--paper); font-family: system-ui, sans-serif; }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {colour_rules(DARK)} }} }} "
        "* { stroke-linejoin: round; stroke-linecap: butt; }"
    )
    start = svg.index(">") + 1
    head = svg[:start]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}<style>{rules}</style>{svg[start:]}\n'


# ----------------------------------------------------------------------------------------------------------- combiners


def combiner_rows(board: Mapping[str, Any], task: str) -> list[str]:
    """The combiners of a task in their order, without the one that all are measured against."""
    names = [row["combiner"] for row in board["rows"] if row["task"] == task]
    return [name for name in dict.fromkeys(names) if name != board["against"]]


def draw_combiners(axes: Axes, board: Mapping[str, Any], task: str, *, language: Language) -> None:
    """One task: each combiner's gain over concatenation with its interval, linear head and hidden layer."""
    names = combiner_rows(board, task)
    for series, hidden in enumerate(HEADS):
        for place, name in enumerate(names):
            found = [
                row["gain"]
                for row in board["rows"]
                if (row["task"], row["combiner"], row["hidden"]) == (task, name, hidden)
            ]
            if not found or found[0] is None or found[0]["value"] is None:
                continue
            gain, y, colour = found[0], -place + (0.17 if not hidden else -0.17), SERIES[series]
            if gain["low"] is not None and gain["high"] is not None:
                axes.plot((gain["low"], gain["high"]), (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([gain["value"]], [y], MARKERS[series], color=colour, markersize=3.6)
    axes.axvline(0.0, color=SOFT, linewidth=0.8, zorder=0)
    axes.set_yticks([-place for place in range(len(names))], names)
    axes.set_ylim(-len(names) + 0.45, 0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(lambda value, _: language.signed(value, 0) if value else "0")
    facts = next(one for one in board["tasks"] if one["task"] == task)
    axes.set_title(f"{task}: {language.name('metric', facts['metric'])}")


def heads_legend(figure: Figure | Axes, language: Language, **where: Any) -> None:
    """Which mark is which head."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=SERIES[series], marker=MARKERS[series], markersize=3.6, linewidth=1.6) for series in (0, 1)
    ]
    names = [language.say("combiners.linear"), language.say("combiners.hidden")]
    figure.legend(marks, names, frameon=False, ncols=2, fontsize=7.5, handlelength=1.6, **where)


def combiner_panel(board: Mapping[str, Any], task: str, *, language: Language) -> str:
    """One task as a drawing of a page."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.28 * len(combiner_rows(board, task)) + 1.0))
        axes = figure.add_subplot()
        draw_combiners(axes, board, task, language=language)
        axes.set_xlabel(language.say("combiners.axis", against=board["against"]))
        heads_legend(figure, language, loc="outside lower center")
        return themed(to_svg(figure), alt=language.say("combiners.alt", task=task, against=board["against"]))


def combiners_figure(board: Mapping[str, Any], *, language: Language) -> str:
    """All tasks beside each other, as a file."""
    tasks = [one["task"] for one in board["tasks"]]
    across = min(3, len(tasks))
    down = -(-len(tasks) // across)
    most = max(len(combiner_rows(board, task)) for task in tasks)
    with style():
        figure = Figure(figsize=(2.6 * across + 0.9, down * (0.2 * most + 0.55) + 0.45))
        panels = np.atleast_1d(figure.subplots(down, across, sharey=True, squeeze=False).ravel())
        for axes, task in zip(panels, tasks, strict=False):
            draw_combiners(axes, board, task, language=language)
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        figure.supxlabel(language.say("combiners.axis", against=board["against"]), fontsize=8)
        heads_legend(figure, language, loc="outside upper center")
        names = ", ".join(tasks)
        return standalone(
            themed(to_svg(figure), alt=language.say("combiners.alt", task=names, against=board["against"]))
        )


# --------------------------------------------------------------------------------------------------------- pretraining


def evaluations(run: RunRecord, name: str) -> tuple[list[float], list[float]]:
    """(steps, values) of what metrics.jsonl says under a name; nulls are left out."""
    found = [(float(line["step"]), line[name]) for line in run.curve if isinstance(line.get(name), int | float)]
    return [step for step, _ in found], [float(value) for _, value in found]


def curve_lines(runs: Sequence[RunRecord], name: str) -> list[Line]:
    """One line a run that has such values; a run keeps its colour in every figure."""
    lines = []
    for series, run in enumerate(runs):
        x, y = evaluations(run, name)
        if x:
            lines.append(Line(run.name, x, y, series))
    return lines


def baseline_levels(run: RunRecord, split: str, *, language: Language) -> list[tuple[str, float]]:
    """What tells true next segments without any pretraining."""
    baselines = ((run.result or {}).get("baselines") or {}).get(split, {})
    return [
        (language.name("segment_baseline", name), score["value"]) for name, score in baselines.items() if score["value"]
    ]


def pretraining_figure(runs: Sequence[RunRecord], *, language: Language) -> str:
    """Perplexity and accuracy on held-out text over the steps, beside the best baseline, as a file."""
    words = curve_lines(runs, "dev/mlm_perplexity")
    order = curve_lines(runs, "dev/segment_accuracy")
    panels = [(words, "mlm_perplexity", True)] + ([(order, "segment_accuracy", False)] if order else [])
    with style():
        figure = Figure(figsize=(4.4 * len(panels), 2.7))
        every = figure.subplots(1, len(panels), squeeze=False).ravel()
        for axes, (lines, name, log) in zip(every, panels, strict=True):
            levels = [] if log else [level for run in runs for level in baseline_levels(run, "dev", language=language)]
            best = sorted(levels, key=lambda level: level[1])[-1:]
            draw_curves(axes, lines, language=language, levels=best, log=log)
            axes.set_title(f"dev: {language.name('metric', name)}")
            axes.set_xlabel(language.say("curves.steps"))
            local_ticks(axes, language)
        alt = language.say("pretraining.curves_alt", runs=", ".join(run.name for run in runs))
        return standalone(themed(to_svg(figure), alt=alt))


def write_figures(folder: Path, found: Sequence[RunRecord | ClaimFolder], *, language: Language) -> list[Path]:
    """combiners.svg and pretraining.svg, those that the folders allow; returns what was written."""
    written = []
    boards = [one.combiners for one in found if isinstance(one, ClaimFolder) and one.combiners is not None]
    runs = [one for one in found if isinstance(one, RunRecord) and one.kind == "pretraining"]
    runs = [run for run in runs if evaluations(run, "dev/mlm_perplexity")[0]]
    drawings = {}
    if boards:
        drawings["combiners.svg"] = combiners_figure(boards[0], language=language)
    if runs:
        drawings["pretraining.svg"] = pretraining_figure(runs, language=language)
    if drawings:
        folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawings.items():
        write_text(folder / name, svg)
        written.append(folder / name)
    return written
