"""Profiles the operations of the training steps and of prediction, without torch, and groups them by purpose.

Command: pairjax bench --cases profile

The time of an operation comes from JAX's profiler on the CPU, summed over threads. Its purpose comes from XLA's dump of
the compiled program: the scope in its `op_name`, and the arithmetic of the products in it, padding included. A fusion
counts as a whole, with the purpose of its last operation, or as products if it holds one. Wall time is measured on the
same steps without the profiler.
"""

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

from experiments.benchmarks.alone.command import parse_options, print_result
from experiments.benchmarks.alone.hlo import read_program
from experiments.benchmarks.alone.layouts import LayoutStep
from experiments.benchmarks.alone.stages import step_stages
from experiments.benchmarks.pairjax_side.case import measure_matrix_rate
from experiments.benchmarks.pairjax_side.pretraining import Pretrain
from pairjax.weights import read_encoder_spec, resolve_encoder


@dataclass(frozen=True)
class Program:
    """A compiled program to profile: `run()` executes `steps` steps and waits for them."""

    name: str
    run: Callable[[], Any]
    steps: int


def trace_operations(program: Program) -> tuple[dict[tuple[str, int], Counter[str]], Counter[tuple[str, int]]]:
    """Returns the nanoseconds of each operation by module, and of each module, where a module is (name, id)."""
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
    return times, Counter({module: sum(operations.values()) for module, operations in times.items()})


def measure_program(program: Program, matrix_rate: float, dump: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Returns the times of the program's slowest module by group and direction, and the program's totals."""
    program.run()
    began = time.perf_counter()
    program.run()
    wall = (time.perf_counter() - began) / program.steps
    times, totals = trace_operations(program)
    ((name, number), _), *_ = totals.most_common(1)
    text = dump / f"module_{number:04d}.{name}.cpu_after_optimizations.txt"
    operations = read_program(text.read_text(encoding="utf-8"))
    spent: Counter[tuple[str, str]] = Counter()
    flops: Counter[tuple[str, str]] = Counter()
    for operation_name, nanoseconds in times[name, number].items():
        operation = operations[operation_name]
        spent[operation.group, operation.direction] += nanoseconds / 1e6 / program.steps
        flops[operation.group, operation.direction] += operation.flops
    rows = []
    for place, milliseconds in spent.most_common():
        row = {"program": program.name, "group": place[0], "direction": place[1], "ms": milliseconds}
        if flops[place]:
            row |= {"flops": flops[place], "share_of_floor": flops[place] / (milliseconds / 1e3) / (matrix_rate * 1e9)}
        rows.append(row)
    return rows, {"wall_ms": 1e3 * wall, "op_ms": sum(spent.values()), "flops": sum(flops.values())}


def program_makers(work: Path, encoder: str, *, quick: bool) -> list[Callable[[], Program]]:
    """Returns a function for each program that builds it, so only one is in memory at a time."""
    folder = resolve_encoder(encoder, download=False)
    spec, steps = read_encoder_spec(folder), 2 if quick else 8

    def make_stage(name: str, stage: str, batch: int, length: int) -> Program:
        run = next(s.run for s in step_stages(folder, spec, batch, length) if s.name == stage)
        return Program(f"{name}, {batch} x {length}", lambda: [run() for _ in range(steps)], steps)

    def make_pretraining() -> Program:
        case = Pretrain({"work": str(work), "steps": steps})
        case.open()
        return Program("pretraining step, 32 x 128", lambda: case.round(0), steps)

    def make_bi() -> Program:
        step = LayoutStep(work, "sick", "bi", "padded", steps=steps)
        (length,) = step.lengths
        return Program(f"bi step, SICK, 32 x {length}", step.run, steps)

    makers: list[Callable[[], Program]] = [lambda: make_stage("cross step", "step", 32, 64)]
    if not quick:
        makers += [lambda: make_stage("cross step", "step", 32, 128), make_bi, make_pretraining]
    return [*makers, lambda: make_stage("cross logits", "logits", 64, 32)]


def main() -> None:
    """Profiles every program and prints the result."""
    options = parse_options(__doc__)
    dump = TemporaryDirectory(prefix="pairjax-dump-")
    flags = f"--xla_dump_to={dump.name} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_(step|apply)"
    # XLA reads the flags with its first program. It does not dump programs that come from the cache.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    jax.config.update("jax_enable_compilation_cache", False)
    rows: list[dict[str, Any]] = []
    totals: dict[str, dict[str, float]] = {}
    rates = [measure_matrix_rate()]
    for make in program_makers(Path(options.work), options.encoder, quick=options.quick):
        program = make()
        groups, totals[program.name] = measure_program(program, median(rates), Path(dump.name))
        rows += groups
        del program
        jax.clear_caches()
        rates.append(measure_matrix_rate())
    print_result(rows, rates, programs=totals)


if __name__ == "__main__":
    main()
