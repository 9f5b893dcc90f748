"""A sweep's files: the table as CSV and JSON lines, figures as SVG, the result, the best config as an experiment."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from pairjax.evaluation.intervals import Spread
from pairjax.evaluation.significance import expected_maximum
from pairjax.storage.files import to_json, write_json, write_text
from pairjax.sweep.experiment_file import config_source
from pairjax.sweep.sweep import SweepDesign, SweepResult, TrialRow, shown

BEST, TABLE, LINES, RESULT = "best.py", "table.csv", "table.jsonl", "result.json"
MARGINALS, CURVE = "marginals.svg", "expected_maximum.svg"
INK, SOFT, GRID, ONE, OTHER = "#1f2328", "#59636e", "#d1d9e0", "#0072b2", "#d55e00"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pairjax",
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,
}
LOG_SPAN, LOG_MEDIAN = 9.0, 0.25
"""Numbers whose largest is so many times the smallest, with the median in the lowest part of the range, are drawn on a
logarithmic axis."""
FEW = 6
"""Up to so many distinct numbers each has its own tick."""
COLUMNS = 3


def spread_json(spread: Spread | None) -> dict[str, float | None] | None:
    """As scores in result.json, with `runs`: how many values the mean is of."""
    if spread is None:
        return None
    return {"value": spread.mean, "low": spread.low, "high": spread.high, "runs": spread.runs}


def row_json(row: TrialRow, rank: int, *, metric: str) -> dict[str, Any]:
    """A line of table.jsonl."""
    return {
        "rank": rank,
        "trial": row.id,
        "values": {name: list(one) if isinstance(one, tuple) else one for name, one in row.trial.values.items()},
        "metric": metric,
        "score": spread_json(row.score),
        "share": row.share,
        "steps": row.steps,
        "runs": row.runs,
        "diverged": row.diverged,
    }


def expected_curve(result: SweepResult) -> list[float]:
    """The expected score of the best of n trials, n = 1, 2, ..., by those that have a score.

    Empty after halving, whose full-length trials are no sample of the space.
    """
    if any(row.share < 1.0 for row in result.rows):
        return []
    means = [row.score.mean for row in result.rows if math.isfinite(row.score.mean)]
    return [float(result.sign * value) for value in expected_maximum(result.sign * np.array(means))]


def _csv(result: SweepResult) -> str:
    fields = list(result.rows[0].trial.values)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "trial", *fields, result.metric, "low", "high", "share", "steps", "runs", "diverged"])
    for rank, row in enumerate(result.rows, 1):
        numbers = (row.score.mean, row.score.low, row.score.high)
        cells = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
        values = [" ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in row.trial.values.values()]
        writer.writerow([rank, row.id, *values, *cells, f"{row.share:.6g}", row.steps, row.runs, row.diverged])
    return text.getvalue()


def in_words(result: SweepResult, design: SweepDesign) -> list[str]:
    """What the scores mean, a sentence each."""
    best = result.rows[0]
    seeds = f"{len(design.seeds)} seeds" if len(design.seeds) > 1 else "one seed"
    of = f"mean of {design.folds} folds of train, {seeds}" if design.folds else f"dev, {seeds}"
    lines = [f"best {result.metric} {format_spread(best.score)} ({of}); these scores chose it, so they are too good"]
    if result.nested is not None:
        lines.append(
            f"what this search chooses scores {result.metric} {format_spread(result.nested)} on folds that chose "
            f"nothing (nested, {design.folds} folds)"
        )
        if math.isnan(result.nested.mean):
            lines.append("for some fold what was chosen diverged, or nothing could be chosen: there is no such score")
    else:
        lines.append("no score of the chosen config: train it, and read its test split")
    return lines


def format_spread(spread: Spread) -> str:
    """`0.812 [0.790, 0.834]`; - where undefined."""
    if math.isnan(spread.mean):
        return "-"
    if math.isnan(spread.low):
        return f"{spread.mean:.3f}"
    return f"{spread.mean:.3f} [{spread.low:.3f}, {spread.high:.3f}]"


def _docstring(result: SweepResult, design: SweepDesign, *, folder: Path, sources: Sequence[str]) -> str:
    values = ", ".join(f"{name.replace('_', '-')} {shown(one)}" for name, one in result.best.values.items())
    lines = [
        f"The best of {len(result.rows)} trials of a sweep: {values}.",
        "",
        f"Command: pairjax train {folder / BEST}",
        *(f"Searched: {line}" for line in sources),
    ]
    lines += [f"{line[0].upper()}{line[1:]}." for line in in_words(result, design)]
    return "\n".join([*lines, "It keeps its last parameters, as the trials did: no fold chose a step of theirs."])


def write_sweep(
    result: SweepResult,
    design: SweepDesign,
    folder: Path,
    *,
    experiment: Path | None,
    command: str,
    provenance: Mapping[str, Any],
) -> None:
    """Everything that a finished sweep leaves beside its trials; result.json last.

    Args:
        result: What was found.
        design: How.
        folder: Of the sweep.
        experiment: The file that the configs came from.
        command: That was given.
        provenance: Of versions and machine.
    """
    lines = [row_json(row, rank, metric=result.metric) for rank, row in enumerate(result.rows, 1)]
    write_text(folder / TABLE, _csv(result))
    write_text(folder / LINES, "".join(to_json(line) + "\n" for line in lines))
    with matplotlib.rc_context(STYLE):
        write_text(folder / MARGINALS, _svg(marginal_figure(result)))
        if expected_curve(result):
            write_text(folder / CURVE, _svg(curve_figure(result)))
        else:
            (folder / CURVE).unlink(missing_ok=True)
    docstring = _docstring(result, design, folder=folder, sources=[command])
    write_text(folder / BEST, config_source(result.best.config, docstring, experiment=experiment))
    record = {
        "metric": result.metric,
        "best": lines[0],
        "nested": spread_json(result.nested),
        "chosen_by_fold": list(result.chosen),
        "expected_maximum": expected_curve(result),
        "trials": len(lines),
        "runs_trained": result.trained,
        "runs_found": result.found,
        "seconds": result.seconds,
        "command": command,
        "provenance": dict(provenance),
    }
    write_json(folder / RESULT, record)


# ------------------------------------------------------------------------------------------------------------- figures


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def marginal_figure(result: SweepResult) -> Figure:
    """A panel for each field: every trial's score over the field's value; other fields vary freely within it."""
    rows = [row for row in result.rows if math.isfinite(row.score.mean)]
    fields = list(result.rows[0].trial.values)
    columns = min(COLUMNS, len(fields))
    lines = -(-len(fields) // columns)
    figure = Figure(figsize=(0.6 + 2.6 * columns, 2.4 * lines))
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for panel, field in zip(panels, fields, strict=False):
        _marginal(panel, field, rows)
    for panel in panels[len(fields) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel(result.metric)
    hollow = "; hollow: shorter runs" if any(row.share < 1.0 for row in rows) else ""
    panels[0].set_title(f"star: the best{hollow}", loc="left", fontsize=7, color=SOFT)
    return figure


def _marginal(axes: Axes, field: str, rows: Sequence[TrialRow]) -> None:
    values = [row.trial.values[field] for row in rows]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    axes.set_xlabel(field.replace("_", "-"))
    if numeric:
        places = [float(value) for value in values]
        _number_axis(axes, places)
    else:
        names = list(dict.fromkeys(shown(value) for value in sorted(values, key=shown)))
        places = [float(names.index(shown(value))) for value in values]
        axes.set_xticks(range(len(names)), names, rotation=20 if max(map(len, names)) * len(names) > 24 else 0)
        axes.margins(x=0.15)
    for row, place in zip(rows, places, strict=True):
        best, whole = row is rows[0], row.share == 1.0
        colour = OTHER if best else ONE if whole else SOFT
        if math.isfinite(row.score.low):
            axes.vlines(place, row.score.low, row.score.high, color=colour, linewidth=0.6, alpha=0.5)
        axes.plot(
            [place],
            [row.score.mean],
            marker="*" if best else "o",
            markersize=9 if best else 4,
            color=colour,
            markerfacecolor=colour if whole else "none",
            linestyle="none",
            zorder=3 if best else 2,
        )


def _number_axis(axes: Axes, places: Sequence[float]) -> None:
    low, high = min(places), max(places)
    if low > 0 and high / low >= LOG_SPAN and np.median(places) - low <= LOG_MEDIAN * (high - low):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if len(set(places)) <= FEW:
        axes.set_xticks(sorted(set(places)))
        axes.margins(x=0.1)


def curve_figure(result: SweepResult) -> Figure:
    """The expected score of the best of n trials."""
    curve = expected_curve(result)
    figure = Figure(figsize=(3.6, 2.4))
    axes = figure.subplots()
    axes.plot(range(1, len(curve) + 1), curve, color=ONE, marker="o", markersize=3)
    axes.set_xlabel("trials")
    axes.set_ylabel(f"expected best {result.metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
