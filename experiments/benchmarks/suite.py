"""Runs `pairjax bench`: pairjax and the torch tools in alternation.

Each side of a case is a process that stays open for all rounds; one waits while the other computes. Rounds alternate
which side goes first. The ratio of a round compares arithmetic for real tokens a second (`shared/flops.py`), so neither
the choice of batches nor padding affects it.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
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
    MICRO,
    NAMES,
    PROFILE,
    TOLERANCE,
    Comparison,
    case_title,
    source_title,
)
from experiments.benchmarks.results.markdown import (
    difference,
    is_busy,
    is_different,
    summary_line,
    write_results,
)
from experiments.benchmarks.results.summary import (
    PAIRJAX,
    TORCH,
    median_and_range,
    summarise_matrix_rates,
    summarise_rounds,
)
from experiments.benchmarks.shared.constants import HEADS, PRETRAINING
from experiments.benchmarks.shared.protocol import ROOT, Client, WorkerError
from pairjax.base.errors import UserError
from pairjax.cli.memory import HUGE, TUNABLES
from pairjax.weights import resolve_encoder

Log = Callable[[str], object]
TORCH_TOOLS = ("torch", "transformers", "sentence_transformers", "accelerate", "datasets")


@dataclass(frozen=True)
class Settings:
    """The settings of a run of the harness.

    Attributes:
        cases: Names of the cases, from `NAMES`.
        rounds: Number of rounds of each case.
        quick: Measures less of everything.
        peer_python: Interpreter of the environment with the extra `bench`.
        data: Folder of the real sets; None means the variable PAIRJAX_DATA.
        output: Folder for results.json and RESULTS.md; None writes nothing.
        encoder: Name or folder of both sides' encoder.
    """

    cases: tuple[str, ...]
    rounds: int
    quick: bool
    peer_python: str
    data: str | None
    output: Path | None
    encoder: str


def check_torch_tools(python: str) -> dict[str, str]:
    """Returns the versions of the torch tools.

    Args:
        python: The interpreter that runs them.

    Raises:
        UserError: The interpreter does not run, or lacks one of the packages.
    """
    code = (
        "import importlib.util as u, importlib.metadata as m, json\n"
        f"names = {TORCH_TOOLS!r}\n"
        "print(json.dumps({n: m.version(n.replace('_', '-')) if u.find_spec(n) else None for n in names}))"
    )
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"--peer-python {python}: does not run", got=error, expected="a Python interpreter") from None
    versions: dict[str, str] = json.loads(done.stdout)
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        raise UserError(
            "the tools to compare with are not installed",
            got=f"no {', '.join(missing)} in {python}",
            fix="run: pip install -e '.[bench]' (or make bench), or name an interpreter with them by --peer-python",
        )
    return versions


def count_threads() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Returns the processor's name, the number of threads, and the system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return {"processor": name, "threads": count_threads(), "system": platform.platform(terse=True)}


def worker_command(side: str, worker: str, settings: dict[str, Any], python: str) -> list[str]:
    """Returns the command line of a worker.

    Args:
        side: PAIRJAX or TORCH.
        worker: Name of the worker in the side's `main.py`.
        settings: The settings of the worker.
        python: The interpreter, as a path or a name on PATH.
    """
    # The worker starts in another folder, so its path must be absolute. Links are not followed: an environment is
    # recognised by the path of its interpreter.
    python = str(Path(shutil.which(python) or python).absolute())
    module = {PAIRJAX: "pairjax_side", TORCH: "torch_side"}[side]
    return [python, "-m", f"experiments.benchmarks.{module}.main", worker, json.dumps(settings)]


def torch_environment() -> dict[str, str]:
    """Returns this process's environment without the huge pages that `pairjax` requested at its start.

    The torch tools then run as they would on their own.
    """
    tunables = [item for item in os.environ.get(TUNABLES, "").split(":") if item and not item.startswith(HUGE)]
    return {**os.environ, TUNABLES: ":".join(tunables)}


def compare_sides(case: Comparison, pairjax_side: Client, torch_side: Client) -> dict[str, Any]:
    """Returns the largest difference between the results of the two sides."""
    if not case.compares:
        return {}
    left, right = pairjax_side.ask(op="check"), torch_side.ask(op="check")
    if case.compares == "losses":
        differences = [abs(a - b) for a, b in zip(left["losses"], right["losses"], strict=True)]
        return {"loss_apart": max(differences), "steps": len(differences), "last_loss": left["losses"][-1]}
    import numpy as np

    left, right = np.load(left["outputs"]), np.load(right["outputs"])
    return {"outputs_apart": float(np.abs(left - right).max()), "outputs_spread": float(left.std())}


def run_case(case: Comparison, work: Path, settings: Settings, log: Log) -> dict[str, Any]:
    """Runs all rounds of a case; returns its entry in results.json."""
    quick = case.quick if settings.quick else {}
    both = {**case.settings, **quick, "work": str(work), "threads": count_threads()}
    sides: dict[str, Client] = {}
    try:
        sides[PAIRJAX] = Client(worker_command(PAIRJAX, case.pairjax_worker, both, sys.executable))
        torch_settings = {**both, **case.torch_settings, **quick}
        command = worker_command(TORCH, case.torch_worker, torch_settings, settings.peer_python)
        sides[TORCH] = Client(command, torch_environment())
        check = compare_sides(case, sides[PAIRJAX], sides[TORCH])
        rounds = []
        for turn in range(settings.rounds):
            order = (PAIRJAX, TORCH) if turn % 2 == 0 else (TORCH, PAIRJAX)
            answers = {side: sides[side].ask(op="round", turn=turn + 1) for side in order}
            flops_per_unit = answers[PAIRJAX]["flops"] / answers[PAIRJAX]["count"]
            answers[TORCH].setdefault("flops", flops_per_unit * answers[TORCH]["count"])
            rounds.append(answers)
            speeds = [answers[side]["count"] / answers[side]["seconds"] for side in (PAIRJAX, TORCH)]
            log(f"  round {turn + 1}: {case.unit}/s: pairjax {speeds[0]:,.1f}, torch {speeds[1]:,.1f}")
        return summarise_rounds(rounds) | {
            "check": check,
            "settings": {key: value for key, value in both.items() if key != "work"},
            "peer_settings": case.torch_settings,
            "opened": {
                side: {key: value for key, value in client.opened.items() if key == "seconds_to_load"}
                for side, client in sides.items()
            },
            "rounds": rounds,
        }
    finally:
        for client in sides.values():
            client.close()


def run_first_step(work: Path, settings: Settings, log: Log) -> dict[str, Any]:
    """Measures the seconds from the start of a process to the end of its first update; returns the entry of the case.

    Each round starts pairjax without a compilation cache and with a filled one, then the torch loop. The matrix rate is
    measured after each of them, since there is no process in which to measure it before.
    """
    both = {**CASES["step"].settings, "work": str(work), "threads": count_threads()}
    cache = work / "xla-first"
    seconds: dict[str, list[float]] = {"cold": [], "warm": [], "peer": []}
    rates: dict[str, list[float]] = {PAIRJAX: [], TORCH: []}
    for turn in range(1 if settings.quick else settings.rounds):
        shutil.rmtree(cache, ignore_errors=True)
        for name in seconds:
            side, python = (TORCH, settings.peer_python) if name == "peer" else (PAIRJAX, sys.executable)
            environ = torch_environment() if side == TORCH else None
            client = Client(worker_command(side, FIRST_STEP, both | {"cache": str(cache)}, python), environ)
            try:
                rates[side].append(client.ask(op="round", turn=turn + 1)["matrix_rate"])
            finally:
                client.close()
            seconds[name].append(client.seconds_to_open)
        cold, warm, torch = (times[-1] for times in seconds.values())
        log(f"  round {turn + 1}: no cache {cold:.1f} s, filled cache {warm:.1f} s, torch {torch:.1f} s")
    return {name: median_and_range(times) for name, times in seconds.items()} | summarise_matrix_rates(rates)


def run_alone(name: str, work: Path, settings: Settings, log: Log) -> dict[str, Any]:
    """Runs a case without a torch tool in a process of its own; returns its entry in results.json."""
    encoder = resolve_encoder(settings.encoder, download=False).absolute()
    command = [sys.executable, "-m", ALONE[name], "--encoder", str(encoder), "--work", str(work)]
    command += ["--quick"] if settings.quick else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode:
        raise WorkerError(f"{ALONE[name]} ended with an error (above)")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    log(f"  {len(result['rows'])} measurements")
    return result


def write_all(work: Path, settings: Settings) -> dict[str, Any]:
    """Fills the working folder with the data that the chosen cases need; returns the content of meta.json."""
    from experiments.benchmarks.workload.heads import write_heads
    from experiments.benchmarks.workload.pairs import find_data, write_workload
    from experiments.benchmarks.workload.pretraining import write_pretraining

    meta = write_workload(work, data=settings.data, encoder=settings.encoder)
    parts = {CASES[name].part for name in settings.cases if name in CASES}
    if HEADS in parts:
        write_heads(work, HEAD_STEPS)
    if PRETRAINING in parts or PROFILE in settings.cases:
        meta[PRETRAINING] = write_pretraining(work, meta, find_data(settings.data))
        (work / "meta.json").write_text(json.dumps(meta))
    return meta


def describe_run(settings: Settings) -> dict[str, Any]:
    """Returns the provenance of a run: date, machine, versions, commit and settings.

    Raises:
        UserError: The torch tools are missing.
    """
    from pairjax.storage.provenance import provenance

    need_torch = any(name not in ALONE for name in settings.cases)
    torch_versions = check_torch_tools(settings.peer_python) if need_torch else {}
    origin = provenance(device_kind="cpu", device_count=1)
    versions = {name: version for name, version in origin["versions"].items() if version}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "versions": {**versions, **torch_versions, "python": origin["python"]},
        "git": origin["git"],
        "rounds": settings.rounds,
        "quick": settings.quick,
    }


def run(settings: Settings, log: Log = print) -> dict[str, Any]:
    """Runs cases, prints each result as it comes, and writes RESULTS.md and results.json.

    Returns:
        The results by case.

    Raises:
        UserError: The torch tools are missing, a case is unknown, or one of the sides ended with an error.
    """
    unknown = [name for name in settings.cases if name not in NAMES]
    if unknown:
        raise UserError("no such case", got=", ".join(unknown), expected=f"some of {', '.join(NAMES)}")
    about = describe_run(settings)
    results: dict[str, Any] = {}
    began = time.monotonic()
    with TemporaryDirectory(prefix="pairjax-bench-") as folder:
        work = Path(folder)
        data = write_all(work, settings) if set(settings.cases) != {MICRO} else {"sets": {}}
        about["data"] = {name: entry["source"] for name, entry in data["sets"].items()}
        if PRETRAINING in data:
            about["data"][PRETRAINING] = data[PRETRAINING]["source"]
        about["encoder"] = settings.encoder
        log(f"data: {', '.join(map(source_title, about['data'].values())) or 'none'}")
        for name in settings.cases:
            log(f"{name}: {case_title(name, about['data'])} | {CASES[name].torch_title}" if name in CASES else name)
            try:
                if name == FIRST_STEP:
                    result = run_first_step(work, settings, log)
                elif name in ALONE:
                    result = run_alone(name, work, settings, log)
                else:
                    result = run_case(CASES[name], work, settings, log)
            except WorkerError as error:
                raise UserError(f"the case {name} failed", got=str(error)) from None
            results[name] = result | {"about": about}
            log("  " + summary_line(name, result))
            if settings.output is not None:
                # Written after each case: if a later one fails, the results so far are kept.
                path = write_results(settings.output, {name: results[name]})
            _log_warnings(name, result, log)
    log(f"total: {time.monotonic() - began:.0f} s")
    if settings.output is not None:
        log(f"written: {path}")
    return results


def _log_warnings(name: str, result: dict[str, Any], log: Log) -> None:
    """Reports a busy machine, and sides that do not compute the same."""
    if is_busy(result):
        log(f"  busy machine: the matrix rate varied by {result['matrix_spread']:.0%} over the rounds")
    if is_different(name, result):
        kind = CASES[name].compares
        log(
            f"  THE TWO SIDES DO NOT COMPUTE THE SAME: {kind} differ by {difference(result['check']):.1e}, "
            f"more than the {TOLERANCE[kind]:.0e} that rounding explains; ignore the ratio"
        )
