"""pairjax's side of pretraining: the compiled step over the run's own stream, which draws and masks segments."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.shared.constants import CHECKED_STEPS, PRETRAINING
from experiments.benchmarks.shared.flops import Cost
from experiments.benchmarks.workload.pairs import NO_DROPOUT
from experiments.benchmarks.workload.pretraining import pretrain_config
from pairjax.base.pretrain_config import PretrainConfig
from pairjax.pretrain.job import build_pretraining_job
from pairjax.pretrain.prepare import prepare_pretraining
from pairjax.run.loop import Job
from pairjax.step.compilation import use_compilation_cache


class Pretrain:
    """Times the bare step over the data's own stream: no evaluation, no checkpoint, no log."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.steps = settings["steps"]
        self.work = Path(settings["work"])
        self.meta = json.loads((self.work / "meta.json").read_text())[PRETRAINING]
        use_compilation_cache(str(self.work / "xla"))

    def build(self, config: PretrainConfig) -> Job:
        """Prepares the data and builds the job of a run."""
        self.prepared = prepare_pretraining(config)
        return build_pretraining_job(config, self.prepared)

    def open(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.job = self.build(pretrain_config(self.work, self.meta["corpus"]))
        loading = time.perf_counter() - began
        self.cost = Cost(**self.meta["cost"])
        self.state, metrics = self.job.step(self.job.state, next(self.job.batches(0))[1])
        jax.block_until_ready(metrics)
        return {"seconds_to_load": loading}

    def check(self) -> dict[str, Any]:
        """Returns the losses of the first steps without dropout."""
        config = pretrain_config(self.work, self.meta["corpus"])
        config = replace(config, model=replace(config.model, dropout=NO_DROPOUT))
        job = self.build(config)
        state, losses = job.state, []
        for _, batch in job.batches(0):
            state, metrics = job.step(state, batch)
            losses.append(float(np.sum(np.asarray(metrics["loss_sum"]) / np.asarray(metrics["weight_sum"]))))
            if len(losses) == CHECKED_STEPS:
                break
        return {"losses": losses}

    def round(self, turn: int) -> dict[str, Any]:
        lengths, masked, history = [], 0, []
        first = turn * self.steps % self.meta["batches"]
        began = time.perf_counter()
        for done, (_, batch) in enumerate(self.job.batches(first), start=1):
            self.state, metrics = self.job.step(self.state, batch)
            history.append(metrics)
            lengths += (batch.pair_ids > 0).sum(axis=1).tolist()
            masked += int(batch.masked_weights.sum())
            if done == self.steps:
                break
        jax.block_until_ready(metrics)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "count": sum(lengths),
            "flops": self.cost.training(lengths, len(lengths), masked=masked),
            "loss": float(np.mean([np.sum(m["loss_sum"] / m["weight_sum"]) for m in history[-10:]])),
        }
