"""SIGKILL at random moments, each followed by a resume; the end must be that of a run never killed, bit for bit.

    python -m tests.torture.kills --kills 20 --kind cross --processes 1 --seed 0
    python -m tests.torture.kills --kills 20 --kind pretrain

A run is killed again and again until it has had its share, then it ends; one JSON line tells what was compared. The
processes are forks of one that has imported everything and used no device, so that a kill costs seconds.
"""

import argparse
import atexit
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = ""

import pairjax.cli.main
import pairjax.finetune.train
import pairjax.pretrain.train
from pairjax.run.liveness import LOST
from tests.tiny import write_tiny_encoder

STEPS = 24
RUN_LENGTHS = 5
"""Kills that one run gets at most before it may end; more runs follow."""


@dataclass
class Tally:
    """Counts of what happened to the runs."""

    kills: int = 0
    during_save: int = 0
    before_first_step: int = 0
    runs: int = 0
    codes: dict[int, int] = field(default_factory=dict)


def write_inputs(folder: Path, kind: str) -> list[str]:
    """Writes the inputs to `folder` and returns the command with its options, without the run's folder."""
    write_tiny_encoder(folder / "encoder")
    common = {
        "model.encoder": folder / "encoder",
        "train.batch-size": 8,
        "train.max-steps": STEPS,
        "train.eval-every": 8,
        "run.save-every": 2,
        "evaluation.bootstrap": 100,
        "run.compilation-cache": folder / "cache",
    }
    own = {"data.max-length": 48, "data.documents": 60, "evaluation.examples": 32, "evaluation.during": 16}
    if kind == "pretrain":
        words = ["pretrain", "--evaluation.no-baselines"]
    else:
        own = write_pairs(folder) | {"model.kind": kind}
        words = ["train", "--evaluation.no-swap"]
    return [*words, *(f"--{name}={value}" for name, value in (common | own).items())]


def write_pairs(folder: Path) -> dict[str, Any]:
    """Writes 61 pairs, whose last batch of an epoch is incomplete, and returns the options that read them."""
    words = ["the", "a", "man", "woman", "dog", "is", "are", "not", "no", "some", "all"]
    draw = random.Random(7)
    for split, rows in (("train", 61), ("dev", 13)):
        lines = ["sentence1\tsentence2\tlabel"]
        for _ in range(rows):
            texts = [" ".join(draw.choices(words, k=draw.randint(3, 8))) for _ in range(2)]
            lines.append("\t".join([*texts, draw.choice(["yes", "no"])]))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return {"data.path": folder, "data.max-length": 32, "data.buckets": 1}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fork(arguments: Sequence[str], log: Path, environment: dict[str, str]) -> int:
    """Starts one process of the command line and returns its number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(environment)
        code = pairjax.cli.main.main(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # As an interpreter would: JAX's processes leave together.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def start(arguments: Sequence[str], processes: int, log: Path) -> list[int]:
    if processes == 1:
        return [fork(arguments, log, {})]
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": str(processes)}
    shared["PAIRJAX_CONNECT_TIMEOUT"] = "40"
    return [fork(arguments, log, shared | {"JAX_PROCESS_ID": str(index)}) for index in range(processes)]


def ended(child: int) -> int | None:
    """Returns a child's exit code (minus the number of its signal), or None while it runs."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def finish(children: Sequence[int], timeout: float = 600) -> list[int]:
    end, codes = time.monotonic() + timeout, dict[int, int]()
    while len(codes) < len(children):
        for child in children:
            if child not in codes and (code := ended(child)) is not None:
                codes[child] = code
        if time.monotonic() > end:
            raise SystemExit(f"processes {set(children) - set(codes)} hang")
        time.sleep(0.02)
    return [codes[child] for child in children]


def lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def saving(run: Path) -> bool:
    """Returns whether a checkpoint was begun that has no digest yet."""
    folder = run / "checkpoints"
    if not folder.exists():
        return False
    names = {child.name.split(".")[0] for child in folder.iterdir() if child.name[0].isdigit()}
    return any(not (folder / "digests" / f"{name}.json").exists() for name in names)


def strike(children: Sequence[int], run: Path, draw: random.Random, tally: Tally) -> bool:
    """Waits for a random time and kills one process; returns False if the run ended first."""
    how = draw.choice(["save", "save", "line", "line", "early"])
    target, patience = lines(run) + draw.randint(1, 10), 4 * draw.random() ** 2
    began = time.monotonic()
    while True:
        if any(ended(child) is not None for child in children[:1]):
            return False
        if how == "save" and lines(run) >= target - 6 and saving(run):
            time.sleep(draw.uniform(0, 0.04))
            break
        if how == "line" and lines(run) >= target:
            time.sleep(draw.uniform(0, 0.2))
            break
        if how == "early" and time.monotonic() - began > patience:
            break
        time.sleep(0.002)
    tally.during_save += saving(run)
    tally.before_first_step += lines(run) == 0
    os.kill(draw.choice(children), signal.SIGKILL)
    tally.kills += 1
    return True


def outcome(run: Path) -> dict[str, Any]:
    """Returns everything in a finished run that must not depend on kills."""
    result = json.loads((run / "result.json").read_text())
    files = ["model/encoder/model.safetensors", "model/head.safetensors", "metrics.jsonl", "predictions.dev.jsonl"]
    if "tokens" in result["train"]:
        files = ["model/encoder/model.safetensors", "model/encoder/tokenizer.json", "metrics.jsonl"]
    kept = {name: (run / name).read_bytes() for name in files}
    seen = {name: result["train"][name] for name in ("examples", "tokens") if name in result["train"]}
    return kept | {"metrics": result["metrics"], "seen": seen}


def own_options(options: Sequence[str], run: Path) -> list[str]:
    """Adds the run's folder and, for pretraining, a cache of its own, so that kills hit the indexing too."""
    own = [f"--data.cache={run.with_suffix('.corpora')}"] if options[0] == "pretrain" else []
    return [*options, *own, f"--run.dir={run}"]


def run_and_kill(options: list[str], run: Path, processes: int, wanted: int, draw: random.Random, tally: Tally) -> None:
    """Kills one run up to `wanted` times, then lets it finish."""
    log = run.with_suffix(".log")
    for _ in range(wanted):
        resume = ["--run.resume"] if (run / "config.json").exists() else ["--run.overwrite"]
        children = start([*own_options(options, run), *resume], processes, log)
        if not strike(children, run, draw, tally):
            for child in children[1:]:
                os.kill(child, signal.SIGKILL)
            break
        for code in finish(list(children)):
            tally.codes[code] = tally.codes.get(code, 0) + 1
            # 2: the first process was killed before it listened, and the other's wait for it ran out.
            unmet = code == 2 and "did not reach the others" in log.read_text(errors="replace").splitlines()[-1]
            if not unmet and code not in (-signal.SIGKILL, LOST, -signal.SIGABRT, 0):
                raise SystemExit(f"an end with code {code} after a kill; see {log}")
    if not (run / "result.json").exists():
        resume = ["--run.resume"] if (run / "config.json").exists() else ["--run.overwrite"]
        codes = finish(start([*own_options(options, run), *resume], processes, log))
        if any(codes):
            raise SystemExit(f"the last resume ended with {codes}; see {log}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--kind", choices=["cross", "bi", "pretrain"], default="cross")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pairjax-kills-"))
    options = write_inputs(folder, asked.kind)
    whole = folder / "whole"
    if any(finish(start(own_options(options, whole), asked.processes, folder / "whole.log"))):
        raise SystemExit(f"the run that is not killed failed; see {folder}/whole.log")
    expected, draw, tally, differ = outcome(whole), random.Random(asked.seed), Tally(), []
    began = time.monotonic()
    while tally.kills < asked.kills:
        run = folder / f"run-{tally.runs}"
        tally.runs += 1
        run_and_kill(options, run, asked.processes, min(RUN_LENGTHS, asked.kills - tally.kills), draw, tally)
        found = outcome(run)
        differ += [f"{run}: {name}" for name in expected if found[name] != expected[name]]
        told = {"kind": asked.kind, "processes": asked.processes, "seed": asked.seed, **vars(tally), "differ": differ}
        print(json.dumps(told | {"seconds": round(time.monotonic() - began)}), flush=True)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
