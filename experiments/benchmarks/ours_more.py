"""Our side of evaluation, of loading an encoder, and of populations of heads."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from heads import Heads, heads_cost
from ours_case import CHECKED, Case, cost_of, sequences
from protocol import Worker
from workload_more import HEADS, head_runs

from pairjax.base.config import Config, DataConfig, ModelConfig
from pairjax.data.encode import encode_pairs
from pairjax.data.pipeline import make_batch
from pairjax.data.tokenizer import load_tokenizer
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import prepare
from pairjax.inference.logits import make_predict_logits
from pairjax.models.build import build_pair_model
from pairjax.population.engine import MemberProgram, Trained, train_population
from pairjax.step.compilation import use_compilation_cache
from pairjax.weights import load_encoder, read_encoder_spec


class Evaluation(Case):
    """What the training loop does on dev: outputs of every pair, and the scores."""

    def config(self, **train: Any) -> Config:
        found = super().config(**train)
        data = DataConfig(train=str(self.work / self.name / "train.tsv"), dev=str(self.work / "evaluation.tsv"))
        return replace(found, data=data, evaluation=replace(found.evaluation, batch_size=self.settings["batch_size"]))

    def open(self) -> dict[str, Any]:
        rows = (self.work / self.name / "test.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (self.work / "evaluation.tsv").write_text("".join(rows[: 1 + self.settings["most"]]), encoding="utf-8")
        config = self.config(max_steps=1)
        self.prepared = prepare(config)
        self.job = build_job(config, self.prepared)
        self.state = self.job.state
        self.job.evaluate(self.state)
        return {}

    def check(self) -> dict[str, Any]:
        path = self.work / "ours.npy"
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
        lengths = sequences(encoded, np.arange(len(encoded))).tolist()
        flops = cost_of(self.prepared).forward(lengths, len(encoded))
        return {"seconds": seconds, "count": len(encoded), "flops": flops}


class Loading:
    """From an encoder's folder to tokeniser and parameters on the device, libraries imported."""

    TEXT = "Two dogs are running on the beach, and nobody is asleep."

    def __init__(self, settings: dict[str, Any]) -> None:
        self.work = Path(settings["work"])
        self.folder = Path(json.loads((self.work / "meta.json").read_text())["encoder"])
        use_compilation_cache(str(self.work / "xla"))

    def open(self) -> dict[str, Any]:
        self._load()
        return {}

    def _load(self) -> tuple[Any, Any, Any]:
        spec = read_encoder_spec(self.folder)
        tokenizer = load_tokenizer(self.folder, family=spec.family)
        params = jax.block_until_ready(jax.device_put(load_encoder(self.folder, spec).params))
        return spec, tokenizer, params

    def check(self) -> dict[str, Any]:
        """Hidden states of a text."""
        spec, tokenizer, params = self._load()
        encoded = encode_pairs([self.TEXT], [""], tokenizer, kind="bi", max_length=128)
        length = int(encoded.first_length[0])
        fns = build_pair_model(ModelConfig(kind="bi", pooling="mean"), spec, 1)
        batch = make_batch(encoded, None, np.zeros((1, 1), np.int32), int(encoded.lengths[0]))
        hidden = np.asarray(jax.jit(fns.encode)({"encoder": params}, batch))[0, :length]
        path = self.work / "ours.npy"
        np.save(path, hidden)
        return {"outputs": str(path)}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._load()
        return {"seconds": time.perf_counter() - began, "count": 1, "flops": 0.0}


class Populations:
    """Heads on cached vectors: seeds x rates as one program."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.work = settings, Path(settings["work"])
        use_compilation_cache(str(self.work / "xla"))

    def open(self) -> dict[str, Any]:
        self.heads = Heads.read(self.work / f"{HEADS}.npz")
        self.program, self.runs, self.dev = head_runs(self.work, steps=self.settings["steps"])
        self._train(self.program)
        return {}

    def _train(self, program: MemberProgram) -> Trained:
        return train_population(program, self.runs, evaluate={"dev": self.dev})

    def check(self) -> dict[str, Any]:
        """Losses of the first steps, of the first and the last head."""
        loss = self._train(self.program).loss
        return {"losses": [float(x) for x in (*loss[0, 0, :CHECKED], *loss[-1, -1, :CHECKED])]}

    def round(self, turn: int) -> dict[str, Any]:
        began = time.perf_counter()
        self._train(self.program)
        seconds = time.perf_counter() - began
        # A program of its own is traced anew, and what was compiled is read from the cache.
        began = time.perf_counter()
        self._train(replace(self.program))
        count = self.heads.count
        whole = count / (time.perf_counter() - began)
        return {"seconds": seconds, "count": count, "whole": whole} | heads_cost(self.heads, count)


CASES: dict[str, type[Worker]] = {"evaluation": Evaluation, "loading": Loading, "populations": Populations}
