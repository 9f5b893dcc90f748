"""cost.svg: milliseconds a pair by length, batch and number of pairs, the floor beside each curve."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.benchmarks.cases import shown
from pairjax.report.draw import MARKERS, SERIES, SOFT, style, themed, to_svg
from pairjax.report.figures import standalone

KINDS = {
    "train": "training step",
    "predict": "logits",
    "cross": "cross-encoder, whole prediction",
    "bi": "bi-encoder, whole prediction",
}


def cost_figure(found: dict[str, Any]) -> str:
    """Three panels as an SVG file."""
    axis = {
        "length": f"tokens a pair ({found['batch']} pairs a batch)",
        "batch": f"pairs a batch ({found['length']} tokens each)",
        "pairs": f"pairs ({shown(found['about']['data']['sick'])}'s sentences, newly paired)",
    }
    with style():
        figure = Figure(figsize=(9.6, 3.2))
        panels = figure.subplots(1, len(axis))
        for axes, (curve, name) in zip(panels, axis.items(), strict=True):
            for series, kind in enumerate(KINDS):
                rows = [row for row in found["rows"] if (row["curve"], row["kind"]) == (curve, kind)]
                at, colour = [row["at"] for row in rows], SERIES[series]
                axes.plot(at, [row["milliseconds"] for row in rows], MARKERS[series] + "-", color=colour)
                axes.plot(at, [row["floor_milliseconds"] for row in rows], "--", color=colour, linewidth=1.0)
            axes.set_xscale("log", base=10 if curve == "pairs" else 2)
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if curve == "batch" else (1.0,)))
            for one in (axes.xaxis, axes.yaxis):
                one.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
                one.set_minor_formatter(NullFormatter())
            axes.set_xlabel(name)
            axes.grid(axis="y")
        panels[0].set_ylabel("milliseconds a pair")
        marks = [Line2D([], [], color=SERIES[i], marker=MARKERS[i]) for i in range(len(KINDS))]
        marks.append(Line2D([], [], color=SOFT, linestyle="--", linewidth=1.0))
        floor = f"floor ({found['matrix_rate']:.0f} GFLOP/s)"
        figure.legend(marks, [*KINDS.values(), floor], frameon=False, ncols=5, loc="outside upper center")
        return standalone(themed(to_svg(figure), alt="Milliseconds a pair, by length, batch and number of pairs"))
