"""The torch side of training: a plain loop, two libraries' trainers, and the first step of a new process."""

import logging
import time
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.shared.constants import CHECKED_STEPS
from experiments.benchmarks.torch_side.case import PairCase, build_optimizer, load_bi_encoder, take_step

WARM_UP = 5
"""Number of a trainer's first steps that are not counted."""


class Step(PairCase):
    """Times a plain loop: shuffled batches, each padded to its longest pair, AdamW, clipping, schedule."""

    def open(self) -> dict[str, Any]:
        from transformers import DataCollatorWithPadding

        began = time.perf_counter()
        self.data = self.tokenised("train", pad=self.settings.get("pad", False))
        self.model = self.load_model()
        loading = time.perf_counter() - began
        self.collate = DataCollatorWithPadding(self.tokenizer)
        self.adam, self.schedule = build_optimizer(self.model, 1_000_000)
        self.model.train()
        self._update(self.collate(self.data[: self.size]))
        return {"seconds_to_load": loading}

    def _update(self, batch: dict[str, torch.Tensor]) -> float:
        """Takes one step; returns its loss."""
        return take_step(self.model(**batch).loss, self.model, self.adam, self.schedule)

    def check(self) -> dict[str, Any]:
        self.model = self.load_model().eval()
        self.adam, self.schedule = build_optimizer(self.model, CHECKED_STEPS)
        losses = []
        for step in range(CHECKED_STEPS):
            index = [i % len(self.data) for i in range(step * self.size, (step + 1) * self.size)]
            losses.append(self._update(self.collate([self.data[i] for i in index])))
        self.model = self.load_model().train()
        self.adam, self.schedule = build_optimizer(self.model, 1_000_000)
        return {"losses": losses}

    def round(self, turn: int) -> dict[str, Any]:
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(turn)).tolist()
        seen, losses = [], []
        began = time.perf_counter()
        for step in range(self.settings["steps"]):
            index = [order[i % len(order)] for i in range(step * self.size, (step + 1) * self.size)]
            losses.append(self._update(self.collate([self.data[i] for i in index])))
            seen += index
        seconds = time.perf_counter() - began
        lengths = [len(self.data[i]["input_ids"]) for i in seen]
        return {
            "seconds": seconds,
            "count": len(lengths),
            "flops": self.cost.training(lengths, len(lengths)),
            "loss": float(np.mean(losses[-10:])),
        }


class LengthCounter:
    """A collator that records the lengths of each batch's sequences, without padding."""

    def __init__(self, collate: Any) -> None:
        self.collate, self.lengths = collate, []
        # sentence-transformers' trainer reads this attribute of its collator.
        self.valid_label_columns = getattr(collate, "valid_label_columns", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["collate"], name)

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        batch = self.collate(examples)
        masks = [value for key, value in batch.items() if key.endswith("attention_mask")]
        self.lengths.append([int(n) for mask in masks for n in mask.sum(dim=1)])
        return batch


def make_clock() -> Any:
    """Returns a trainer callback that records the time at the end of each step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.times.append(time.perf_counter())

    return Clock()


def with_file_order(trainer: Any) -> Any:
    """Returns a subclass of a trainer class that can run in file order.

    If its attribute `checked` is a list, it reads the examples in file order and appends each step's loss to the list.
    """

    class Checked(trainer):
        checked: list[float] | None = None

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            if self.checked is None:
                return super()._get_train_sampler(*args, **kwargs)
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> Any:
            if self.checked is None:
                return super().get_batch_sampler(dataset, batch_size, drop_last, **kwargs)
            order = torch.utils.data.SequentialSampler(dataset)
            return torch.utils.data.BatchSampler(order, batch_size, drop_last)

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            if self.checked is not None:
                self.checked.append(float(loss[0] if isinstance(loss, tuple) else loss))
            return loss

    return Checked


class Train(PairCase):
    """Times the Hugging Face Trainer as run_glue.py sets it up; the setting `pad` pads to 128, its default."""

    def open(self) -> dict[str, Any]:
        from datasets import Dataset

        logging.disable(logging.WARNING)
        self.data = Dataset.from_list(self.tokenised("train", pad=self.settings.get("pad", False)))
        return {}

    def arguments(self, folder: str, turn: int, steps: int) -> dict[str, Any]:
        """Returns the arguments of the trainer, with pairjax's optimiser settings."""
        return {
            "output_dir": folder,
            "max_steps": steps,
            "per_device_train_batch_size": self.size,
            "learning_rate": 5e-5,
            "warmup_steps": -(-steps // 10),
            "weight_decay": 0.01,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": turn,
        }

    def build(self, arguments: dict[str, Any], **options: Any) -> Any:
        """Builds a trainer of a new model."""
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

        collate = DataCollatorWithPadding(self.tokenizer)
        parts = {"model": self.load_model(), "args": TrainingArguments(**arguments), "train_dataset": self.data}
        return with_file_order(Trainer)(**parts, data_collator=collate, **options)

    def round(self, turn: int) -> dict[str, Any]:
        clock, steps = make_clock(), self.settings["steps"]
        with TemporaryDirectory() as folder:
            trainer = self.build(self.arguments(folder, turn, steps), callbacks=[clock])
            counter = trainer.data_collator = LengthCounter(trainer.data_collator)
            began = time.perf_counter()
            trainer.train()
            whole = time.perf_counter() - began
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        flops = [self.cost.training(lengths, self.size) for lengths in counter.lengths[WARM_UP:steps]]
        return {
            "seconds": clock.times[-1] - clock.times[WARM_UP - 1],
            "count": self.size * (steps - WARM_UP),
            "flops": sum(flops),
            "whole": self.size * steps / whole,
            "loss": float(np.mean(losses[-10:])),
        }

    def check(self) -> dict[str, Any]:
        """Returns the losses of the trainer's first steps, without dropout and with examples in file order."""
        with TemporaryDirectory() as folder:
            clip = self.settings.get("checked_clip", 1.0)
            trainer = self.build(self.arguments(folder, 0, CHECKED_STEPS) | {"max_grad_norm": clip})
            trainer.checked = []
            for module in trainer.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            trainer.train()
        return {"losses": trainer.checked}


class BiTrain(Train):
    """Times sentence-transformers' trainer with SoftmaxLoss, on MiniLM without its normalisation of vectors."""

    def open(self) -> dict[str, Any]:
        from datasets import Dataset

        logging.disable(logging.WARNING)
        first, second, label = self.read_split("train")
        self.data = Dataset.from_dict({"sentence1": first, "sentence2": second, "label": label})
        return {}

    def load_loss(self) -> Any:
        """Returns SoftmaxLoss over a new model, with the shared initial classifier."""
        from sentence_transformers.sentence_transformer.losses import SoftmaxLoss

        model = load_bi_encoder(self.encoder)
        loss = SoftmaxLoss(model, self.cost.hidden, num_labels=len(self.labels))
        start = np.load(self.work / f"{self.name}.bi.npz")
        with torch.no_grad():
            loss.classifier.weight.copy_(torch.from_numpy(start["weight"]))
            loss.classifier.bias.copy_(torch.from_numpy(start["bias"]))
        return loss

    def build(self, arguments: dict[str, Any], **options: Any) -> Any:
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

        loss = self.load_loss()
        trainer = with_file_order(SentenceTransformerTrainer)
        parsed = SentenceTransformerTrainingArguments(**arguments)
        return trainer(loss.model, parsed, train_dataset=self.data, loss=loss, **options)


class FirstStep(Step):
    """Runs a new process up to the end of its first update."""

    def round(self, turn: int) -> dict[str, Any]:
        """Returns nothing: the harness times `open`, and asks for a round only to get the matrix rate."""
        return {}
