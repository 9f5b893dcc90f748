"""Draws cost.svg: milliseconds a pair by length, batch size and number of pairs, each with its lower bound."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.benchmarks.cases import source_title
from pairjax.report.draw import MARKERS, SERIES, SOFT, style, themed, to_svg
from pairjax.report.figures import standalone

KINDS = {
    "train": "training step",
    "predict": "logits",
    "cross": "cross-encoder, text to outputs",
    "bi": "bi-encoder, text to outputs",
}


def cost_figure(result: dict[str, Any]) -> str:
    """Draws the three panels; returns the text of an SVG file.

    Args:
        result: The entry of the case `cost` in results.json.
    """
    labels = {
        "length": f"tokens a pair ({result['batch']} pairs a batch)",
        "batch": f"pairs a batch ({result['length']} tokens each)",
        "pairs": f"pairs ({source_title(result['about']['data']['sick'])} sentences, paired at random)",
    }
    with style():
        figure = Figure(figsize=(9.6, 3.2))
        panels = figure.subplots(1, len(labels))
        for axes, (curve, label) in zip(panels, labels.items(), strict=True):
            for series, kind in enumerate(KINDS):
                rows = [row for row in result["rows"] if (row["curve"], row["kind"]) == (curve, kind)]
                at, colour = [row["at"] for row in rows], SERIES[series]
                axes.plot(at, [row["milliseconds"] for row in rows], MARKERS[series] + "-", color=colour)
                axes.plot(at, [row["floor_milliseconds"] for row in rows], "--", color=colour, linewidth=1.0)
            axes.set_xscale("log", base=10 if curve == "pairs" else 2)
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if curve == "batch" else (1.0,)))
            for side in (axes.xaxis, axes.yaxis):
                side.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
                side.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
            axes.grid(axis="y")
        panels[0].set_ylabel("milliseconds a pair")
        marks = [Line2D([], [], color=SERIES[i], marker=MARKERS[i]) for i in range(len(KINDS))]
        marks.append(Line2D([], [], color=SOFT, linestyle="--", linewidth=1.0))
        bound = f"lower bound ({result['matrix_rate']:.0f} GFLOP/s)"
        figure.legend(marks, [*KINDS.values(), bound], frameon=False, ncols=5, loc="outside upper center")
        return standalone(themed(to_svg(figure), alt="Milliseconds a pair by length, batch size and number of pairs"))
