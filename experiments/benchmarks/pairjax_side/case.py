"""The parts that pairjax's workers share: matrix rate, cost of a model, config of a case, losses of the first steps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.shared.constants import CHECKED_STEPS
from experiments.benchmarks.shared.flops import Cost
from experiments.benchmarks.shared.protocol import time_fastest
from experiments.benchmarks.workload.pairs import NO_DROPOUT, model_config
from pairjax.base.config import Config, EvalConfig, RunConfig, TrainConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.types import Params
from pairjax.data.encode import EncodedPairs
from pairjax.data.pipeline import make_batch
from pairjax.finetune.job import build_job
from pairjax.finetune.prepare import Prepared, prepare
from pairjax.inference.classifier import PairClassifier
from pairjax.step.compilation import use_compilation_cache


def measure_matrix_rate(seconds: float = 0.8, size: int = 1536) -> float:
    """Returns the rate of XLA's float32 matrix products in GFLOP/s.

    The fastest product counts, since other processes on the machine can only slow one down.
    """
    x = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), jnp.float32)
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(x, x))
    return 2.0 * size**3 / time_fastest(lambda: jax.block_until_ready(product(x, x)), seconds) / 1e9


def sequence_lengths(encoded: EncodedPairs, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the lengths of the sequences that the encoder reads for some pairs: one a pair if cross, two if bi."""
    index = np.asarray(index, np.int64)
    lengths, first = encoded.lengths[index], encoded.first_length[index]
    return lengths if encoded.kind == "cross" else np.concatenate([first, lengths - first])


def count_matrices_above(params: Params) -> int:
    """Returns the number of parameters in the matrices above the encoder."""
    above = {name: tree for name, tree in params.items() if name != "encoder"}
    return sum(leaf.size for leaf in jax.tree.leaves(above) if leaf.ndim == 2)


def cost_of(prepared: Prepared) -> Cost:
    """Returns the cost of a pair model with a linear head."""
    spec = prepared.spec
    return Cost(spec.num_layers, spec.hidden_size, spec.intermediate_size, count_matrices_above(prepared.params))


def forward_flops(model: PairClassifier, first: Sequence[str], second: Sequence[str]) -> float:
    """Returns the operations of classifying pairs; a bi-encoder reads each distinct text once."""
    spec, encoded = model.artifact.spec, model.encode(first, second)
    lengths = sequence_lengths(encoded, np.arange(len(first)))
    if encoded.kind == "bi":
        _, places = np.unique(np.asarray([*first, *second]), return_index=True)
        lengths = lengths[places]
    above = count_matrices_above(model.artifact.params)
    cost = Cost(spec.num_layers, spec.hidden_size, spec.intermediate_size, above)
    return cost.forward(lengths.tolist(), len(first))


class PairCase:
    """Base of the workers that run on a set of pairs."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.work = Path(settings["work"])
        self.name, self.kind = settings["set"], settings["kind"]
        self.meta = json.loads((self.work / "meta.json").read_text())
        use_compilation_cache(settings.get("cache") or str(self.work / "xla"))

    def config(self, **train: Any) -> Config:
        """Builds the case's config from the defaults of `pairjax train`."""
        folder = self.work / self.name
        return Config(
            data=DataConfig(path=str(folder), **self.settings.get("data", {})),
            model=replace(model_config(self.kind), encoder=self.meta["encoder"]),
            train=TrainConfig(batch_size=self.settings["batch_size"], **train),
            evaluation=EvalConfig(bootstrap=100, swap=False, fit=False),
            run=RunConfig(dir=str(self.work / "run"), overwrite=True, progress=False),
        )

    def check(self) -> dict[str, Any]:
        """Returns the losses of the first steps, without dropout and with batches in file order."""
        config = self.config(max_steps=CHECKED_STEPS)
        optim = replace(config.optim, clip_norm=self.settings.get("checked_clip", config.optim.clip_norm))
        config = replace(config, model=replace(config.model, dropout=NO_DROPOUT), optim=optim)
        prepared = prepare(config)
        job = build_job(config, prepared)
        state, losses, size = job.state, [], config.train.batch_size
        encoded, label = prepared.encoded["train"], prepared.targets["train"]
        for step in range(CHECKED_STEPS):
            index = np.arange(step * size, (step + 1) * size, dtype=np.int32)[:, None] % len(encoded)
            length = int(encoded.lengths[index].max())
            row_length = next(rung for rung in (*prepared.layout.ladder, length) if rung >= length)
            state, metrics = job.step(state, make_batch(encoded, label, index, row_length))
            losses.append(float(metrics["loss_sum"]) / float(metrics["weight_sum"]))
        return {"losses": losses}
