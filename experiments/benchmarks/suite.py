"""`pairjax bench`: ours and the torch tools in alternation, in one go.

Each side of a case is a process that stays open over the rounds; one computes while the other waits. Rounds alternate
who goes first. The ratio of a round is that of arithmetic done for real tokens a second (`shared/flops.py`), so that
neither the draw of the batches nor padding counts.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.cases import (
    ALONE,
    CASES,
    FIRST_STEP,
    HEAD_STEPS,
    HEADS,
    MICRO,
    NAMES,
    PRETRAINING,
    PROFILE,
    TOLERANCE,
    Case,
    shown,
    title_of,
)
from experiments.benchmarks.results.markdown import apart, differs, is_busy, line_of, write_results
from experiments.benchmarks.results.summary import matrix_rates, spread, summary
from experiments.benchmarks.shared.protocol import ROOT, Client, WorkerError
from pairjax.base.errors import UserError
from pairjax.cli.memory import HUGE, TUNABLES
from pairjax.weights import resolve_encoder

PEERS = ("torch", "transformers", "sentence_transformers", "accelerate", "datasets")


@dataclass(frozen=True)
class Settings:
    """What the command line chooses.

    Attributes:
        cases: Names, of `NAMES`.
        rounds: Of each case.
        quick: Less of everything, and nothing written unless `output` is given.
        peer_python: Interpreter with the extra `bench`.
        data: Folder with the real sets.
        output: Where results.json and RESULTS.md go.
        encoder: Of both sides.
    """

    cases: tuple[str, ...]
    rounds: int
    quick: bool
    peer_python: str
    data: str | None
    output: Path | None
    encoder: str


def check_peers(python: str) -> dict[str, str]:
    """Versions of the peers' packages.

    Raises:
        UserError: The interpreter is none, or lacks some.
    """
    code = (
        "import importlib.util as u, importlib.metadata as m, json\n"
        f"names = {PEERS!r}\n"
        "print(json.dumps({n: m.version(n.replace('_', '-')) if u.find_spec(n) else None for n in names}))"
    )
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"--peer-python {python}: does not run", got=error, expected="a Python interpreter") from None
    found = json.loads(done.stdout)
    missing = [name for name, version in found.items() if version is None]
    if missing:
        raise UserError(
            "the tools to compare with are not installed",
            got=f"no {', '.join(missing)} in {python}",
            fix="run: pip install -e '.[bench]' (or make bench), or name an interpreter with them by --peer-python",
        )
    return found


def threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """The processor by name, how many of them, and the system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return {"processor": name, "threads": threads(), "system": platform.platform(terse=True)}


def _command(side: str, worker: str, settings: dict[str, Any], python: str) -> list[str]:
    module = {"ours": "pairjax_side", "peer": "torch_side"}[side]
    # The worker begins in another folder; links stay, since an environment is known by the path of its interpreter.
    python = str(Path(shutil.which(python) or python).absolute())
    return [python, "-m", f"experiments.benchmarks.{module}.training", worker, json.dumps(settings)]


def peer_environment() -> dict[str, str]:
    """Ours without what `pairjax` set for itself at its start: the peers run as they would by themselves."""
    given = [one for one in os.environ.get(TUNABLES, "").split(":") if one and not one.startswith(HUGE)]
    return {**os.environ, TUNABLES: ":".join(given)}


def check_of(case: Case, ours: Client, peer: Client) -> dict[str, Any]:
    """How far the two sides are from computing the same."""
    if not case.compares:
        return {}
    mine, theirs = ours.ask(op="check"), peer.ask(op="check")
    if case.compares == "losses":
        apart = [abs(a - b) for a, b in zip(mine["losses"], theirs["losses"], strict=True)]
        return {"loss_apart": max(apart), "steps": len(apart), "last_loss": mine["losses"][-1]}
    import numpy as np

    one, other = np.load(mine["outputs"]), np.load(theirs["outputs"])
    return {"outputs_apart": float(np.abs(one - other).max()), "outputs_spread": float(one.std())}


def run_case(case: Case, work: Path, settings: Settings, say: Any) -> dict[str, Any]:
    """All rounds of a case."""
    both = {**case.settings, **(case.quick if settings.quick else {}), "work": str(work), "threads": threads()}
    theirs = {**both, **case.peer_settings, **(case.quick if settings.quick else {})}
    sides: dict[str, Client] = {}
    try:
        sides["ours"] = Client(_command("ours", case.ours, both, sys.executable))
        sides["peer"] = Client(_command("peer", case.peer, theirs, settings.peer_python), peer_environment())
        check = check_of(case, sides["ours"], sides["peer"])
        rounds = []
        for turn in range(settings.rounds):
            order = ("ours", "peer") if turn % 2 == 0 else ("peer", "ours")
            found = {side: sides[side].ask(op="round", turn=turn + 1) for side in order}
            found["peer"].setdefault("flops", found["ours"]["flops"] * found["peer"]["count"] / found["ours"]["count"])
            rounds.append(found)
            speeds = {side: found[side]["count"] / found[side]["seconds"] for side in found}
            say(f"  round {turn + 1}: {case.unit}/s: ours {speeds['ours']:,.1f}, peer {speeds['peer']:,.1f}")
        return summary(rounds) | {
            "check": check,
            "settings": {key: value for key, value in both.items() if key != "work"},
            "peer_settings": case.peer_settings,
            "opened": {
                side: {key: value for key, value in client.opened.items() if key == "seconds_to_load"}
                for side, client in sides.items()
            },
            "rounds": rounds,
        }
    finally:
        for client in sides.values():
            client.close()


def run_first_step(work: Path, settings: Settings, say: Any) -> dict[str, Any]:
    """Seconds from the start of a process to the end of its first update: no cache, a filled one, and the peer.

    The matrix rate is measured after each, since before it there is no process to measure in.
    """
    both = {**CASES["step"].settings, "work": str(work), "threads": threads()}
    cache = work / "xla-first"
    found: dict[str, list[float]] = {"cold": [], "warm": [], "peer": []}
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for turn in range(1 if settings.quick else settings.rounds):
        shutil.rmtree(cache, ignore_errors=True)
        for name in ("cold", "warm", "peer"):
            side, python = ("peer", settings.peer_python) if name == "peer" else ("ours", sys.executable)
            environ = peer_environment() if side == "peer" else None
            client = Client(_command(side, FIRST_STEP, both | {"cache": str(cache)}, python), environ)
            try:
                rates[side].append(client.ask(op="round", turn=turn + 1)["matrix_rate"])
            finally:
                client.close()
            found[name].append(client.seconds_to_open)
        say(f"  round {turn + 1}: " + ", ".join(f"{name} {times[-1]:.1f} s" for name, times in found.items()))
    return {name: spread(times) for name, times in found.items()} | matrix_rates(rates)


def run_alone(name: str, work: Path, settings: Settings, say: Any) -> dict[str, Any]:
    """A case without a peer, in a process of its own."""
    encoder = resolve_encoder(settings.encoder, download=False).absolute()
    command = [sys.executable, "-m", ALONE[name], "--encoder", str(encoder), "--work", str(work)]
    done = subprocess.run(
        [*command, *(["--quick"] if settings.quick else [])], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    if done.returncode:
        raise WorkerError(f"{ALONE[name]} ended with an error (above)")
    found = json.loads(done.stdout.splitlines()[-1])
    say(f"  {len(found['rows'])} measurements")
    return found


def write_all(work: Path, settings: Settings) -> dict[str, Any]:
    """The working folder with what the chosen cases need; what is in it."""
    from experiments.benchmarks.workload.pairs import find_data, write_workload
    from experiments.benchmarks.workload.pretraining import write_heads, write_pretraining

    meta = write_workload(work, data=settings.data, encoder=settings.encoder)
    parts = {CASES[name].part for name in settings.cases if name in CASES}
    if HEADS in parts:
        write_heads(work, HEAD_STEPS)
    if PRETRAINING in parts or PROFILE in settings.cases:
        meta[PRETRAINING] = write_pretraining(work, meta, find_data(settings.data))
        (work / "meta.json").write_text(json.dumps(meta))
    return meta


def run(settings: Settings, say: Any = print) -> dict[str, Any]:
    """Run cases, print as they come, and write RESULTS.md and results.json; the results by case.

    Raises:
        UserError: The peers are missing, a case is unknown, or one of the sides ended with an error.
    """
    unknown = [name for name in settings.cases if name not in NAMES]
    if unknown:
        raise UserError("no such case", got=", ".join(unknown), expected=f"some of {', '.join(NAMES)}")
    need_peer = any(name not in ALONE for name in settings.cases)
    versions = check_peers(settings.peer_python) if need_peer else {}
    from pairjax.storage.provenance import provenance

    origin = provenance(device_kind="cpu", device_count=1)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {**{k: v for k, v in origin["versions"].items() if v}, **versions, "python": origin["python"]},
        "git": origin["git"],
        "rounds": settings.rounds,
        "quick": settings.quick,
    }
    results: dict[str, Any] = {}
    began = time.monotonic()
    with TemporaryDirectory(prefix="pairjax-bench-") as folder:
        work = Path(folder)
        data = write_all(work, settings) if set(settings.cases) != {MICRO} else {"sets": {}}
        about["data"] = {name: entry["source"] for name, entry in data["sets"].items()}
        if PRETRAINING in data:
            about["data"][PRETRAINING] = data[PRETRAINING]["source"]
        about["encoder"] = settings.encoder
        say(f"data: {', '.join(map(shown, about['data'].values())) or 'none'}")
        for name in settings.cases:
            say(f"{name}: {title_of(name, about['data'])} | {CASES[name].peer_title}" if name in CASES else name)
            try:
                if name == FIRST_STEP:
                    found = run_first_step(work, settings, say)
                elif name in ALONE:
                    found = run_alone(name, work, settings, say)
                else:
                    found = run_case(CASES[name], work, settings, say)
            except WorkerError as error:
                raise UserError(f"the case {name} failed", got=str(error)) from None
            results[name] = found | {"about": about}
            say("  " + line_of(name, found))
            if settings.output is not None:
                # A later case that fails takes nothing with it.
                written = write_results(settings.output, {name: results[name]})
            if is_busy(found):
                say(f"  busy machine: the matrix rate varied by {found['matrix_spread']:.0%} over the rounds")
            if differs(name, found):
                say(
                    f"  THE TWO SIDES DO NOT COMPUTE THE SAME: {CASES[name].compares} are apart by "
                    f"{apart(found['check']):.1e}, rounding by at most {TOLERANCE[CASES[name].compares]:.0e}; "
                    "the ratio says nothing"
                )
    say(f"{time.monotonic() - began:.0f} s in all")
    if settings.output is not None:
        say(f"written: {written}")
    return results
