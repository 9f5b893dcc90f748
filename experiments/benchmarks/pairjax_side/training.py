"""pairjax's side of training: the bare step, `pairjax train`, and the first step of a new process."""

import contextlib
import io
import json
import time
from typing import Any

import jax
import numpy as np
from rich.console import Console

import pairjax
from experiments.benchmarks.pairjax_side.case import PairCase, cost_of, sequence_lengths
from pairjax.data.layout import Plan, plan_epoch, steps_per_epoch
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import prepare


class Step(PairCase):
    """Times the bare step over the data's own stream: no evaluation, no checkpoint, no log."""

    def open(self) -> dict[str, Any]:
        self.steps = self.settings["steps"]
        config = self.config(max_steps=1_000_000)
        began = time.perf_counter()
        self.prepared = prepare(config)
        self.job = build_job(config, self.prepared)
        loading = time.perf_counter() - began
        self.state, self.cost = self.job.state, cost_of(self.prepared)
        # Compiles the program of each row length once.
        shapes: set[tuple[int, ...]] = set()
        for _, batch in self.job.batches(0):
            if batch.input_ids.shape not in shapes:
                shapes.add(batch.input_ids.shape)
                self.state, metrics = self.job.step(self.state, batch)
                jax.block_until_ready(metrics)
            if len(shapes) == self.count_row_lengths():
                break
        return {"seconds_to_load": loading, "shapes": sorted(shapes)}

    def count_row_lengths(self) -> int:
        """Returns the number of distinct row lengths in the first epoch."""
        return len(set(self._plan(0).length.tolist()))

    def _plan(self, epoch: int) -> Plan:
        """Plans an epoch as the run does."""
        return plan_epoch(
            seed=0,
            epoch=epoch,
            lengths=self.prepared.encoded["train"].lengths,
            layout=self.prepared.layout,
            batch_size=self.settings["batch_size"],
        )

    def round(self, turn: int) -> dict[str, Any]:
        encoded = self.prepared.encoded["train"]
        index, history = [], []
        began = time.perf_counter()
        for done, (_, batch) in enumerate(self.job.batches(turn * self.steps), start=1):
            self.state, metrics = self.job.step(self.state, batch)
            index.append(batch.example_id[batch.example_id >= 0])
            history.append(metrics)
            if done == self.steps:
                break
        jax.block_until_ready(metrics)
        seconds = time.perf_counter() - began
        pairs = np.concatenate(index)
        return {
            "seconds": seconds,
            "count": len(pairs),
            "flops": self.cost.training(sequence_lengths(encoded, pairs).tolist(), len(pairs)),
            "loss": float(np.mean([float(m["loss_sum"] / m["weight_sum"]) for m in history[-10:]])),
        }


class Train(PairCase):
    """Times the steps of a whole `pairjax train`, with evaluation, checkpoints and logs as its defaults have them."""

    def open(self) -> dict[str, Any]:
        self.round(0)
        return {}

    def round(self, turn: int) -> dict[str, Any]:
        steps, size = self.settings["steps"], self.settings["batch_size"]
        config = self.config(max_steps=steps, seed=turn)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run = pairjax.train(config, console=Console(file=io.StringIO()))
        assert run.result is not None
        train = run.result["train"]
        logged = [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]
        # Only steps that compiled nothing count: all but the first of each row length.
        prepared = prepare(config)
        encoded, cost = prepared.encoded["train"], cost_of(prepared)
        per_epoch = steps_per_epoch(len(encoded), size)
        warm: list[np.ndarray] = []
        compiled: set[int] = set()
        for step in range(steps):
            plan = plan_epoch(
                seed=turn, epoch=step // per_epoch, lengths=encoded.lengths, layout=prepared.layout, batch_size=size
            )
            index, length = plan.index[step % per_epoch], int(plan.length[step % per_epoch])
            if length in compiled:
                warm.append(index[index >= 0])
            compiled.add(length)
        pairs = np.concatenate(warm)
        return {
            "seconds": train["seconds"] - train["compile_seconds"],
            "count": len(pairs),
            "flops": cost.training(sequence_lengths(encoded, pairs).tolist(), len(pairs)),
            "whole": train["examples"] / train["seconds"],
            "loss": float(np.mean([entry["loss"] for entry in logged if "loss" in entry][-10:])),
        }


class FirstStep(PairCase):
    """Runs a new process up to the end of its first update."""

    def open(self) -> dict[str, Any]:
        config = self.config(max_steps=100)
        prepared = prepare(config)
        job = build_job(config, prepared)
        _, batch = next(iter(job.batches(0)))
        _, metrics = job.step(job.state, batch)
        return {"loss": float(metrics["loss_sum"] / metrics["weight_sum"])}

    def round(self, turn: int) -> dict[str, Any]:
        """Returns nothing: the harness times `open`, and asks for a round only to get the matrix rate."""
        return {}
