"""results.json, to which each run adds its cases, and RESULTS.md made from it."""

import json
from pathlib import Path
from typing import Any

from experiments.benchmarks.cases import CASES, COST, FIRST_STEP, MICRO

HEAD = """# Benchmarks

Made by `pairjax bench` (`make bench`); the cases and how they are measured: [README.md](README.md), findings:
[NOTES.md](NOTES.md). Each row is one run, ours and the peer in alternation: same weights, pairs, batch size, threads,
float32; "busy" where the machine was. The ratio is that of arithmetic for real tokens a second, ours by the peer's, the
median of the rounds (least to most). Floor: that arithmetic by the machine's matrix rate, measured before each round.
"Apart": training, the largest difference between the two sides' losses over the first 10 steps without dropout in the
same batches; prediction, that of the outputs.
"""


def _band(values: dict[str, float], digits: int = 2) -> str:
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to {values['high']:.{digits}f})"


def _apart(check: dict[str, Any]) -> str:
    if "loss_apart" in check:
        return f"{check['loss_apart']:.1e}"
    return f"{check['outputs_apart']:.1e}" if "outputs_apart" in check else ""


def line_of(name: str, found: dict[str, Any]) -> str:
    """A case's result in a line."""
    if name == FIRST_STEP:
        return "first step ends after " + ", ".join(
            f"{key}: {_band(found[key], 1)} s" for key in ("cold", "warm", "peer")
        )
    if name in (MICRO, COST):
        return f"{len(found['rows'])} rows; matrix rate {found['matrix_rate']:.0f} GFLOP/s"
    text = f"ratio {_band(found['ratio'])}"
    if "ratio_whole" in found:
        text += f", compilation and first steps included {_band(found['ratio_whole'])}"
    if "share_of_floor" in found["ours"]:
        text += (
            f"; share of the floor {found['ours']['share_of_floor']:.2f}, peer {found['peer']['share_of_floor']:.2f} "
            f"({found['matrix_rate']:.0f} GFLOP/s, spread {found['matrix_spread']:.0%})"
        )
    if "share_of_memory" in found["ours"]:
        shares = [found[side]["share_of_memory"] for side in ("ours", "peer")]
        text += f"; bytes that must move, of the rate of copying {shares[0]:.2f}, peer {shares[1]:.2f}"
    if found["check"]:
        text += f"; apart by {_apart(found['check'])}"
    return text + f"; peak {found['ours']['peak_mb']:.0f} and {found['peer']['peak_mb']:.0f} MiB"


def _comparisons(results: dict[str, Any]) -> list[str]:
    lines = [
        "| case | peer | unit | ours, unit/s | peer, unit/s | ratio | goal | floor: ours / peer | apart | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        if name not in results:
            continue
        found = results[name]
        shares = [found[side].get("share_of_floor") for side in ("ours", "peer")]
        cells = [
            f"{case.title} (`{name}`)",
            case.peer_title,
            case.unit,
            *(f"{found[side]['per_second']['median']:,.1f}" for side in ("ours", "peer")),
            _band(found["ratio"]) + (" busy" if found["matrix_spread"] > 0.15 else ""),
            "" if case.goal is None else f"{case.goal}",
            "" if shares[0] is None else " / ".join(f"{share:.2f}" for share in shares),
            _apart(found["check"]),
            f"{found['ours']['peak_mb']:.0f} / {found['peer']['peak_mb']:.0f}",
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
            f"- From a process's start to the end of its first update: {_band(found['cold'], 1)} s without a "
            f"compilation cache (goal 12), {_band(found['warm'], 1)} s with a filled one (goal 4), "
            f"the torch loop {_band(found['peer'], 1)} s."
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
            f"{', quick' if about['quick'] else ''}, {about['encoder']}; {versions}."
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
    return lines


def _cost(found: dict[str, Any]) -> list[str]:
    """One row a point: milliseconds a pair and the share of the floor."""
    names = {"length": "tokens a pair", "batch": "pairs a batch", "pairs": "pairs"}
    lines = [
        "Milliseconds a pair (share of the floor): the compiled step and the logits by length, "
        f"{found['batch']} pairs a batch, and by batch, {found['length']} tokens a pair; whole predictions by number, "
        "of sentences newly paired, of which a bi-encoder reads each once.",
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
    """Add to the folder's results.json, and write RESULTS.md anew from all that it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "results.json"
    every = json.loads(store.read_text()) if store.is_file() else {}
    every |= results
    store.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    lines = [HEAD, *_comparisons(every), "", *_more(every)]
    if MICRO in every:
        lines += ["", "## Stages, without a peer", *_micro(every[MICRO])]
    if COST in every:
        from experiments.benchmarks.plot import cost_figure

        (folder / "cost.svg").write_text(cost_figure(every[COST]), encoding="utf-8")
        lines += ["", "## What a pair costs", "", *_cost(every[COST])]
    lines += ["", "## Where and with what", "", *_provenance(every)]
    target = folder / "RESULTS.md"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
