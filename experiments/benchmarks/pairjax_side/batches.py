"""pairjax's side of the input pipeline."""

import time
from typing import Any

from experiments.benchmarks.pairjax_side.case import PairCase
from pairjax.data.encode import encode_split
from pairjax.data.layout import steps_per_epoch
from pairjax.data.pipeline import train_batches
from pairjax.finetune.prepare import prepare


class Pipeline(PairCase):
    """Times batches alone: from token arrays to the arrays that the step takes, with the run's own prefetching."""

    def open(self) -> dict[str, Any]:
        self.prepared = prepare(self.config())
        return {}

    def check(self) -> dict[str, Any]:
        return {}

    def round(self, turn: int) -> dict[str, Any]:
        config, prepared = self.config(), self.prepared
        began = time.perf_counter()
        encoded = encode_split(
            prepared.data.splits["train"],
            prepared.tokenizer,
            model=config.model,
            max_length=128,
            truncation="longest_first",
        )
        tokenising = time.perf_counter() - began
        steps = steps_per_epoch(len(encoded), config.train.batch_size) * self.settings["epochs"]
        began = time.perf_counter()
        count = 0
        for _, batch in train_batches(
            prepared.encoded["train"],
            prepared.targets["train"],
            seed=turn,
            layout=prepared.layout,
            batch_size=config.train.batch_size,
            start_step=0,
            stop_step=steps,
        ):
            count += int((batch.example_id >= 0).sum())
        return {
            "seconds": time.perf_counter() - began,
            "count": count,
            "flops": 0.0,
            "tokenised_per_second": len(encoded) / tokenising,
        }
