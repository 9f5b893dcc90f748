"""Measures the cost of a pair by length, by batch size and by number of pairs, without torch.

Command: pairjax bench --cases cost

By length and batch size: the compiled training step and the logits of full rows of random tokens, best of several
interleaved runs. By number of pairs: `pairjax.load(...).outputs` from text to outputs, on pairs drawn anew from the
sentences of a set, once for each number. A cross-encoder reads every pair, a bi-encoder every distinct sentence.
"""

import time
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

import pairjax
from experiments.benchmarks.alone.command import parse_options, print_result
from experiments.benchmarks.alone.stages import measure_stages, step_stages
from experiments.benchmarks.pairjax_side.case import forward_flops, measure_matrix_rate
from pairjax.weights import read_encoder_spec, resolve_encoder

BATCH, LENGTH = 32, 64
LENGTHS, BATCHES = (8, 16, 32, 64, 128, 256, 512), (1, 2, 4, 8, 16, 32, 64, 128, 256)
PAIRS = {"cross": (1_000, 10_000, 100_000), "bi": (1_000, 10_000, 100_000, 1_000_000)}
"""Numbers of pairs. A cross-encoder needs as long for a million on two cores as all other cases together."""
STAGES = {"logits": "predict", "step": "train"}


def measure_by_shape(folder: Path, shapes: list[tuple[str, int, int]], *, repeats: int) -> list[dict[str, Any]]:
    """Returns the milliseconds a pair of each (curve, batch, length)."""
    rows = []
    for curve, batch, length in shapes:
        stages = [s for s in step_stages(folder, read_encoder_spec(folder), batch, length) if s.name in STAGES]
        for timing in measure_stages(stages, repeats=repeats):
            rows.append(
                {
                    "curve": curve,
                    "kind": STAGES[timing["stage"]],
                    "at": length if curve == "length" else batch,
                    "milliseconds": timing["milliseconds"] / batch,
                    "flops": timing["flops"] / batch,
                }
            )
        jax.clear_caches()
    return rows


def draw_pairs(path: Path, number: int) -> tuple[list[str], list[str]]:
    """Draws pairs at random from the sentences of a split's file."""
    cells = [row.split("\t") for row in path.read_text(encoding="utf-8").splitlines()[1:]]
    texts = sorted({text for row in cells for text in row[:2]})
    first, second = np.random.default_rng(number).integers(0, len(texts), (2, number))
    return [texts[i] for i in first], [texts[i] for i in second]


def measure_by_number(work: Path, *, most: int) -> list[dict[str, Any]]:
    """Returns the milliseconds a pair of whole predictions of up to `most` pairs."""
    rows = []
    for kind, numbers in PAIRS.items():
        model = pairjax.load(work / f"sick.{kind}")
        # Compiles the program of every row length.
        model.outputs(*draw_pairs(work / "sick" / "test.tsv", 2_000), batch_size=BATCH)
        for number in (n for n in numbers if n <= most):
            first, second = draw_pairs(work / "sick" / "test.tsv", number)
            if model._sides is not None:
                model._sides.forget()
            began = time.perf_counter()
            model.outputs(first, second, batch_size=BATCH)
            seconds = time.perf_counter() - began
            flops = forward_flops(model, first, second)
            rows.append(
                {
                    "curve": "pairs",
                    "kind": kind,
                    "at": number,
                    "milliseconds": 1e3 * seconds / number,
                    "flops": flops / number,
                }
            )
    return rows


def main() -> None:
    """Measures the three curves and prints the result."""
    options = parse_options(__doc__)
    folder = resolve_encoder(options.encoder, download=False)
    lengths, batches = (LENGTHS[:3], BATCHES[:3]) if options.quick else (LENGTHS, BATCHES)
    shapes = [("length", BATCH, length) for length in lengths] + [("batch", batch, LENGTH) for batch in batches]
    rates = [measure_matrix_rate()]
    rows = measure_by_shape(folder, shapes, repeats=3)
    rates.append(measure_matrix_rate())
    rows += measure_by_number(Path(options.work), most=1_000 if options.quick else 1_000_000)
    rates.append(measure_matrix_rate())
    for row in rows:
        row["floor_milliseconds"] = row["flops"] / (median(rates) * 1e6)
    print_result(rows, rates, batch=BATCH, length=LENGTH)


if __name__ == "__main__":
    main()
