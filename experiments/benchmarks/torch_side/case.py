"""The parts that the torch workers share: matrix rate, pairs, labels, models, optimiser."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.shared.flops import Cost
from experiments.benchmarks.shared.protocol import time_fastest


def measure_matrix_rate(seconds: float = 0.8, size: int = 1536) -> float:
    """Returns the rate of torch's float32 matrix products in GFLOP/s; the fastest product counts."""
    x = torch.randn(size, size)
    x @ x
    return 2.0 * size**3 / time_fastest(lambda: x @ x, seconds) / 1e9


class PairCase:
    """Base of the workers that run on a set of pairs."""

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

    def read_split(self, split: str) -> tuple[list[str], list[str], list[int]]:
        """Returns a split's first texts, second texts and class indices."""
        with (self.work / self.name / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
            records = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        names = {name: index for index, name in enumerate(self.labels)}
        first, second = [record["sentence1"] for record in records], [record["sentence2"] for record in records]
        return first, second, [names[record["label"]] for record in records]

    def load_model(self) -> Any:
        """Reads the classifier with the shared initial weights."""
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification.from_pretrained(str(self.work / f"{self.name}.torch"))

    def load_tokenizer(self) -> Any:
        """Reads the encoder's tokeniser."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.work / f"{self.name}.torch"))

    def tokenised(self, split: str, *, pad: bool = False) -> list[dict[str, Any]]:
        """Returns a split's tokenised pairs with labels; `pad` pads each to 128 tokens."""
        first, second, label = self.read_split(split)
        self.tokenizer = self.load_tokenizer()
        encoded = self.tokenizer(first, second, truncation=True, max_length=128, padding="max_length" if pad else False)
        names = list(encoded.keys())
        return [{**{name: encoded[name][i] for name in names}, "labels": label[i]} for i in range(len(label))]


def build_optimizer(model: Any, total: int) -> tuple[Any, Any]:
    """Returns AdamW, with decay on matrices only, and a linear schedule with a tenth of warm-up, as in pairjax."""
    from transformers import get_linear_schedule_with_warmup

    vectors = [p for p in model.parameters() if p.ndim < 2]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=5e-5)
    return adam, get_linear_schedule_with_warmup(adam, -(-total // 10), total)


def take_step(loss: torch.Tensor, model: Any, adam: Any, schedule: Any) -> float:
    """Takes one step with gradients clipped to norm 1; returns the loss.

    Args:
        loss: The loss of a batch.
        model: The model.
        adam: Its optimiser.
        schedule: Its learning-rate schedule.
    """
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    schedule.step()
    adam.zero_grad()
    return float(loss)


def load_bi_encoder(encoder: str) -> Any:
    """Returns the encoder with mean pooling and nothing after it."""
    from sentence_transformers import SentenceTransformer, models

    transformer = models.Transformer(encoder, max_seq_length=128)
    return SentenceTransformer(
        modules=[transformer, models.Pooling(transformer.get_word_embedding_dimension(), "mean")], device="cpu"
    )
