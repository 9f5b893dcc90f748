"""Ten thousand steps: memory, file handles and threads of one process, as the kernel counts them.

    python -m tests.torture.long --steps 10000

A tiny model, a checkpoint after every 50 steps, an evaluation after every 500. Growth is told from the second fifth of
the run on: before it, programs are compiled and allocators find their size.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from pairjax.run.distributed import StopSignal
from tests.torture.runs import start, tiny_config

EVAL_EVERY = 500


def sample() -> tuple[float, int, int]:
    """Returns resident megabytes, open files and threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd")), threading.active_count()


def run(steps: int, *, kind: str, save_every: int) -> dict[str, Any]:
    """Trains for `steps` steps and takes a sample after each hundredth of the run."""
    seen: dict[int, tuple[float, int, int]] = {}
    every = max(1, steps // 100)

    def requested(self: StopSignal, done: int) -> bool:
        if done % every == 0:
            seen[done] = sample()
        return False

    StopSignal.requested = requested  # type: ignore[method-assign]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pairjax-long-") as folder:
        config = tiny_config(Path(folder))
        config = dataclasses.replace(
            config,
            model=dataclasses.replace(config.model, kind=kind),
            train=dataclasses.replace(config.train, max_steps=steps, eval_every=min(EVAL_EVERY, steps)),
        )
        told = start(config, Path(folder) / "run", save_every=save_every)
    late = {step: values for step, values in seen.items() if step > steps // 5}
    at = np.asarray(list(late))
    memory, files, threads = (np.asarray([values[i] for values in late.values()]) for i in range(3))
    slope = np.polyfit(at, memory, 1)[0]
    return {
        "kind": kind,
        "steps": steps,
        "saves": steps // save_every,
        "seconds": round(time.monotonic() - began),
        "MB at a fifth": round(float(memory[0]), 1),
        "MB at the end": round(float(memory[-1]), 1),
        "MB in 1,000 steps": round(float(slope) * 1000, 3),
        "files": [int(files.min()), int(files.max())],
        "MB each tenth": [round(values[0], 1) for values in list(seen.values())[9::10]],
        "threads": [int(threads.min()), int(threads.max())],
        "told": next(line for line in told.splitlines() if line.startswith("the loop took")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--kind", choices=["cross", "bi"], default="cross")
    parser.add_argument("--save-every", type=int, default=50)
    asked = parser.parse_args()
    print(json.dumps(run(asked.steps, kind=asked.kind, save_every=asked.save_every)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
