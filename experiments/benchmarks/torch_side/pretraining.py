"""The torch side of pretraining: `BertForPreTraining` over batches that were drawn and masked beforehand."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.shared.constants import CHECKED_STEPS, IGNORED, PRETRAINING
from experiments.benchmarks.shared.flops import Cost
from experiments.benchmarks.torch_side.case import build_optimizer, take_step


class Pretrain:
    """Times the model as transformers ships it: logits of every token, loss at the masked ones."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.steps = settings["steps"]
        self.work = Path(settings["work"])
        self.meta = json.loads((self.work / "meta.json").read_text())[PRETRAINING]
        torch.set_num_threads(settings["threads"])
        torch.manual_seed(0)

    def load_model(self) -> Any:
        """Reads the model from the workload."""
        from transformers import BertForPreTraining

        return BertForPreTraining.from_pretrained(str(self.work / PRETRAINING))

    def open(self) -> dict[str, Any]:
        began = time.perf_counter()
        with np.load(self.work / f"{PRETRAINING}.npz") as file:
            self.batches = {name: torch.from_numpy(file[name].astype(np.int64)) for name in file.files}
        self.model = self.load_model().train()
        loading = time.perf_counter() - began
        self.cost = Cost(**self.meta["cost"])
        self.adam, self.schedule = build_optimizer(self.model, 1_000_000)
        self._update(0)
        return {"seconds_to_load": loading}

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Computes the loss of a batch: masked tokens plus segments."""
        loss: torch.Tensor = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            token_type_ids=batch["token_type_ids"],
            labels=batch["labels"],
            next_sentence_label=batch["segment"],
        ).loss
        return loss

    def _update(self, step: int) -> float:
        """Takes one step on the batch of that number; returns its loss."""
        loss = self.loss({name: array[step % self.meta["batches"]] for name, array in self.batches.items()})
        return take_step(loss, self.model, self.adam, self.schedule)

    def check(self) -> dict[str, Any]:
        self.model = self.load_model().eval()
        self.adam, self.schedule = build_optimizer(self.model, 1_000_000)
        losses = [self._update(step) for step in range(CHECKED_STEPS)]
        self.model = self.load_model().train()
        self.adam, self.schedule = build_optimizer(self.model, 1_000_000)
        return {"losses": losses}

    def round(self, turn: int) -> dict[str, Any]:
        steps = range(turn * self.steps, (turn + 1) * self.steps)
        began = time.perf_counter()
        losses = [self._update(step) for step in steps]
        seconds = time.perf_counter() - began
        index = [step % self.meta["batches"] for step in steps]
        lengths = self.batches["attention_mask"][index].sum(dim=2).flatten().tolist()
        masked = int((self.batches["labels"][index] != IGNORED).sum())
        return {
            "seconds": seconds,
            "count": sum(lengths),
            "flops": self.cost.training(lengths, len(lengths), masked=masked),
            "loss": float(np.mean(losses[-10:])),
        }


class PretrainGathered(Pretrain):
    """Times a loop that gathers the masked positions before the decoder, as pairjax does."""

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        model, labels = self.model, batch["labels"]
        hidden, pooled = model.bert(
            batch["input_ids"], attention_mask=batch["attention_mask"], token_type_ids=batch["token_type_ids"]
        )[:2]
        masked = labels != IGNORED
        words = torch.nn.functional.cross_entropy(model.cls.predictions(hidden[masked]), labels[masked])
        segments = torch.nn.functional.cross_entropy(model.cls.seq_relationship(pooled), batch["segment"])
        return words + segments
