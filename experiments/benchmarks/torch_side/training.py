"""The torch side of each case: the tools as their users run them. Needs the extra `bench`, and nothing of pairjax."""

import logging
import os
import sys
import time
import warnings
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import numpy as np
import torch

from experiments.benchmarks.shared.protocol import Worker, serve
from experiments.benchmarks.torch_side.case import CHECKED, Case, matrix_rate, optimiser
from experiments.benchmarks.torch_side.populations import CASES as MORE
from experiments.benchmarks.torch_side.pretraining import CASES as PRETRAINING

WARM = 5
"""Steps of a trainer's run that are not counted."""


class Step(Case):
    """A plain loop: shuffled batches, each padded to its own longest pair, AdamW, clipping, schedule."""

    def open(self) -> dict[str, Any]:
        from transformers import DataCollatorWithPadding

        began = time.perf_counter()
        self.data = self.tokenised("train", pad=self.settings.get("pad", False))
        self.model = self.load_model()
        loading = time.perf_counter() - began
        self.collate = DataCollatorWithPadding(self.tokenizer)
        self.adam, self.schedule = optimiser(self.model, 1_000_000)
        self.model.train()
        self._update(self.collate(self.data[: self.size]))
        return {"seconds_to_load": loading}

    def _update(self, batch: dict[str, torch.Tensor]) -> float:
        loss = self.model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.schedule.step()
        self.adam.zero_grad()
        return float(loss)

    def check(self) -> dict[str, Any]:
        self.model = self.load_model().eval()
        self.adam, self.schedule = optimiser(self.model, CHECKED)
        losses = []
        for step in range(CHECKED):
            index = [i % len(self.data) for i in range(step * self.size, (step + 1) * self.size)]
            losses.append(self._update(self.collate([self.data[i] for i in index])))
        self.model = self.load_model().train()
        self.adam, self.schedule = optimiser(self.model, 1_000_000)
        return {"losses": losses}

    def round(self, turn: int) -> dict[str, Any]:
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(turn)).tolist()
        lengths, losses = [], []
        began = time.perf_counter()
        for step in range(self.settings["steps"]):
            index = [order[i % len(order)] for i in range(step * self.size, (step + 1) * self.size)]
            losses.append(self._update(self.collate([self.data[i] for i in index])))
            lengths += index
        seconds = time.perf_counter() - began
        tokens = [len(self.data[i]["input_ids"]) for i in lengths]
        return {
            "seconds": seconds,
            "count": len(tokens),
            "flops": self.cost.training(tokens, len(tokens)),
            "loss": float(np.mean(losses[-10:])),
        }


class Counted:
    """A collator that notes how long the sequences of each batch are, padding left out."""

    def __init__(self, collate: Any) -> None:
        self.collate, self.lengths = collate, []
        # sentence-transformers' trainer looks these up on its collator.
        self.valid_label_columns = getattr(collate, "valid_label_columns", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["collate"], name)

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        batch = self.collate(rows)
        masks = [value for key, value in batch.items() if key.endswith("attention_mask")]
        self.lengths.append([int(n) for mask in masks for n in mask.sum(dim=1)])
        return batch


def clock() -> Any:
    """A callback with the time at the end of each step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.times.append(time.perf_counter())

    return Clock()


def in_file_order(trainer: Any) -> Any:
    """A trainer's class that, given a list as `checked`, takes the rows in their order and notes each step's loss."""

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
            found = super().compute_loss(*args, **kwargs)
            if self.checked is not None:
                self.checked.append(float(found[0] if isinstance(found, tuple) else found))
            return found

    return Checked


class Train(Case):
    """The Hugging Face Trainer as run_glue.py sets it up; `pad` pads to 128, its default."""

    def open(self) -> dict[str, Any]:
        from datasets import Dataset

        logging.disable(logging.WARNING)
        rows = self.tokenised("train", pad=self.settings.get("pad", False))
        self.data = Dataset.from_list(rows)
        return {}

    def arguments(self, folder: str, turn: int, steps: int) -> dict[str, Any]:
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

    def build(self, arguments: dict[str, Any], **more: Any) -> Any:
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

        collate = DataCollatorWithPadding(self.tokenizer)
        parts = {"model": self.load_model(), "args": TrainingArguments(**arguments), "train_dataset": self.data}
        return in_file_order(Trainer)(**parts, data_collator=collate, **more)

    def round(self, turn: int) -> dict[str, Any]:
        timer, steps = clock(), self.settings["steps"]
        with TemporaryDirectory() as folder:
            trainer = self.build(self.arguments(folder, turn, steps), callbacks=[timer])
            counted = trainer.data_collator = Counted(trainer.data_collator)
            began = time.perf_counter()
            trainer.train()
            whole = time.perf_counter() - began
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        flops = [self.cost.training(lengths, self.size) for lengths in counted.lengths[WARM:steps]]
        return {
            "seconds": timer.times[-1] - timer.times[WARM - 1],
            "count": self.size * (steps - WARM),
            "flops": sum(flops),
            "whole": self.size * steps / whole,
            "loss": float(np.mean(losses[-10:])),
        }

    def check(self) -> dict[str, Any]:
        """Losses of the trainer's own first steps, rows in file order, without dropout."""
        with TemporaryDirectory() as folder:
            clip = self.settings.get("checked_clip", 1.0)
            trainer = self.build(self.arguments(folder, 0, CHECKED) | {"max_grad_norm": clip})
            trainer.checked = []
            for module in trainer.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            trainer.train()
        return {"losses": trainer.checked}


class BiTrain(Train):
    """sentence-transformers' trainer with SoftmaxLoss, on MiniLM without its normalisation of vectors."""

    def open(self) -> dict[str, Any]:
        from datasets import Dataset

        logging.disable(logging.WARNING)
        first, second, label = self.rows("train")
        self.data = Dataset.from_dict({"sentence1": first, "sentence2": second, "label": label})
        return {}

    def load_loss(self) -> Any:
        from sentence_transformers.sentence_transformer.losses import SoftmaxLoss

        model = load_bi(self.encoder)
        loss = SoftmaxLoss(model, self.cost.hidden, num_labels=len(self.labels))
        start = np.load(self.work / f"{self.name}.bi.npz")
        with torch.no_grad():
            loss.classifier.weight.copy_(torch.from_numpy(start["weight"]))
            loss.classifier.bias.copy_(torch.from_numpy(start["bias"]))
        return loss

    def build(self, arguments: dict[str, Any], **more: Any) -> Any:
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

        loss = self.load_loss()
        made = SentenceTransformerTrainingArguments(**arguments)
        trainer = in_file_order(SentenceTransformerTrainer)
        return trainer(loss.model, made, train_dataset=self.data, loss=loss, **more)


def load_bi(encoder: str) -> Any:
    """MiniLM with mean pooling and nothing after it."""
    from sentence_transformers import SentenceTransformer, models

    transformer = models.Transformer(encoder, max_seq_length=128)
    return SentenceTransformer(
        modules=[transformer, models.Pooling(transformer.get_word_embedding_dimension(), "mean")], device="cpu"
    )


class Predict(Case):
    """`CrossEncoder.predict`, which sorts by length."""

    def open(self) -> dict[str, Any]:
        from sentence_transformers import CrossEncoder

        began = time.perf_counter()
        self.model = CrossEncoder(
            str(self.work / f"{self.name}.torch"), max_length=128, device="cpu", activation_fn=torch.nn.Identity()
        )
        loading = time.perf_counter() - began
        first, second, _ = self.rows("test")
        most = self.settings["most"]
        self.first, self.second = first[:most], second[:most]
        self.outputs(256)
        return {"seconds_to_load": loading}

    def outputs(self, most: int | None = None) -> np.ndarray:
        pairs = list(zip(self.first[:most], self.second[:most], strict=True))
        return np.asarray(self.model.predict(pairs, batch_size=self.size, show_progress_bar=False))

    def check(self) -> dict[str, Any]:
        path = self.work / "peer.npy"
        np.save(path, self.outputs())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self.outputs()
        return {"seconds": time.perf_counter() - began, "count": len(self.first)}


class BiPredict(Predict):
    """`SentenceTransformer.encode` of both sides, then the classifier."""

    def open(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.model = load_bi(self.encoder)
        loading = time.perf_counter() - began
        start = np.load(self.work / f"{self.name}.bi.npz")
        self.weight, self.bias = torch.from_numpy(start["weight"]), torch.from_numpy(start["bias"])
        first, second, _ = self.rows("test")
        most = self.settings["most"]
        self.first, self.second = first[:most], second[:most]
        self.outputs(256)
        return {"seconds_to_load": loading}

    def outputs(self, most: int | None = None) -> np.ndarray:
        options = {"batch_size": self.size, "convert_to_tensor": True, "show_progress_bar": False}
        u, v = (self.model.encode(side[:most], **options) for side in (self.first, self.second))
        features = torch.cat([u, v, (u - v).abs()], dim=1)
        return (features @ self.weight.T + self.bias).numpy()


class Pipeline(Case):
    """Tokenised rows through a DataLoader with dynamic padding."""

    def open(self) -> dict[str, Any]:
        from datasets import Dataset

        self.data = Dataset.from_list(self.tokenised("train"))
        return {}

    def check(self) -> dict[str, Any]:
        return {}

    def round(self, turn: int) -> dict[str, Any]:
        from transformers import DataCollatorWithPadding

        first, second, _ = self.rows("train")
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


class FirstStep(Step):
    """A fresh process up to the end of its first update."""

    def round(self, turn: int) -> dict[str, Any]:
        """Nothing: the harness times the opening, and asks for the matrix rate that goes before a round."""
        return {}


CASES: dict[str, type[Worker]] = {
    "step": Step,
    "train": Train,
    "bi_train": BiTrain,
    "predict": Predict,
    "bi_predict": BiPredict,
    "pipeline": Pipeline,
    "first_step": FirstStep,
    **PRETRAINING,
    **MORE,
}

if __name__ == "__main__":
    serve(CASES[sys.argv[1]], matrix_rate)
