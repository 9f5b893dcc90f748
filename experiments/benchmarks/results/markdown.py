"""Writes results.json, to which each run adds its cases, and RESULTS.md, which is generated from it."""

import json
import os
from pathlib import Path
from statistics import median
from typing import Any

from experiments.benchmarks.cases import (
    ALONE,
    BUSY,
    CASES,
    COST,
    FIRST_STEP,
    LAYOUTS,
    MICRO,
    PROFILE,
    TOLERANCE,
    case_title,
    source_title,
)
from experiments.benchmarks.results.summary import PAIRJAX, SIDES, summarise_rounds
from experiments.benchmarks.shared.constants import HEADS

HOME = Path(__file__).resolve().parents[1]
HEAD = """# Benchmarks

`pairjax bench` (`make bench`) generates this page. [README.md]({home}README.md) describes the cases and the method,
[NOTES.md]({home}NOTES.md) the findings from profiles.

## pairjax and the torch tools

Each row is one run, in which pairjax and a torch tool took turns. Both sides used the same weights, pairs, batch size,
number of threads, and float32.

- **Ratio**: arithmetic for real tokens a second, pairjax divided by the torch tool; the median of the rounds (minimum
  to maximum). "busy": the matrix rate varied by more than {busy:.0f} % over the rounds. "differs": the two sides did
  not compute the same.
- **Utilisation**: that arithmetic, with nothing counted twice, divided by the machine's matrix rate, which is the rate
  of the faster library. **Of own library**: the same divided by the matrix rate of the side's own library; a high value
  is easier to reach with a slower library. Both rates are measured before each round.
- **Difference**: in training, the largest difference between the losses of the two sides over the first 10 steps,
  without dropout and on the same batches; in prediction, the largest difference between the outputs.
- **Peak MiB**: the peak resident memory during the rounds. Only `pairjax` uses huge pages, which it requests at its
  start; the torch tools run with their defaults.
- **GFLOP/s**: the matrix rate of the faster library. **GFLOP**: the arithmetic of the median round.
"""
STAGE_TITLES = {
    "layer, forward": "Parts of a layer, forward",
    "layer, with backward": "Parts of a layer, forward and backward",
    "above the encoder, forward": "Above the encoder, forward",
    "above the encoder, with backward": "Above the encoder, forward and backward",
    "whole": "Whole model, optimiser and step",
}
"""Titles of the groups of stages in results.json."""


def _range(values: dict[str, float], digits: int = 2) -> str:
    """Formats a median with its range."""
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to {values['high']:.{digits}f})"


def difference(check: dict[str, Any]) -> float | None:
    """Returns the difference between the losses or outputs of the sides; None if nothing was compared."""
    return check.get("loss_apart", check.get("outputs_apart"))


def _difference(check: dict[str, Any]) -> str:
    """Formats the difference; empty if nothing was compared."""
    return "" if difference(check) is None else f"{difference(check):.1e}"


def is_busy(result: dict[str, Any]) -> bool:
    """Returns whether the matrix rate varied so much that the utilisation is unreliable."""
    return result.get("matrix_spread", 0.0) > BUSY


def is_different(name: str, result: dict[str, Any]) -> bool:
    """Returns whether the sides differ by more than rounding explains, or by NaN."""
    value = difference(result.get("check", {}))
    return value is not None and not value <= TOLERANCE[CASES[name].compares]


def _busy(result: dict[str, Any]) -> str:
    return " (busy)" if is_busy(result) else ""


def summary_line(name: str, result: dict[str, Any]) -> str:
    """Returns a case's result in one line, for the terminal."""
    if name == FIRST_STEP:
        titles = {"cold": "no cache", "warm": "filled cache", "peer": "torch"}
        times = [f"{title}: {_range(result[key], 1)} s" for key, title in titles.items()]
        return "first step ends after " + ", ".join(times)
    if name in ALONE:
        return f"{len(result['rows'])} rows; matrix rate {result['matrix_rate']:.0f} GFLOP/s"
    text = f"ratio {_range(result['ratio'])}"
    if "ratio_whole" in result:
        text += f", with compilation and first steps {_range(result['ratio_whole'])}"
    if "share_of_floor" in result[PAIRJAX]:
        text += (
            f"; utilisation {_shares(result, 'share_of_floor')} "
            f"({result['matrix_rate']:.0f} GFLOP/s, spread {result['matrix_spread']:.0%}), "
            f"of own library {_shares(result, 'share_of_own')}"
        )
    if "share_of_memory" in result[PAIRJAX]:
        text += f"; memory traffic divided by the copy rate {_shares(result, 'share_of_memory')}"
    if result["check"]:
        text += f"; difference {_difference(result['check'])}"
    return text + f"; peak {_peaks(result)} MiB (pairjax / torch)"


def _shares(result: dict[str, Any], name: str) -> str:
    """Formats a share of both sides, if it was measured."""
    return " / ".join(f"{result[side][name]:.2f}" for side in SIDES if name in result[side])


def _peaks(result: dict[str, Any]) -> str:
    """Formats the peak memory of both sides."""
    return " / ".join(f"{result[side]['peak_mb']:.0f}" for side in SIDES)


def _libraries(results: dict[str, Any]) -> list[str]:
    """Says how much of the ratios comes from the matrix library, and which torch tools use their own library better."""
    # Populations are left out: they move more than they compute, some of them on one thread.
    rows = {name: results[name] for name, case in CASES.items() if name in results and case.part != HEADS}
    cases = {name: result for name, result in rows.items() if "share_of_own" in result[PAIRJAX]}
    if not cases:
        return []
    xla, torch = ([result[side]["matrix_rate"] for result in cases.values()] for side in SIDES)
    ratios = sorted(a / b for a, b in zip(xla, torch, strict=True))
    shares = {name: [round(result[side]["share_of_own"], 2) for side in SIDES] for name, result in cases.items()}
    better = [f"`{name}` ({right:.2f}, pairjax {left:.2f})" for name, (left, right) in shares.items() if right > left]
    return [
        "",
        f"Part of each ratio comes from the matrix library, not from pairjax. XLA's products ran at {min(xla):.0f} to "
        f"{max(xla):.0f} GFLOP/s, torch's at {min(torch):.0f} to {max(torch):.0f} (medians of a case's rounds): "
        f"{median(ratios):.1f} times as fast in the median case. Another processor may favour another library. The "
        f"torch tool has the higher utilisation of its own library in {', '.join(better) or 'no case'}.",
    ]


def _comparisons(results: dict[str, Any]) -> list[str]:
    """Returns the table of comparisons."""
    lines = [
        "| case | torch tool | unit | pairjax, unit/s | torch, unit/s | ratio | goal | utilisation: pairjax / torch "
        "| of own library: pairjax / torch | difference | peak MiB | GFLOP/s | GFLOP |",
        "|---" * 13 + "|",
    ]
    for name, case in CASES.items():
        if name not in results:
            continue
        result = results[name]
        flops = median(answers[PAIRJAX]["flops"] for answers in result["rounds"])
        cells = [
            f"{case_title(name, result['about']['data'])} (`{name}`)",
            case.torch_title,
            case.unit,
            *(f"{result[side]['per_second']['median']:,.1f}" for side in SIDES),
            _range(result["ratio"]) + " busy" * is_busy(result) + " differs" * is_different(name, result),
            "" if case.goal is None else f"{case.goal}",
            *(_shares(result, share) for share in ("share_of_floor", "share_of_own")),
            _difference(result["check"]),
            _peaks(result),
            f"{result['matrix_rate']:.0f}",
            f"{flops / 1e9:,.0f}" if flops else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _details(name: str, result: dict[str, Any]) -> list[str]:
    """Returns the other figures of a comparison, one in each line."""
    left, right = (result[side] for side in SIDES)
    lines = []
    if "ratio_whole" in result:
        lines.append(f"ratio with compilation (from the cache) and first steps: {_range(result['ratio_whole'])}.")
    if left.get("loss") is not None:
        lines.append(
            f"mean loss of the last 10 steps of a round, with dropout: {left['loss']:.3f}, torch {right['loss']:.3f}."
        )
    if "tokenised_per_second" in left:
        speeds = [side["tokenised_per_second"] for side in (left, right)]
        lines.append(f"tokenising alone: {speeds[0]:,.0f} pairs/s, torch {speeds[1]:,.0f}.")
    if "share_of_memory" in left:
        lines.append(
            "memory traffic (parameters, moments, gradients, vectors) divided by the rate of copying memory: "
            f"{left['share_of_memory']:.2f}, torch {right['share_of_memory']:.2f}; caches can raise it above 1."
        )
    loads = [result["opened"].get(side, {}).get("seconds_to_load") for side in SIDES]
    if None not in loads:
        lines.append(f"loading data and model, libraries already imported: {loads[0]:.2f} s, torch {loads[1]:.2f} s.")
    return [f"- `{name}`, {line}" for line in lines]


def _first_step(result: dict[str, Any]) -> str:
    """Returns the line of the case `first_step`."""
    return (
        f"- From the start of a process to the end of its first update{_busy(result)}: {_range(result['cold'], 1)} s "
        f"without a compilation cache (goal 12), {_range(result['warm'], 1)} s with a filled cache (goal 4), "
        f"torch loop {_range(result['peer'], 1)} s"
        + ("." if "matrix_spread" in result else "; it was not measured whether the machine was busy.")
    )


def _provenance(results: dict[str, Any]) -> list[str]:
    """Returns one line for each run: its cases, date, commit, machine, data and versions."""
    lines = []
    groups: dict[str, list[str]] = {}
    for name, result in results.items():
        groups.setdefault(json.dumps(result["about"], sort_keys=True), []).append(name)
    for text, names in groups.items():
        about = json.loads(text)
        git = about["git"] or {"commit": "unknown", "dirty": False}
        versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
        lines.append(
            f"- {', '.join(f'`{name}`' for name in names)}: {about['date']}, commit {git['commit'][:12]}"
            f"{' with uncommitted changes' if git['dirty'] else ''}, {about['machine']['processor']}, "
            f"{about['machine']['threads']} threads, {about['rounds']} rounds"
            f"{', quick' if about['quick'] else ''}, {about['encoder']}"
            f"{''.join(f', {source_title(source)}' for source in about['data'].values())}; {versions}."
        )
    return lines


def _stages(result: dict[str, Any]) -> list[str]:
    """Returns a table for each group of stages: rows by batch and length, columns by stage."""
    lines = ["Milliseconds of a run; in parentheses, the utilisation of stages that are mostly matrix products."]
    for group in dict.fromkeys(row["group"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["group"] == group]
        stages = list(dict.fromkeys(row["stage"] for row in rows))
        lines += ["", f"### {STAGE_TITLES.get(group, group)}", ""]
        lines += ["| batch x length | " + " | ".join(stages) + " |", "|---" * (len(stages) + 1) + "|"]
        for shape in dict.fromkeys((row["batch"], row["length"]) for row in rows):
            cells = []
            for stage in stages:
                match = [r for r in rows if (r["batch"], r["length"], r["stage"]) == (*shape, stage)]
                cell = f"{match[0]['milliseconds']:.2f}" if match else ""
                if match and match[0].get("share_of_floor"):
                    cell += f" ({match[0]['share_of_floor']:.2f})"
                cells.append(cell)
            lines.append(f"| {shape[0]} x {shape[1]} | " + " | ".join(cells) + " |")
        compiled = [[r["compile_seconds"] for r in rows if r["stage"] == stage] for stage in stages]
        cells = [f"{min(times):.2f} to {max(times):.2f} s" for times in compiled]
        lines.append("| compilation and first run | " + " | ".join(cells) + " |")
    return lines


def _layouts(result: dict[str, Any]) -> list[str]:
    """Returns one row for each set, kind of model and layout."""
    lines = [
        "Pairs a second of the compiled training step at the mean pair's arithmetic, 32 pairs a batch. The layouts "
        "take turns. The batches are spread evenly over the first epoch, sorted by length.",
        "",
        "| set | model | layout | row lengths | padding | pairs/s | utilisation |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lengths = ", ".join(map(str, row["lengths"]))
        lines.append(
            f"| {source_title(row['set'])} | {row['kind']} | {row['layout']} | {lengths} | {row['padding']:.2f} "
            f"| {_range(row['per_second'], 1)} | {row['share_of_floor']:.2f} |"
        )
    return lines


def _operations(result: dict[str, Any]) -> list[str]:
    """Returns a table of milliseconds a step: rows by the purpose of the operations, columns by program."""
    programs = result["programs"]
    rows: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in result["rows"]:
        rows.setdefault((row["group"], row["direction"]), {})[row["program"]] = row
    lines = [
        "Milliseconds a step by JAX's profiler, summed over threads; in parentheses, the utilisation of matrix "
        "products with padding counted as arithmetic. Wall time is measured on the same steps without the profiler.",
        "",
        "| operations | | " + " | ".join(programs) + " |",
        "|---" * (len(programs) + 2) + "|",
    ]
    for group, direction in sorted(rows, key=lambda key: -sum(row["ms"] for row in rows[key].values())):
        cells = []
        for program in programs:
            row = rows[group, direction].get(program, {})
            cell = f"{row['ms']:.1f}" if row else ""
            cells.append(cell + (f" ({row['share_of_floor']:.2f})" if "share_of_floor" in row else ""))
        lines.append(f"| {group} | {direction} | " + " | ".join(cells) + " |")
    for title, key in (("all operations", "op_ms"), ("wall time", "wall_ms")):
        lines.append(f"| {title} | | " + " | ".join(f"{totals[key]:.1f}" for totals in programs.values()) + " |")
    return lines


def _cost(result: dict[str, Any]) -> list[str]:
    """Returns a table for each curve: milliseconds a pair and the utilisation at each point."""
    titles = {"length": "tokens a pair", "batch": "pairs a batch", "pairs": "pairs"}
    lines = [
        "Milliseconds a pair; in parentheses, the utilisation. The first two tables show the compiled training step "
        f"and the logits, by length ({result['batch']} pairs a batch) and by batch size ({result['length']} tokens a "
        "pair). The third shows predictions from text to outputs, by number of pairs. These are drawn at random from a "
        "set's sentences; a bi-encoder reads each sentence once. The cross-encoder would need more than half an hour "
        "for a million pairs, so that figure is left out.",
        "",
        "![Milliseconds a pair by length, batch size and number of pairs, with lower bounds](cost.svg)",
    ]
    for curve, title in titles.items():
        rows = [row for row in result["rows"] if row["curve"] == curve]
        kinds, places = list(dict.fromkeys(row["kind"] for row in rows)), sorted({row["at"] for row in rows})
        lines += ["", f"| {title} | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
        for place in places:
            cells = []
            for kind in kinds:
                match = [row for row in rows if (row["kind"], row["at"]) == (kind, place)]
                cells += [f"{r['milliseconds']:.3f} ({r['floor_milliseconds'] / r['milliseconds']:.2f})" for r in match]
                cells += [] if match else [""]
            lines.append(f"| {place:,} | " + " | ".join(cells) + " |")
    return lines


SECTIONS = (
    (MICRO, "Stages of the model", _stages),
    (PROFILE, "Operations of a step", _operations),
    (LAYOUTS, "Layouts", _layouts),
    (COST, "Cost of a pair", _cost),
)
"""The sections on cases that measure pairjax alone: case, title and writer."""


def write_results(folder: Path, results: dict[str, Any]) -> Path:
    """Adds results to the folder's results.json, and generates RESULTS.md from all of them.

    Args:
        folder: The folder of both files; it is created if it is missing.
        results: The new results by case.

    Returns:
        The path of RESULTS.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "results.json"
    stored = json.loads(store.read_text()) if store.is_file() else {}
    stored |= results
    for result in stored.values():
        if "rounds" in result:
            result |= summarise_rounds(result["rounds"])
    store.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    home = os.path.relpath(HOME, folder)
    lines = [HEAD.format(home="" if home == "." else f"{Path(home).as_posix()}/", busy=100 * BUSY)]
    lines += [*_comparisons(stored), *_libraries(stored), ""]
    lines += [line for name in CASES if name in stored for line in _details(name, stored[name])]
    lines += [_first_step(stored[FIRST_STEP])] if FIRST_STEP in stored else []
    for name, title, section in SECTIONS:
        if name in stored:
            lines += ["", f"## {title}{_busy(stored[name])}", "", *section(stored[name])]
    if COST in stored:
        from experiments.benchmarks.results.cost_figure import cost_figure

        (folder / "cost.svg").write_text(cost_figure(stored[COST]), encoding="utf-8")
    lines += ["", "## Provenance", "", *_provenance(stored)]
    target = folder / "RESULTS.md"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
