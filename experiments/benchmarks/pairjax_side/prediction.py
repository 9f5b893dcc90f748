"""pairjax's side of prediction, and of evaluation during training."""

import time
from dataclasses import replace
from typing import Any

import numpy as np

import pairjax
from experiments.benchmarks.pairjax_side.case import PairCase, cost_of, forward_flops, sequence_lengths
from pairjax.base.config import Config
from pairjax.base.data_config import DataConfig
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import prepare
from pairjax.inference.logits import make_predict_logits


class Predict(PairCase):
    """Times the outputs of a model from `pairjax.load` for every pair of the test split."""

    def open(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.model = pairjax.load(self.work / f"{self.name}.{self.kind}")
        loading = time.perf_counter() - began
        lines = (self.work / self.name / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
        cells = [line.split("\t") for line in lines][: self.settings["most"]]
        self.first, self.second = [c[0] for c in cells], [c[1] for c in cells]
        self._outputs()
        return {"seconds_to_load": loading}

    def _outputs(self) -> np.ndarray:
        """Computes the outputs of all pairs, float32 [N, outputs]."""
        # A text repeated within a call is encoded once. Texts cached by an earlier call must not speed this one up.
        self.model.forget()
        return np.asarray(self.model.outputs(self.first, self.second, batch_size=self.settings["batch_size"]))

    def check(self) -> dict[str, Any]:
        path = self.work / "pairjax.npy"
        np.save(path, self._outputs())
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._outputs()
        seconds = time.perf_counter() - began
        flops = forward_flops(self.model, self.first, self.second)
        return {"seconds": seconds, "count": len(self.first), "flops": flops}


class Evaluation(PairCase):
    """Times the training loop's evaluation on dev: the outputs of every pair, and the scores."""

    def config(self, **train: Any) -> Config:
        config = super().config(**train)
        data = DataConfig(train=str(self.work / self.name / "train.tsv"), dev=str(self.work / "evaluation.tsv"))
        return replace(config, data=data, evaluation=replace(config.evaluation, batch_size=self.settings["batch_size"]))

    def open(self) -> dict[str, Any]:
        lines = (self.work / self.name / "test.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (self.work / "evaluation.tsv").write_text("".join(lines[: 1 + self.settings["most"]]), encoding="utf-8")
        config = self.config(max_steps=1)
        self.prepared = prepare(config)
        self.job = build_job(config, self.prepared)
        self.state = self.job.state
        self.job.evaluate(self.state)
        return {}

    def check(self) -> dict[str, Any]:
        path = self.work / "pairjax.npy"
        predict = make_predict_logits(self.prepared.fns, self.prepared.task, mesh=self.job.mesh)
        outputs = predict(
            self.job.params(self.state),
            self.prepared.encoded["dev"],
            layout=self.prepared.layout,
            batch_size=self.settings["batch_size"],
        )
        np.save(path, outputs)
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        encoded = self.prepared.encoded["dev"]
        began = time.perf_counter()
        self.job.evaluate(self.state)
        seconds = time.perf_counter() - began
        lengths = sequence_lengths(encoded, np.arange(len(encoded))).tolist()
        flops = cost_of(self.prepared).forward(lengths, len(encoded))
        return {"seconds": seconds, "count": len(encoded), "flops": flops}
