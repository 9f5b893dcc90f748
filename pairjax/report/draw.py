"""Draws figures with Matplotlib as SVG with CSS variables for colours, so one drawing fits light and dark pages.

Texts stay text. A figure is as wide as the screen of a telephone (3.9 inches, 8 point), so it is never shrunk there.
Series differ by marker as well as by colour (the palette of Okabe and Ito, readable with any colour vision).
"""

import hashlib
import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from pairjax.base.terminal import shorten
from pairjax.report.analysis import Bin
from pairjax.report.language import Language, Score

INK, SOFT, LINE, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#fffffe"
SERIES = ("#0072b2", "#d55e00", "#007a59", "#b0568f", "#8a6a00", "#444c57")
DARK_SERIES = ("#58b0f0", "#ff8f4d", "#2fc79b", "#e79cc4", "#e3b341", "#b3bcc6")
GREY = 5
"""Series of baselines and of other values shown for comparison."""
MARKERS = ("o", "s", "^", "D", "v", "P")
VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", PAPER: "paper"} | {
    colour: f"c{number}" for number, colour in enumerate(SERIES, 1)
}
WIDTH = 3.9
"""Width of a figure in inches."""
BINS = 40
"""Number of points of a smoothed curve."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pairjax",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
}


def style() -> AbstractContextManager[None]:
    """Returns the context in which figures are drawn and written."""
    return matplotlib.rc_context(STYLE)


def to_svg(figure: Figure) -> str:
    """Writes a figure as an SVG element without prolog, metadata or fixed size; its colours are still literal."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<style type="text/css">.*?</style>', "", text, count=1, flags=re.DOTALL)
    # The page's font is used: few machines have Matplotlib's.
    text = re.sub(r"font: ([\d.]+)px [^;\"<]*", r"font-size: \1px", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r' xmlns:xlink="[^"]*"', "", text, count=1).replace("xlink:href", "href")
    text = re.sub(r">\s+<", "><", text)
    # Several drawings share a page, where ids must be unique.
    mark = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="([^"<]+)"', rf'id="{mark}-\1"', text)
    return re.sub(r'(url\(|href=")#', rf"\1#{mark}-", text)


def themed(svg: str, *, alt: str) -> str:
    """Replaces colours by CSS variables, and adds a description for readers who cannot see the figure."""
    for colour, name in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg ", f'<svg class="figure" role="img" aria-label="{escape(alt)}" ', 1)


def local_ticks(axes: Axes, language: Language) -> None:
    """Writes the numbers on both axes as the language does."""
    formatter = FuncFormatter(lambda value, _: language.short(value))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(formatter)


# -------------------------------------------------------------------------------------------------------------- forest


@dataclass(frozen=True)
class Bar:
    """A value with its interval, one line of a forest plot.

    Attributes:
        label: Text above the line.
        score: `value`, `low` and `high`.
        series: Index of the colour and the marker.
    """

    label: str
    score: Score
    series: int = 0


def forest(
    bars: Sequence[Bar],
    *,
    language: Language,
    axis: str,
    alt: str,
    references: Sequence[tuple[str, float]] = (),
    digits: int = 3,
    signed: bool = False,
) -> str:
    """Draws a forest plot: values with intervals, one below the other, each with its label.

    Args:
        bars: The values, from the top.
        language: Language of the numbers.
        axis: Name of the axis.
        alt: Description of the figure.
        references: (label, value) of each vertical line.
        digits: Decimal places of the numbers next to the labels.
        signed: Whether values are differences, written with their signs.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 0.38 * len(bars) + (0.75 if references else 0.55)))
        axes = figure.add_subplot()
        for place, bar in enumerate(bars):
            _draw_bar(axes, bar, -float(place), language=language, digits=digits, signed=signed)
        axes.set_ylim(-len(bars) + 0.55, 0.75 + (0.45 if references else 0.0))
        for label, value in references:
            axes.plot((value, value), (-len(bars) + 0.55, 0.72), color=SOFT, linewidth=0.8, dashes=(3, 2), zorder=0)
            axes.annotate(label, (value, 0.75), ha="center", va="bottom", fontsize=7, color=SOFT)
        axes.margins(x=0.06)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
        local_ticks(axes, language)
        axes.set_xlabel(axis)
        return themed(to_svg(figure), alt=alt)


def _draw_bar(axes: Axes, bar: Bar, y: float, *, language: Language, digits: int, signed: bool) -> None:
    value, low, high = (bar.score.get(name) for name in ("value", "low", "high"))
    colour, across = SERIES[bar.series % len(SERIES)], axes.get_yaxis_transform()
    axes.plot((0, 1), (y, y), transform=across, color=LINE, linewidth=0.5, zorder=0)
    number = language.signed(value, digits) if signed else language.number(value, digits)
    numbers = f"{number} {language.interval(bar.score, digits=digits, signed=signed)}".strip()
    axes.text(0, y + 0.2, shorten(bar.label, 58 - len(numbers)), transform=across, va="bottom", ha="left")
    axes.text(1, y + 0.2, numbers, transform=across, va="bottom", ha="right", color=SOFT)
    if value is None:
        return
    if low is not None and high is not None:
        axes.plot((low, high), (y, y), color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([value], [y], MARKERS[bar.series % len(MARKERS)], color=colour, markersize=5.5)


# -------------------------------------------------------------------------------------------------------------- curves


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        label: Text at the end of the curve.
        x: Horizontal positions, usually steps.
        y: Values.
        series: Index of the colour and the marker.
        points: Whether each value has a marker; evaluations do, single steps are too many.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    series: int = 0
    points: bool = True


def binned(x: Sequence[float], y: Sequence[float], *, bins: int = BINS) -> tuple[list[float], list[float]]:
    """Averages neighbours, so a curve of many steps is smooth and small; values that are not finite are left out."""
    positions, values = np.asarray(x, float), np.asarray(y, float)
    finite = np.isfinite(values)
    positions, values = positions[finite], values[finite]
    parts = np.array_split(np.arange(len(values)), min(bins, max(1, len(values))))
    return (
        [float(positions[part].mean()) for part in parts if len(part)],
        [float(values[part].mean()) for part in parts if len(part)],
    )


def curves(
    lines: Sequence[Line],
    *,
    language: Language,
    x_axis: str,
    y_axis: str,
    alt: str,
    levels: Sequence[tuple[str, float]] = (),
    best: tuple[str, float] | None = None,
    log: bool = False,
) -> str:
    """Draws curves over the steps, each labelled at its end.

    Args:
        lines: The curves.
        language: Language of the numbers.
        x_axis: Name of the horizontal axis.
        y_axis: Name of the vertical axis.
        alt: Description of the figure.
        levels: (label, value) of each horizontal line.
        best: (label, step) of a vertical line at the step whose parameters are kept.
        log: Whether the vertical axis is logarithmic.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 2.5))
        axes = figure.add_subplot()
        draw_curves(axes, lines, language=language, levels=levels, log=log)
        axes.set_xlabel(x_axis)
        axes.set_title(y_axis)
        if best is not None:
            axes.axvline(best[1], color=SOFT, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
            top = axes.get_xaxis_transform()
            side = "right" if best[1] > sum(axes.get_xlim()) / 2 else "left"
            axes.text(best[1], 1.0, f" {best[0]} ", transform=top, fontsize=7, color=SOFT, ha=side)
        return themed(to_svg(figure), alt=alt)


def draw_curves(
    axes: Axes,
    lines: Sequence[Line],
    *,
    language: Language,
    levels: Sequence[tuple[str, float]] = (),
    log: bool = False,
) -> None:
    """Draws curves and levels on the given axes."""
    ends: list[tuple[str, float, str]] = []
    for line in lines:
        colour = SERIES[line.series % len(SERIES)]
        marker = MARKERS[line.series % len(MARKERS)] if line.points else None
        axes.plot(line.x, line.y, color=colour, marker=marker)
        ends.append((line.label, line.y[-1], colour))
    for label, value in levels:
        axes.axhline(value, color=SOFT, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
        ends.append((label, value, SOFT))
    if log:
        axes.set_yscale("log")
    axes.margins(x=0.02, y=0.08)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    local_ticks(axes, language)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=(1, 2, 5, 10)))
    if log:
        low, high = axes.get_ylim()
        few_decades = math.log10(high / low) < 1.2
        axes.yaxis.set_minor_formatter(axes.yaxis.get_major_formatter() if few_decades else NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
    _label_ends(axes, ends)


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Writes labels to the right of the axes, at the heights of their curves or just far enough apart to be read."""
    axes.get_ylim()  # computes the limits
    inverse = axes.transAxes.inverted()
    heights = [float(inverse.transform(axes.transData.transform((0, value)))[1]) for _, value, _ in ends]
    gap = 8.5 / (72 * axes.get_window_extent().height / axes.figure.dpi)
    for height, (label, _, colour) in zip(_spread(heights, gap), ends, strict=True):
        axes.text(1.02, height, shorten(label, 26), transform=axes.transAxes, color=colour, va="center", fontsize=7.5)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Moves heights upwards, from the lowest on, until any two are at least `gap` apart."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = list(heights)
    for before, index in pairwise(order):
        placed[index] = max(placed[index], placed[before] + gap)
    over = placed[order[-1]] - 1.0 if order else 0.0
    if over > 0:
        # The highest label must stay within the axes: move it down, and with it those that it touches.
        placed[order[-1]] -= over
        for index, after in zip(order[-2::-1], order[:0:-1], strict=True):
            placed[index] = min(placed[index], placed[after] - gap)
    return placed


# --------------------------------------------------------------------------------------------------------- reliability


def reliability_diagram(
    before: Sequence[Bin | None], after: Sequence[Bin | None], *, language: Language, classes: int, alt: str
) -> str:
    """Draws accuracy against confidence at both temperatures, and below it the distribution of the pairs.

    Args:
        before: Bins at temperature 1.
        after: Bins at the fitted temperature.
        language: Language of words and numbers.
        classes: Number of classes; confidence is at least 1 / classes.
        alt: Description of the figure.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 4.0))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        start = max(0.0, 1.0 / classes - 0.04)
        perfect = language.phrase("reliability.perfect")
        top.plot((start, 1), (start, 1), color=SOFT, linewidth=0.8, dashes=(3, 2), zorder=0, label=perfect)
        edges = np.linspace(0.0, 1.0, len(before) + 1)
        for series, (bins, label) in enumerate(((before, "before"), (after, "after"))):
            colour = SERIES[1 - series]
            points = [point for point in bins if point is not None]
            x, y = [point.confidence for point in points], [point.accuracy.value for point in points]
            limits = np.reshape([(point.accuracy.low, point.accuracy.high) for point in points], (-1, 2))
            top.errorbar(
                x,
                y,
                yerr=np.abs(limits - np.asarray(y)[:, None]).T,
                color=colour,
                marker=MARKERS[1 - series],
                markerfacecolor=colour if series else "none",
                elinewidth=0.9,
                linewidth=1.0,
                label=language.phrase(f"reliability.{label}"),
            )
            total = sum(point.pairs for point in points)
            shares = [0.0 if point is None else point.pairs / total for point in bins]
            bottom.stairs(shares, edges, color=colour, linewidth=1.2, fill=bool(series), alpha=0.45 if series else 1.0)
        top.legend(loc="lower right", frameon=False, fontsize=7.5, handlelength=1.6)
        top.set_ylim(-0.03, 1.06)
        top.set_xlim(start, 1.015)
        top.set_title(language.phrase("reliability.right"))
        bottom.set_title(language.phrase("reliability.share"))
        bottom.set_xlabel(language.phrase("reliability.confidence"))
        bottom.yaxis.set_major_locator(MaxNLocator(2))
        for axes in (top, bottom):
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            local_ticks(axes, language)
        return themed(to_svg(figure), alt=alt)
