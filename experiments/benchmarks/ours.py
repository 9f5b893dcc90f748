"""Our side of each case: pairjax as its users run it."""

import contextlib
import io
import json
import os
import sys
import time
from typing import Any

import jax
import numpy as np
from ours_case import Case, cost_of, forward_flops, matrix_rate, sequences
from protocol import Worker, serve
from rich.console import Console

import pairjax
from pairjax.data.encode import encode_split
from pairjax.data.layout import plan_epoch, steps_per_epoch
from pairjax.data.pipeline import train_batches
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import prepare


class Step(Case):
    """The bare step over the data's own stream: no evaluation, no checkpoint, no log."""

    def open(self) -> dict[str, Any]:
        self.steps = self.settings["steps"]
        config = self.config(max_steps=1_000_000)
        began = time.perf_counter()
        self.prepared = prepare(config)
        self.job = build_job(config, self.prepared)
        loading = time.perf_counter() - began
        self.state, self.cost = self.job.state, cost_of(self.prepared)
        # Each row length once, whichever batches have it.
        seen: set[tuple[int, ...]] = set()
        for _, batch in self.job.batches(0):
            if batch.input_ids.shape not in seen:
                seen.add(batch.input_ids.shape)
                self.state, metrics = self.job.step(self.state, batch)
                jax.block_until_ready(metrics)
            if len(seen) == self.lengths():
                break
        return {"seconds_to_load": loading, "shapes": sorted(seen)}

    def lengths(self) -> int:
        """How many row lengths the first epoch has."""
        return len(set(self._plan(0).length.tolist()))

    def _plan(self, epoch: int) -> Any:
        return plan_epoch(
            seed=0,
            epoch=epoch,
            lengths=self.prepared.encoded["train"].lengths,
            layout=self.prepared.layout,
            batch_size=self.settings["batch_size"],
        )

    def round(self, turn: int) -> dict[str, Any]:
        encoded = self.prepared.encoded["train"]
        seen, losses = [], []
        began = time.perf_counter()
        for done, (_, batch) in enumerate(self.job.batches(turn * self.steps), start=1):
            self.state, metrics = self.job.step(self.state, batch)
            seen.append(batch.example_id[batch.example_id >= 0])
            losses.append(metrics)
            if done == self.steps:
                break
        jax.block_until_ready(metrics)
        seconds = time.perf_counter() - began
        pairs = np.concatenate(seen)
        return {
            "seconds": seconds,
            "count": len(pairs),
            "flops": self.cost.training(sequences(encoded, pairs).tolist(), len(pairs)),
            "loss": float(np.mean([float(m["loss_sum"] / m["weight_sum"]) for m in losses[-10:]])),
        }


class Train(Case):
    """`pairjax train` whole: evaluation, checkpoint and log where its defaults have them, the time of its steps."""

    def open(self) -> dict[str, Any]:
        self.round(0)
        return {}

    def round(self, turn: int) -> dict[str, Any]:
        steps, size = self.settings["steps"], self.settings["batch_size"]
        config = self.config(max_steps=steps, seed=turn)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            done = pairjax.train(config, console=Console(file=io.StringIO()))
        assert done.result is not None
        train = done.result["train"]
        logged = [json.loads(line) for line in (done.dir / "metrics.jsonl").read_text().splitlines()]
        prepared = prepare(config)
        encoded, cost = prepared.encoded["train"], cost_of(prepared)
        per_epoch = steps_per_epoch(len(encoded), size)
        warm: list[np.ndarray] = []
        seen: set[int] = set()
        for step in range(steps):
            plan = plan_epoch(
                seed=turn, epoch=step // per_epoch, lengths=encoded.lengths, layout=prepared.layout, batch_size=size
            )
            index, length = plan.index[step % per_epoch], int(plan.length[step % per_epoch])
            if length in seen:
                warm.append(index[index >= 0])
            seen.add(length)
        pairs = np.concatenate(warm)
        return {
            "seconds": train["seconds"] - train["compile_seconds"],
            "count": len(pairs),
            "flops": cost.training(sequences(encoded, pairs).tolist(), len(pairs)),
            "whole": train["examples"] / train["seconds"],
            "loss": float(np.mean([entry["loss"] for entry in logged if "loss" in entry][-10:])),
        }


class Predict(Case):
    """`pairjax.load`, then outputs for every pair of the test split."""

    def open(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.model = pairjax.load(self.work / f"{self.name}.{self.kind}")
        loading = time.perf_counter() - began
        rows = (self.work / self.name / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
        cells = [row.split("\t") for row in rows][: self.settings["most"]]
        self.first, self.second = [c[0] for c in cells], [c[1] for c in cells]
        self._outputs()
        return {"seconds_to_load": loading}

    def _outputs(self) -> np.ndarray:
        if self.model._sides is not None:
            # A text repeated within a call is encoded once; what an earlier call read must not count.
            self.model._sides.forget()
        return np.asarray(self.model.outputs(self.first, self.second, batch_size=self.settings["batch_size"]))

    def check(self) -> dict[str, Any]:
        path = self.work / "ours.npy"
        np.save(path, self._outputs())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._outputs()
        seconds = time.perf_counter() - began
        flops = forward_flops(self.model, self.first, self.second)
        return {"seconds": seconds, "count": len(self.first), "flops": flops}


class Pipeline(Case):
    """Batches alone: from token arrays to what the step takes, with the run's own prefetching."""

    def open(self) -> dict[str, Any]:
        config = self.config()
        self.prepared = prepare(config)
        return {}

    def check(self) -> dict[str, Any]:
        return {}

    def round(self, turn: int) -> dict[str, Any]:
        config, encoded = self.config(), self.prepared.encoded["train"]
        pairs = self.prepared.data.splits["train"]
        began = time.perf_counter()
        again = encode_split(
            pairs, self.prepared.tokenizer, model=config.model, max_length=128, truncation="longest_first"
        )
        tokenising = time.perf_counter() - began
        steps = steps_per_epoch(len(again), config.train.batch_size) * self.settings["epochs"]
        began = time.perf_counter()
        count = 0
        for _, batch in train_batches(
            encoded,
            self.prepared.targets["train"],
            seed=turn,
            layout=self.prepared.layout,
            batch_size=config.train.batch_size,
            start_step=0,
            stop_step=steps,
        ):
            count += int((batch.example_id >= 0).sum())
        return {
            "seconds": time.perf_counter() - began,
            "count": count,
            "flops": 0.0,
            "tokenised_per_second": len(again) / tokenising,
        }


class FirstStep(Case):
    """A fresh process up to the end of its first update."""

    def open(self) -> dict[str, Any]:
        config = self.config(max_steps=100)
        prepared = prepare(config)
        job = build_job(config, prepared)
        _, batch = next(iter(job.batches(0)))
        _, metrics = job.step(job.state, batch)
        return {"loss": float(metrics["loss_sum"] / metrics["weight_sum"])}

    def round(self, turn: int) -> dict[str, Any]:
        """Nothing: the harness times the opening, and asks for the matrix rate that goes before a round."""
        return {}


CASES: dict[str, type[Worker]] = {
    "step": Step,
    "train": Train,
    "predict": Predict,
    "pipeline": Pipeline,
    "first_step": FirstStep,
}


def worker(name: str) -> type[Worker]:
    """The side of a case; the modules of others are not imported, since `first_step` would pay for them."""
    if name in CASES:
        return CASES[name]
    if name == "pretrain":
        from ours_pretrain import Pretrain

        return Pretrain
    from ours_more import CASES as MORE

    return MORE[name]


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    serve(worker(sys.argv[1]), matrix_rate)
