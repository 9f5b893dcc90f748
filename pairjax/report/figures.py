"""Draws the two figures of a README: the combiners against concatenation, and pretraining over its steps.

`pairjax report runs/claims/proposition_1 runs/p1 runs/p2 --figures experiments/figures` writes those for which the
folders have data. Each file has its own colours for light and dark pages.
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
    """Writes colours as CSS variables."""
    return " ".join(f"--{name}: {value};" for name, value in values.items())


def standalone(svg: str) -> str:
    """Turns a themed drawing into a complete SVG file with background, colours and font."""
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
    """Returns the combiners of a task in order, without the one that the others are compared with."""
    names = [row["combiner"] for row in board["rows"] if row["task"] == task]
    return [name for name in dict.fromkeys(names) if name != board["against"]]


def draw_combiners(axes: Axes, board: Mapping[str, Any], task: str, *, language: Language) -> None:
    """Draws a task's gain of each combiner over concatenation with interval, for a linear head and a hidden layer."""
    names = combiner_rows(board, task)
    for series, hidden in enumerate(HEADS):
        for place, name in enumerate(names):
            gains = [
                row["gain"]
                for row in board["rows"]
                if (row["task"], row["combiner"], row["hidden"]) == (task, name, hidden)
            ]
            if not gains or gains[0] is None or gains[0]["value"] is None:
                continue
            gain, y, colour = gains[0], -place + (0.17 if not hidden else -0.17), SERIES[series]
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
    metric = next(row["metric"] for row in board["tasks"] if row["task"] == task)
    axes.set_title(f"{task}: {language.name('metric', metric)}")


def heads_legend(figure: Figure | Axes, language: Language, **placement: Any) -> None:
    """Adds a legend with the marker of each head."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=SERIES[series], marker=MARKERS[series], markersize=3.6, linewidth=1.6) for series in (0, 1)
    ]
    names = [language.phrase("combiners.linear"), language.phrase("combiners.hidden")]
    figure.legend(marks, names, frameon=False, ncols=2, fontsize=7.5, handlelength=1.6, **placement)


def combiner_panel(board: Mapping[str, Any], task: str, *, language: Language) -> str:
    """Draws one task for a page."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.28 * len(combiner_rows(board, task)) + 1.0))
        axes = figure.add_subplot()
        draw_combiners(axes, board, task, language=language)
        axes.set_xlabel(language.phrase("combiners.axis", against=board["against"]))
        heads_legend(figure, language, loc="outside lower center")
        return themed(to_svg(figure), alt=language.phrase("combiners.alt", task=task, against=board["against"]))


def combiners_figure(board: Mapping[str, Any], *, language: Language) -> str:
    """Draws all tasks side by side, as a complete SVG file."""
    tasks = [row["task"] for row in board["tasks"]]
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    height = max(len(combiner_rows(board, task)) for task in tasks)
    with style():
        figure = Figure(figsize=(2.6 * columns + 0.9, rows * (0.2 * height + 0.55) + 0.45))
        panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
        for axes, task in zip(panels, tasks, strict=False):
            draw_combiners(axes, board, task, language=language)
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        figure.supxlabel(language.phrase("combiners.axis", against=board["against"]), fontsize=8)
        heads_legend(figure, language, loc="outside upper center")
        names = ", ".join(tasks)
        return standalone(
            themed(to_svg(figure), alt=language.phrase("combiners.alt", task=names, against=board["against"]))
        )


# --------------------------------------------------------------------------------------------------------- pretraining


def evaluations(run: RunRecord, name: str) -> tuple[list[float], list[float]]:
    """Returns (steps, values) of a name in metrics.jsonl; nulls are left out."""
    points = [(float(line["step"]), line[name]) for line in run.curve if isinstance(line.get(name), int | float)]
    return [step for step, _ in points], [float(value) for _, value in points]


def curve_lines(runs: Sequence[RunRecord], name: str) -> list[Line]:
    """Makes a line for each run that has values of the name; a run has the same colour in all figures."""
    lines = []
    for series, run in enumerate(runs):
        x, y = evaluations(run, name)
        if x:
            lines.append(Line(run.name, x, y, series))
    return lines


def baseline_levels(run: RunRecord, split: str, *, language: Language) -> list[tuple[str, float]]:
    """Returns (name, accuracy) of each baseline on segments; none of them is pretrained on this text."""
    baselines = ((run.result or {}).get("baselines") or {}).get(split, {})
    return [
        (language.name("segment_baseline", name), score["value"]) for name, score in baselines.items() if score["value"]
    ]


def pretraining_figure(runs: Sequence[RunRecord], *, language: Language) -> str:
    """Draws perplexity and segment accuracy on held-out text over the steps, with the best baseline, as an SVG file."""
    perplexity = curve_lines(runs, "dev/mlm_perplexity")
    accuracy = curve_lines(runs, "dev/segment_accuracy")
    panels = [(perplexity, "mlm_perplexity", True)] + ([(accuracy, "segment_accuracy", False)] if accuracy else [])
    with style():
        figure = Figure(figsize=(4.4 * len(panels), 2.7))
        all_axes = figure.subplots(1, len(panels), squeeze=False).ravel()
        for axes, (lines, name, log) in zip(all_axes, panels, strict=True):
            levels = [] if log else [level for run in runs for level in baseline_levels(run, "dev", language=language)]
            best = sorted(levels, key=lambda level: level[1])[-1:]
            draw_curves(axes, lines, language=language, levels=best, log=log)
            axes.set_title(f"dev: {language.name('metric', name)}")
            axes.set_xlabel(language.phrase("curves.steps"))
            local_ticks(axes, language)
        alt = language.phrase("pretraining.curves_alt", runs=", ".join(run.name for run in runs))
        return standalone(themed(to_svg(figure), alt=alt))


def write_figures(folder: Path, records: Sequence[RunRecord | ClaimFolder], *, language: Language) -> list[Path]:
    """Writes combiners.svg and pretraining.svg, each if there is data for it; returns the paths."""
    written = []
    claims = [record for record in records if isinstance(record, ClaimFolder)]
    boards = [claim.combiners for claim in claims if claim.combiners is not None]
    runs = [record for record in records if isinstance(record, RunRecord) and record.kind == "pretraining"]
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
