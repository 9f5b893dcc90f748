"""Measures the bare training step by layout of its rows, without torch: padded, bucketed and packed.

Command: pairjax bench --cases layouts

For each set, kind of model and layout it prints the row lengths, the share of slots without a token, and the pairs a
second at the mean pair's arithmetic. Layouts take turns within a round. The batches of a round are spread evenly over
the first epoch sorted by row length, so every row length has its share.
"""

import time
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.alone.command import parse_options, print_result
from experiments.benchmarks.pairjax_side.case import PairCase, cost_of, measure_matrix_rate, sequence_lengths
from experiments.benchmarks.results.summary import median_and_range
from pairjax.data.layout import choose_layout, padding_share, plan_epoch
from pairjax.data.pipeline import make_batch
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import prepare

SETS = (("mrpc", "cross"), ("sick", "cross"), ("sick", "bi"))
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {"layout": "padded"},
    "bucketed": {},
    "bucketed, 6 lengths": {"buckets": 6},
    "packed": {"layout": "packed"},
}


class LayoutStep(PairCase):
    """A layout's training step, compiled for each of its row lengths."""

    def __init__(self, work: Path, name: str, kind: str, layout: str, *, steps: int) -> None:
        settings = {"work": str(work), "set": name, "kind": kind, "batch_size": 32, "data": LAYOUTS[layout]}
        super().__init__(settings)
        config = self.config(max_steps=1_000_000)
        prepared = prepare(config)
        self.encoded, self.cost = prepared.encoded["train"], cost_of(prepared)
        job = build_job(config, prepared)
        self.step, self.state = job.step, job.state
        lengths = self.encoded.lengths
        self.layout = choose_layout(config.data, lengths)
        plan = plan_epoch(seed=0, epoch=0, lengths=lengths, layout=self.layout, batch_size=32)
        self.padding = padding_share(plan, lengths)
        # Batches at even distances in order of length: a short round has the epoch's mixture of row lengths.
        order = np.argsort(plan.length, kind="stable")
        sample = order[np.linspace(0, len(order) - 1, steps).round().astype(int)]
        self.batches = [
            make_batch(self.encoded, prepared.targets["train"], plan.index[i], int(plan.length[i])) for i in sample
        ]
        self.pairs = np.concatenate([plan.index[i][plan.index[i] >= 0] for i in sample])
        self.lengths = sorted({int(n) for n in plan.length})
        self.run()

    def run(self) -> float:
        """Runs a round; returns its seconds."""
        began = time.perf_counter()
        for batch in self.batches:
            self.state, metrics = self.step(self.state, batch)
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    def round_flops(self) -> float:
        """Returns the operations of a round."""
        return self.cost.training(sequence_lengths(self.encoded, self.pairs).tolist(), len(self.pairs))

    def mean_pair_flops(self) -> float:
        """Returns the operations of the set's mean pair, which are the same for every layout."""
        index = np.arange(len(self.encoded))
        return self.cost.training(sequence_lengths(self.encoded, index).tolist(), len(index)) / len(index)


def main() -> None:
    """Measures every layout of every set and prints the result."""
    options = parse_options(__doc__)
    rates, rows = [measure_matrix_rate()], []
    for name, kind in SETS[:1] if options.quick else SETS:
        count = 4 if options.quick else 16
        steps = {layout: LayoutStep(Path(options.work), name, kind, layout, steps=count) for layout in LAYOUTS}
        seconds: dict[str, list[float]] = {layout: [] for layout in steps}
        for turn in range(1 if options.quick else 3):
            for layout in list(steps)[:: 1 if turn % 2 == 0 else -1]:
                seconds[layout].append(steps[layout].run())
            rates.append(measure_matrix_rate())
        for layout, step in steps.items():
            mean_pair = step.mean_pair_flops()
            speeds = [step.round_flops() / mean_pair / taken for taken in seconds[layout]]
            rows.append(
                {
                    "set": name,
                    "kind": kind,
                    "layout": layout,
                    "lengths": step.lengths,
                    "padding": step.padding,
                    "per_second": median_and_range(speeds),
                    "flops": mean_pair,
                }
            )
        jax.clear_caches()
    for row in rows:
        row["share_of_floor"] = row["per_second"]["median"] * row["flops"] / (median(rates) * 1e9)
    print_result(rows, rates)


if __name__ == "__main__":
    main()
