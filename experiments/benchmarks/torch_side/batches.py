"""The torch side of the input pipeline."""

import time
from typing import Any

import torch

from experiments.benchmarks.torch_side.case import PairCase


class Pipeline(PairCase):
    """Times tokenised pairs through a DataLoader with dynamic padding."""

    def open(self) -> dict[str, Any]:
        from datasets import Dataset

        self.data = Dataset.from_list(self.tokenised("train"))
        return {}

    def check(self) -> dict[str, Any]:
        return {}

    def round(self, turn: int) -> dict[str, Any]:
        from transformers import DataCollatorWithPadding

        first, second, _ = self.read_split("train")
        began = time.perf_counter()
        self.tokenizer(first, second, truncation=True, max_length=128)
        tokenising = time.perf_counter() - began
        loader = torch.utils.data.DataLoader(
            self.data, self.size, shuffle=True, collate_fn=DataCollatorWithPadding(self.tokenizer)
        )
        began, count = time.perf_counter(), 0
        for _ in range(self.settings["epochs"]):
            for batch in loader:
                count += len(batch["labels"])
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "count": count, "tokenised_per_second": len(first) / tokenising}
