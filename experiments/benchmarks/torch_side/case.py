"""What the torch sides of the cases share: the matrix rate, rows, labels, models, optimiser."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.shared.flops import Cost
from experiments.benchmarks.shared.protocol import fastest

CHECKED = 10


def matrix_rate(seconds: float = 0.8, size: int = 1536) -> float:
    """GFLOP/s of float32 products by the library that the steps use: the fastest."""
    x = torch.randn(size, size)
    x @ x
    return 2.0 * size**3 / fastest(lambda: x @ x, seconds) / 1e9


class Case:
    """What the cases share: rows, labels, model."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.work = Path(settings["work"])
        self.name, self.size = settings["set"], settings["batch_size"]
        meta = json.loads((self.work / "meta.json").read_text())
        self.encoder, self.labels = meta["encoder"], meta["sets"][self.name]["labels"]
        shape, outputs = meta["shape"], len(self.labels)
        above = (
            3 * shape["hidden"] * outputs if settings["kind"] == "bi" else shape["hidden"] * (shape["hidden"] + outputs)
        )
        self.cost = Cost(**shape, above=above)
        torch.set_num_threads(settings["threads"])
        torch.manual_seed(0)

    def rows(self, split: str) -> tuple[list[str], list[str], list[int]]:
        with (self.work / self.name / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        names = {name: index for index, name in enumerate(self.labels)}
        first, second = [row["sentence1"] for row in rows], [row["sentence2"] for row in rows]
        return first, second, [names[row["label"]] for row in rows]

    def load_model(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification.from_pretrained(str(self.work / f"{self.name}.torch"))

    def load_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.work / f"{self.name}.torch"))

    def tokenised(self, split: str, *, pad: bool = False) -> list[dict[str, Any]]:
        first, second, label = self.rows(split)
        self.tokenizer = self.load_tokenizer()
        encoded = self.tokenizer(first, second, truncation=True, max_length=128, padding="max_length" if pad else False)
        names = list(encoded.keys())
        return [{**{name: encoded[name][i] for name in names}, "labels": label[i]} for i in range(len(label))]


def optimiser(model: Any, total: int) -> tuple[Any, Any]:
    """AdamW, decay on matrices alone, linear schedule with a tenth of warm-up: as ours."""
    from transformers import get_linear_schedule_with_warmup

    flat = [p for name, p in model.named_parameters() if p.ndim < 2]
    rest = [p for name, p in model.named_parameters() if p.ndim >= 2]
    groups = [{"params": rest, "weight_decay": 0.01}, {"params": flat, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=5e-5)
    return adam, get_linear_schedule_with_warmup(adam, -(-total // 10), total)
