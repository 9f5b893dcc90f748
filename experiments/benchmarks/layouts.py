"""The bare training step by layout of its rows, without torch: padded, bucketed with fewer and more lengths, packed.

Command: pairjax bench --cases layouts
Prints one line of JSON: for each set, kind of model and layout the row lengths, the share of slots that hold no token
and, over rounds in which the layouts take turns, pairs a second at the mean pair's arithmetic. A round's batches come
evenly spread over the first epoch, so that each row length has its share.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jax
import numpy as np
from ours_case import Case, cost_of, matrix_rate, sequences
from summary import spread

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


class Side(Case):
    """A layout's step, compiled for each of its row lengths."""

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
        # Sorted by length and taken evenly: a short round has the epoch's mixture of row lengths.
        order = np.argsort(plan.length, kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, steps).round().astype(int)]
        self.batches = [
            make_batch(self.encoded, prepared.targets["train"], plan.index[i], int(plan.length[i])) for i in chosen
        ]
        self.pairs = np.concatenate([plan.index[i][plan.index[i] >= 0] for i in chosen])
        self.lengths = sorted({int(n) for n in plan.length})
        self.run()

    def run(self) -> float:
        """Seconds of a round."""
        began = time.perf_counter()
        for batch in self.batches:
            self.state, metrics = self.step(self.state, batch)
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    def work_done(self) -> float:
        """Arithmetic of a round."""
        return self.cost.training(sequences(self.encoded, self.pairs).tolist(), len(self.pairs))

    def mean_pair(self) -> float:
        """Arithmetic of the set's mean pair: the same for every layout."""
        index = np.arange(len(self.encoded))
        return self.cost.training(sequences(self.encoded, index).tolist(), len(index)) / len(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder with a workload")
    parser.add_argument("--encoder", help="not used: the workload's")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rates, rows = [matrix_rate()], []
    for name, kind in SETS[:1] if options.quick else SETS:
        sides = {
            layout: Side(Path(options.work), name, kind, layout, steps=4 if options.quick else 16) for layout in LAYOUTS
        }
        seconds: dict[str, list[float]] = {layout: [] for layout in sides}
        for turn in range(1 if options.quick else 3):
            for layout in list(sides)[:: 1 if turn % 2 == 0 else -1]:
                seconds[layout].append(sides[layout].run())
            rates.append(matrix_rate())
        for layout, side in sides.items():
            speeds = [side.work_done() / side.mean_pair() / one for one in seconds[layout]]
            rows.append(
                {
                    "set": name,
                    "kind": kind,
                    "layout": layout,
                    "lengths": side.lengths,
                    "padding": side.padding,
                    "per_second": spread(speeds),
                    "flops": side.mean_pair(),
                }
            )
        jax.clear_caches()
    floor = median(rates)
    for row in rows:
        row["share_of_floor"] = row["per_second"]["median"] * row["flops"] / (floor * 1e9)
    print(json.dumps({"rows": rows, "matrix_rate": floor, "matrix_spread": (max(rates) - min(rates)) / floor}))


if __name__ == "__main__":
    main()
