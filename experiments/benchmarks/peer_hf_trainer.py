"""The Hugging Face Trainer on sentence pairs, as its text-classification example sets it up (extra `bench`).

Prints one line of JSON: pairs/s over the whole of `train()`, and over its steps after the first few; the loss of the
last steps. Dynamic padding to each batch's longest pair, or with --pad to 128 as run_glue.py does by default.
"""

import argparse
import csv
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

WARM = 5


class Clock(TrainerCallback):
    """The time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.times.append(time.monotonic())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True, help="TSV with sentence1, sentence2, label")
    parser.add_argument("--encoder", required=True, help="Hugging Face folder")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--pad", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with options.train.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    encoded = tokenizer(
        [row["sentence1"] for row in rows],
        [row["sentence2"] for row in rows],
        truncation=True,
        max_length=128,
        padding="max_length" if options.pad else False,
    )
    data = Dataset.from_dict({**encoded, "label": [names.index(row["label"]) for row in rows]})
    model = AutoModelForSequenceClassification.from_pretrained(options.encoder, num_labels=len(names))
    clock = Clock()
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                max_steps=options.steps,
                per_device_train_batch_size=options.batch_size,
                learning_rate=5e-5,
                warmup_steps=round(0.1 * options.steps),
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[clock],
        )
        began = time.monotonic()
        trainer.train()
        whole = time.monotonic() - began
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    warm = options.batch_size * (options.steps - WARM) / (clock.times[-1] - clock.times[WARM - 1])
    print(
        json.dumps(
            {
                "pairs_per_second": options.batch_size * options.steps / whole,
                "warm_pairs_per_second": warm,
                "loss": sum(losses[-10:]) / len(losses[-10:]),
            }
        )
    )


if __name__ == "__main__":
    main()
