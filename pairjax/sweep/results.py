"""Writes a sweep's files: table as CSV and JSON lines, figures as SVG, result, best config as an experiment file."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from pairjax.evaluation.intervals import Spread
from pairjax.evaluation.significance import expected_maximum
from pairjax.report.draw import SERIES, SOFT, style
from pairjax.storage.files import to_json, write_json, write_text
from pairjax.sweep.experiment_file import config_source
from pairjax.sweep.sweep import SweepDesign, SweepResult, TrialRow
from pairjax.sweep.trials import format_value

BEST, TABLE, LINES, RESULT = "best.py", "table.csv", "table.jsonl", "result.json"
MARGINALS, CURVE = "marginals.svg", "expected_maximum.svg"
LOG_SPAN, LOG_MEDIAN = 9.0, 0.25
"""Values are drawn on a logarithmic axis if the largest is at least `LOG_SPAN` times the smallest and the median is in
the lowest `LOG_MEDIAN` of the range."""
FEW = 6
"""Up to this many distinct values, each has its own tick."""
COLUMNS = 3
"""Panels side by side."""


def spread_json(spread: Spread | None) -> dict[str, float | None] | None:
    """Returns a score as result.json has it; `runs` is the number of values that the mean is taken over."""
    if spread is None:
        return None
    return {"value": spread.mean, "low": spread.low, "high": spread.high, "runs": spread.runs}


def row_json(row: TrialRow, rank: int, *, metric: str) -> dict[str, Any]:
    """Returns a line of table.jsonl."""
    return {
        "rank": rank,
        "trial": row.id,
        "values": {
            name: list(value) if isinstance(value, tuple) else value for name, value in row.trial.values.items()
        },
        "metric": metric,
        "score": spread_json(row.score),
        "share": row.share,
        "steps": row.steps,
        "runs": row.runs,
        "diverged": row.diverged,
    }


def expected_curve(result: SweepResult) -> list[float]:
    """Returns the expected score of the best of n trials, n = 1, 2, ..., from the trials that have a score.

    It is empty after halving, whose full-length trials are not a random sample of the space.
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
        values = [
            " ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in row.trial.values.values()
        ]
        writer.writerow([rank, row.id, *values, *cells, f"{row.share:.6g}", row.steps, row.runs, row.diverged])
    return text.getvalue()


def explain_scores(result: SweepResult, design: SweepDesign) -> list[str]:
    """Returns lines that say what the scores mean."""
    best = result.rows[0]
    seeds = f"{len(design.seeds)} seeds" if len(design.seeds) > 1 else "one seed"
    source = f"mean of {design.folds} folds of train, {seeds}" if design.folds else f"dev, {seeds}"
    lines = [
        f"best {result.metric} {format_spread(best.score)} ({source}); "
        "these scores chose it, so they are too optimistic"
    ]
    if result.nested is not None:
        lines.append(
            f"the config that this search chooses scores {result.metric} {format_spread(result.nested)} on folds that "
            f"had no part in the choice (nested, {design.folds} folds)"
        )
        if math.isnan(result.nested.mean):
            lines.append("for some fold the chosen trial diverged, or no trial could be chosen: there is no such score")
    else:
        lines.append("the chosen config has no unbiased score yet: train it and score it on the test split")
    return lines


def format_spread(spread: Spread) -> str:
    """Formats a score as `0.812 [0.790, 0.834]`, or as - if it is undefined."""
    if math.isnan(spread.mean):
        return "-"
    if math.isnan(spread.low):
        return f"{spread.mean:.3f}"
    return f"{spread.mean:.3f} [{spread.low:.3f}, {spread.high:.3f}]"


def _docstring(result: SweepResult, design: SweepDesign, *, folder: Path, sources: Sequence[str]) -> str:
    values = ", ".join(f"{name.replace('_', '-')} {format_value(value)}" for name, value in result.best.values.items())
    lines = [
        f"The best of {len(result.rows)} trials of a sweep: {values}.",
        "",
        f"Command: pairjax train {folder / BEST}",
        *(f"Searched: {line}" for line in sources),
    ]
    lines += [f"{line[0].upper()}{line[1:]}." for line in explain_scores(result, design)]
    return "\n".join([*lines, "It keeps its last parameters, as the trials did: no fold chose a step."])


def write_sweep(
    result: SweepResult,
    design: SweepDesign,
    folder: Path,
    *,
    experiment: Path | None,
    command: str,
    provenance: Mapping[str, Any],
) -> None:
    """Writes everything that a finished sweep leaves beside its trials; result.json comes last.

    Args:
        result: The result.
        design: How trials were compared.
        folder: The sweep's folder.
        experiment: The file that the configs came from.
        command: The command line.
        provenance: Versions and machine.
    """
    lines = [row_json(row, rank, metric=result.metric) for rank, row in enumerate(result.rows, 1)]
    write_text(folder / TABLE, _csv(result))
    write_text(folder / LINES, "".join(to_json(line) + "\n" for line in lines))
    with style():
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


def _svg(figure: Figure) -> str:
    """Returns a figure as the text of an SVG file."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def marginal_figure(result: SweepResult) -> Figure:
    """Draws a panel for each field: every trial's score against the field's value, whatever its other fields are."""
    rows = [row for row in result.rows if math.isfinite(row.score.mean)]
    fields = list(result.rows[0].trial.values)
    columns = min(COLUMNS, len(fields))
    rows_of_panels = -(-len(fields) // columns)
    figure = Figure(figsize=(0.6 + 2.6 * columns, 2.4 * rows_of_panels))
    panels = figure.subplots(rows_of_panels, columns, squeeze=False, sharey=True).ravel()
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
    _add_grid(axes)
    if numeric:
        places = [float(value) for value in values]
        _number_axis(axes, places)
    else:
        names = list(dict.fromkeys(format_value(value) for value in sorted(values, key=format_value)))
        places = [float(names.index(format_value(value))) for value in values]
        axes.set_xticks(range(len(names)), names, rotation=20 if max(map(len, names)) * len(names) > 24 else 0)
        axes.margins(x=0.15)
    for row, place in zip(rows, places, strict=True):
        best, full = row is rows[0], row.share == 1.0
        colour = SERIES[1] if best else SERIES[0] if full else SOFT
        if math.isfinite(row.score.low):
            axes.vlines(place, row.score.low, row.score.high, color=colour, linewidth=0.6, alpha=0.5)
        axes.plot(
            [place],
            [row.score.mean],
            marker="*" if best else "o",
            markersize=9 if best else 4,
            color=colour,
            markerfacecolor=colour if full else "none",
            linestyle="none",
            zorder=3 if best else 2,
        )


def _add_grid(axes: Axes) -> None:
    axes.grid(True)
    axes.set_axisbelow(True)


def _number_axis(axes: Axes, places: Sequence[float]) -> None:
    """Scales and labels the axis of a numeric field."""
    low, high = min(places), max(places)
    if low > 0 and high / low >= LOG_SPAN and np.median(places) - low <= LOG_MEDIAN * (high - low):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if len(set(places)) <= FEW:
        axes.set_xticks(sorted(set(places)))
        axes.margins(x=0.1)


def curve_figure(result: SweepResult) -> Figure:
    """Draws the expected score of the best of n trials."""
    curve = expected_curve(result)
    figure = Figure(figsize=(3.6, 2.4))
    axes = figure.subplots()
    axes.plot(range(1, len(curve) + 1), curve, color=SERIES[0], marker="o", markersize=3)
    _add_grid(axes)
    axes.set_xlabel("trials")
    axes.set_ylabel(f"expected best {result.metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
