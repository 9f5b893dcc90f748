"""results.json, to which each run adds its cases, and RESULTS.md made from it."""

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
    HEADS,
    LAYOUTS,
    MICRO,
    PROFILE,
    TOLERANCE,
    shown,
    title_of,
)
from experiments.benchmarks.results.summary import SIDES, summary

HOME = Path(__file__).resolve().parents[1]
HEAD = """# Benchmarks

Made by `pairjax bench` (`make bench`); the cases and how they are measured: [README.md]({home}README.md), findings:
[NOTES.md]({home}NOTES.md). Each row is one run, ours and the peer in alternation: same weights, pairs, batch size,
threads, float32; "busy" where the machine was, "differs" where the two sides do not compute the same. The ratio is that
of arithmetic for real tokens a second, ours by the peer's, the median of the rounds (least to most). Floor: that
arithmetic, nothing computed twice, by the machine's matrix rate, that of the faster library. Own: the same by the rate
of the side's own library, which a slower library makes easier; both rates are measured before each round. "Apart":
training, the largest difference between the two sides' losses over the first 10 steps without dropout in the same
batches; prediction, that of the outputs. Peak: the most resident memory during rounds. Huge pages are ours alone:
`pairjax` asks for them at its start, the peers run as they come. The last columns: the faster library's matrix rate,
and the arithmetic of the middle round.
"""


def _band(values: dict[str, float], digits: int = 2) -> str:
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to {values['high']:.{digits}f})"


def apart(check: dict[str, Any]) -> float | None:
    """How far apart losses or outputs were; None where nothing was compared."""
    return check.get("loss_apart", check.get("outputs_apart"))


def _apart(check: dict[str, Any]) -> str:
    return "" if apart(check) is None else f"{apart(check):.1e}"


def is_busy(found: dict[str, Any]) -> bool:
    """Whether the matrix rate varied so much that the figures are no good."""
    return found.get("matrix_spread", 0.0) > BUSY


def differs(name: str, found: dict[str, Any]) -> bool:
    """Whether the two sides are further apart than rounding explains, or by no number at all."""
    by = apart(found.get("check", {}))
    return by is not None and not by <= TOLERANCE[CASES[name].compares]


def _busy(found: dict[str, Any]) -> str:
    return " (busy)" if is_busy(found) else ""


def line_of(name: str, found: dict[str, Any]) -> str:
    """A case's result in a line."""
    if name == FIRST_STEP:
        return "first step ends after " + ", ".join(
            f"{key}: {_band(found[key], 1)} s" for key in ("cold", "warm", "peer")
        )
    if name in ALONE:
        return f"{len(found['rows'])} rows; matrix rate {found['matrix_rate']:.0f} GFLOP/s"
    text = f"ratio {_band(found['ratio'])}"
    if "ratio_whole" in found:
        text += f", compilation and first steps included {_band(found['ratio_whole'])}"
    if "share_of_floor" in found["ours"]:
        text += (
            f"; share of the floor {found['ours']['share_of_floor']:.2f}, peer {found['peer']['share_of_floor']:.2f} "
            f"({found['matrix_rate']:.0f} GFLOP/s, spread {found['matrix_spread']:.0%}), "
            f"of its own library's rate {_shares(found, 'share_of_own')}"
        )
    if "share_of_memory" in found["ours"]:
        shares = [found[side]["share_of_memory"] for side in ("ours", "peer")]
        text += f"; bytes that must move, of the rate of copying {shares[0]:.2f}, peer {shares[1]:.2f}"
    if found["check"]:
        text += f"; apart by {_apart(found['check'])}"
    return text + f"; peak {found['ours']['peak_mb']:.0f} and {found['peer']['peak_mb']:.0f} MiB"


def _shares(found: dict[str, Any], name: str) -> str:
    return " / ".join(f"{found[side][name]:.2f}" for side in SIDES if name in found[side])


def _libraries(results: dict[str, Any]) -> list[str]:
    """How much of the ratios is the matrix library's, and where the peer uses its own better."""
    # Populations move more than they compute, some on one thread.
    rows = {name: results[name] for name, case in CASES.items() if name in results and case.part != HEADS}
    cases = {name: found for name, found in rows.items() if "share_of_own" in found["ours"]}
    if not cases:
        return []
    ours, peer = ([found[side]["matrix_rate"] for found in cases.values()] for side in SIDES)
    parts = sorted(a / b for a, b in zip(ours, peer, strict=True))
    shares = {name: [round(found[side]["share_of_own"], 2) for side in SIDES] for name, found in cases.items()}
    better = [f"`{name}` ({theirs:.2f}, ours {mine:.2f})" for name, (mine, theirs) in shares.items() if theirs > mine]
    return [
        "",
        f"A part of each ratio is the matrix library's and not pairjax's: XLA's products ran at {min(ours):.0f} to "
        f"{max(ours):.0f} GFLOP/s, the peers' at {min(peer):.0f} to {max(peer):.0f} (medians of a case's rounds), so "
        f"{median(parts):.1f} times as fast in the middle case; another processor may favour another library. The peer "
        f"uses its own library's rate better in {', '.join(better) or 'no case'}.",
    ]


def _comparisons(results: dict[str, Any]) -> list[str]:
    lines = [
        "| case | peer | unit | ours, unit/s | peer, unit/s | ratio | goal | floor: ours / peer | own: ours / peer "
        "| apart | peak MiB | GFLOP/s | GFLOP |",
        "|---" * 13 + "|",
    ]
    for name, case in CASES.items():
        if name not in results:
            continue
        found = results[name]
        cells = [
            f"{title_of(name, found['about']['data'])} (`{name}`)",
            case.peer_title,
            case.unit,
            *(f"{found[side]['per_second']['median']:,.1f}" for side in ("ours", "peer")),
            _band(found["ratio"]) + " busy" * is_busy(found) + " differs" * differs(name, found),
            "" if case.goal is None else f"{case.goal}",
            *(_shares(found, share) for share in ("share_of_floor", "share_of_own")),
            _apart(found["check"]),
            f"{found['ours']['peak_mb']:.0f} / {found['peer']['peak_mb']:.0f}",
            f"{found['matrix_rate']:.0f}",
            f"{flops / 1e9:,.0f}" if (flops := median(one["ours"]["flops"] for one in found["rounds"])) else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _more(results: dict[str, Any]) -> list[str]:
    lines = []
    for name in CASES:
        found = results.get(name, {})
        if "ratio_whole" in found:
            lines.append(
                f"- `{name}`, compilation (from the cache) and first steps included: {_band(found['ratio_whole'])}."
            )
        if name in results and found["ours"].get("loss") is not None:
            ours, peer = found["ours"]["loss"], found["peer"]["loss"]
            lines.append(f"- `{name}`, mean loss of a round's last 10 steps, dropout on: {ours:.3f}, peer {peer:.3f}.")
        if "tokenised_per_second" in found.get("ours", {}):
            speeds = [found[side]["tokenised_per_second"] for side in ("ours", "peer")]
            lines.append(f"- `{name}`, tokenising alone: {speeds[0]:,.0f} pairs/s, peer {speeds[1]:,.0f}.")
        if "share_of_memory" in found.get("ours", {}):
            shares = [found[side]["share_of_memory"] for side in ("ours", "peer")]
            lines.append(
                f"- `{name}`, bytes that must move (parameters, moments, gradients, vectors) by time, of the rate at "
                f"which memory is copied: {shares[0]:.2f}, peer {shares[1]:.2f}; caches may carry it past 1."
            )
        loads = [found.get("opened", {}).get(side, {}).get("seconds_to_load") for side in ("ours", "peer")]
        if None not in loads:
            lines.append(
                f"- `{name}`, loading data and model, libraries imported: {loads[0]:.2f} s, peer {loads[1]:.2f} s."
            )
    if FIRST_STEP in results:
        found = results[FIRST_STEP]
        lines.append(
            f"- From a process's start to the end of its first update{_busy(found)}: {_band(found['cold'], 1)} s "
            f"without a compilation cache (goal 12), {_band(found['warm'], 1)} s with a filled one (goal 4), "
            f"the torch loop {_band(found['peer'], 1)} s"
            + ("." if "matrix_spread" in found else "; whether the machine was busy was not measured.")
        )
    return lines


def _provenance(results: dict[str, Any]) -> list[str]:
    lines = []
    groups: dict[str, list[str]] = {}
    for name, found in results.items():
        groups.setdefault(json.dumps(found["about"], sort_keys=True), []).append(name)
    for text, names in groups.items():
        about = json.loads(text)
        git = about["git"] or {"commit": "unknown", "dirty": False}
        versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
        lines.append(
            f"- {', '.join(f'`{name}`' for name in names)}: {about['date']}, commit {git['commit'][:12]}"
            f"{' with changes' if git['dirty'] else ''}, {about['machine']['processor']}, "
            f"{about['machine']['threads']} threads, {about['rounds']} rounds"
            f"{', quick' if about['quick'] else ''}, {about['encoder']}"
            f"{''.join(f', {shown(source)}' for source in about['data'].values())}; {versions}."
        )
    return lines


def _micro(found: dict[str, Any]) -> list[str]:
    """A table a group: rows by batch and length, columns by stage."""
    lines: list[str] = []
    for group in dict.fromkeys(row["group"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["group"] == group]
        stages = list(dict.fromkeys(row["stage"] for row in rows))
        lines += ["", f"{group}, milliseconds (share of the floor where it is arithmetic):", ""]
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
        lines.append("| compiled and run once | " + " | ".join(cells) + " |")
    return lines


def _layouts(found: dict[str, Any]) -> list[str]:
    """One row a set, kind of model and layout."""
    lines = [
        "The compiled step, 32 pairs a batch, batches taken evenly from the first epoch by length; pairs a second at "
        "the mean pair's arithmetic, layouts in turns.",
        "",
        "| set | model | layout | row lengths | padding | pairs/s | floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        lengths = ", ".join(map(str, row["lengths"]))
        lines.append(
            f"| {shown(row['set'])} | {row['kind']} | {row['layout']} | {lengths} | {row['padding']:.2f} "
            f"| {_band(row['per_second'], 1)} | {row['share_of_floor']:.2f} |"
        )
    return lines


def _profile(found: dict[str, Any]) -> list[str]:
    """A column a program: milliseconds of operations a step, by what they are for."""
    programs = found["programs"]
    rows: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in found["rows"]:
        rows.setdefault((row["group"], row["direction"]), {})[row["program"]] = row
    lines = [
        "Milliseconds a step, by JAX's profiler, summed over threads (share of the floor where they are products, "
        "padding counted as arithmetic). Wall time: the same steps outside the profile.",
        "",
        "| operations | | " + " | ".join(programs) + " |",
        "|---" * (len(programs) + 2) + "|",
    ]
    for group, direction in sorted(rows, key=lambda place: -sum(row["ms"] for row in rows[place].values())):
        cells = []
        for program in programs:
            row = rows[group, direction].get(program, {})
            cell = f"{row['ms']:.1f}" if row else ""
            cells.append(cell + (f" ({row['share_of_floor']:.2f})" if "share_of_floor" in row else ""))
        lines.append(f"| {group} | {direction} | " + " | ".join(cells) + " |")
    for title, key in (("all of them", "op_ms"), ("wall time", "wall_ms")):
        lines.append(f"| {title} | | " + " | ".join(f"{one[key]:.1f}" for one in programs.values()) + " |")
    return lines


def _cost(found: dict[str, Any]) -> list[str]:
    """One row a point: milliseconds a pair and the share of the floor."""
    names = {"length": "tokens a pair", "batch": "pairs a batch", "pairs": "pairs"}
    lines = [
        "Milliseconds a pair (share of the floor): the compiled step and the logits by length, "
        f"{found['batch']} pairs a batch, and by batch, {found['length']} tokens a pair; whole predictions by number, "
        "of sentences newly paired, of which a bi-encoder reads each once. A cross-encoder's million would take "
        "half an hour and more, and is left out.",
        "",
        "![Milliseconds a pair by length, batch and number of pairs, and the floor](cost.svg)",
    ]
    for curve, name in names.items():
        rows = [row for row in found["rows"] if row["curve"] == curve]
        kinds, places = list(dict.fromkeys(row["kind"] for row in rows)), sorted({row["at"] for row in rows})
        lines += ["", f"| {name} | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
        for place in places:
            cells = []
            for kind in kinds:
                match = [row for row in rows if (row["kind"], row["at"]) == (kind, place)]
                cells += [f"{r['milliseconds']:.3f} ({r['floor_milliseconds'] / r['milliseconds']:.2f})" for r in match]
                cells += [] if match else [""]
            lines.append(f"| {place:,} | " + " | ".join(cells) + " |")
    return lines


def write_results(folder: Path, results: dict[str, Any]) -> Path:
    """Add to the folder's results.json, and write RESULTS.md anew from the rounds and rows that it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "results.json"
    every = json.loads(store.read_text()) if store.is_file() else {}
    every |= results
    for found in every.values():
        if "rounds" in found:
            found |= summary(found["rounds"])
    store.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    home = os.path.relpath(HOME, folder)
    head = HEAD.format(home="" if home == "." else f"{Path(home).as_posix()}/")
    lines = [head, *_comparisons(every), *_libraries(every), "", *_more(every)]
    if MICRO in every:
        lines += ["", f"## Stages, without a peer{_busy(every[MICRO])}", *_micro(every[MICRO])]
    if PROFILE in every:
        lines += ["", f"## Operations of a step{_busy(every[PROFILE])}", "", *_profile(every[PROFILE])]
    if LAYOUTS in every:
        lines += ["", f"## Layouts{_busy(every[LAYOUTS])}", "", *_layouts(every[LAYOUTS])]
    if COST in every:
        from experiments.benchmarks.results.cost_figure import cost_figure

        (folder / "cost.svg").write_text(cost_figure(every[COST]), encoding="utf-8")
        lines += ["", f"## What a pair costs{_busy(every[COST])}", "", *_cost(every[COST])]
    lines += ["", "## Where and with what", "", *_provenance(every)]
    target = folder / "RESULTS.md"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
