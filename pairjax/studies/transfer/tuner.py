"""Fine-tuning on one task from many encoders of one architecture, by one compiled program.

What differs from run to run (where the encoder and the pooler come from, seed, training rows, labels) is an argument of
the program. A run is short, is not checkpointed, and leaves its dev curve and its outputs on test.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

from pairjax.base.config import DataConfig, LossConfig, ModelConfig, OptimConfig
from pairjax.base.params import merge, split
from pairjax.base.types import Batch, DropoutRates, Hypers, PairData, Params
from pairjax.data.encode import encode_split
from pairjax.data.layout import choose_layout, plan_epoch, steps_per_epoch
from pairjax.data.pipeline import make_batch
from pairjax.data.tasks import fit_score_scale, targets_of
from pairjax.data.tokenizer import check_fit, load_tokenizer
from pairjax.inference.logits import make_predict_logits
from pairjax.models.build import build_pair_model, initial_params
from pairjax.population.members import scores_of
from pairjax.step.losses import make_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers, trainable_paths
from pairjax.step.sharding import build_mesh
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from pairjax.weights import LoadedEncoder, load_encoder, read_encoder_spec

Pooler = Literal["keep", "fresh"]
EVAL_BATCH = 32


@dataclass(frozen=True)
class TuneConfig:
    """How each run trains.

    Attributes:
        steps: Updates.
        batch_size: Pairs an update.
        eval_every: Updates between scores on dev.
        learning_rate: Peak rate; linear, a tenth of the steps warm-up.
        weight_decay: Decoupled.
        max_length: Tokens of a joint row.
    """

    steps: int = 150
    batch_size: int = 16
    eval_every: int = 10
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    max_length: int = 64


@dataclass(frozen=True)
class Tuned:
    """What a run leaves.

    Attributes:
        curve: Score on dev after each `eval_every` updates, in points (accuracy, or Spearman's correlation).
        outputs: Of the last parameters on test, [N, C]; scores in the data's own units.
        score: On test, in points; NaN where the run diverged.
    """

    curve: Float64[np.ndarray, " evals"]
    outputs: Float32[np.ndarray, "pairs outputs"]
    score: float


class Tuner:
    """A task's encoded pairs and its compiled programs.

    Attributes:
        task: Regression with the center and scale of all training scores.
        steps: Updates done at each entry of a curve.
    """

    def __init__(self, data: PairData, like: Path, config: TuneConfig) -> None:
        """Encode the task for encoders of one architecture and vocabulary.

        Args:
            data: train, dev and test, all labelled; runs name their rows of train.
            like: Folder of one of the encoders.
            config: Of every run.
        """
        self.config, self.data = config, data
        self.task = fit_score_scale(data.task, data.splits["train"])
        self.spec = read_encoder_spec(like)
        tokenizer = load_tokenizer(like, family=self.spec.family)
        check_fit(config.max_length, spec=self.spec, tokenizer=tokenizer, folder=like)
        model = ModelConfig(kind="cross", pooling="pooler")
        self.encoded = {
            name: encode_split(pairs, tokenizer, model=model, max_length=config.max_length, truncation="longest_first")
            for name, pairs in data.splits.items()
        }
        self.layout = choose_layout(DataConfig(buckets=2), self.encoded["train"].lengths)
        self.fns = build_pair_model(model, self.spec, self.task.outputs)
        # The embeddings stay as they are: most parameters, and few of their rows meet the task's words.
        self.optim = OptimConfig(freeze="embeddings")
        shapes = jax.eval_shape(self.fns.init, jax.random.key(0))
        self.chosen = trainable_paths(self.optim, shapes, pooler_kept=True)
        trainable, _ = split(shapes, self.chosen)
        self.optimizer = build_optimizer(
            self.optim,
            total_steps=config.steps,
            decay=decay_mask(trainable),
            multiplier=rate_multipliers(self.optim, trainable),
        )
        self.step = make_train_step(self._without_dropout, make_loss(LossConfig(), self.task, None), self.optimizer)
        self.predict = make_predict_logits(self.fns, self.task, mesh=build_mesh(jax.devices()[:1]))
        ends = range(config.eval_every, config.steps, config.eval_every)
        self.steps: Int64[np.ndarray, " evals"] = np.array([*ends, config.steps], np.int64)

    def _without_dropout(self, params: Params, batch: Batch, *, key: object = None, rates: object = None) -> jax.Array:
        return self.fns.apply(params, batch)

    @property
    def metric(self) -> str:
        return "accuracy" if self.task.kind == "classification" else "spearman"

    def label(self, name: str) -> np.ndarray:
        """Labels of a split, in the data's own units."""
        label = self.data.splits[name].label
        assert label is not None
        return label

    def read(self, folder: Path) -> LoadedEncoder:
        """An encoder of the architecture, with its pooler where it has one."""
        return load_encoder(folder, self.spec)

    def run(
        self,
        encoder: LoadedEncoder,
        *,
        pooler: Pooler,
        seed: int,
        rows: Int[np.ndarray, " rows"],
        label: np.ndarray | None = None,
    ) -> Tuned:
        """Train and score.

        Args:
            encoder: Where it starts from.
            pooler: The encoder's own, or one drawn by the seed.
            seed: Of the fresh parameters and of the order.
            rows: Of train.
            label: Stands in for the labels of all of train, in the data's own units (noise); the rows' are read.
        """
        kept = encoder.pooler if pooler == "keep" else None
        params, _ = initial_params(self.fns, jax.random.key(seed), encoder=encoder.params, pooler=kept)
        trainable, frozen = split(params, self.chosen)
        state = init_state(trainable, self.optimizer, key=jax.random.key(seed))
        frozen = jax.device_put(frozen, jax.devices()[0])
        zero = DropoutRates(0.0, 0.0, 0.0, 0.0)
        hypers = Hypers(self.config.learning_rate, self.config.weight_decay, 0.0, zero)
        curve: list[float] = []
        for done, batch in enumerate(self._batches(rows, label, seed=seed), start=1):
            state, _ = self.step(state, frozen, batch, hypers)
            if done in self.steps:
                curve.append(self._score("dev", self._outputs(merge(state.params, frozen), "dev")))
        outputs = self._outputs(merge(state.params, frozen), "test")
        return Tuned(np.array(curve), outputs, self._score("test", outputs))

    def _batches(self, rows: np.ndarray, label: np.ndarray | None, *, seed: int) -> Iterator[Batch]:
        encoded, size = self.encoded["train"], self.config.batch_size
        pairs = self.data.splits["train"]
        target = targets_of(self.task, pairs if label is None else replace(pairs, label=label))
        per_epoch, lengths = steps_per_epoch(len(rows), size), encoded.lengths[rows]
        plan_of = lru_cache(maxsize=1)(
            lambda epoch: plan_epoch(seed=seed, epoch=epoch, lengths=lengths, layout=self.layout, batch_size=size)
        )
        for step in range(self.config.steps):
            plan, place = plan_of(step // per_epoch), step % per_epoch
            index = plan.index[place, :, 0]
            chosen = np.where(index >= 0, rows[np.maximum(index, 0)], -1).astype(np.int32)[:, None]
            yield make_batch(encoded, target, chosen, int(plan.length[place]))

    def _outputs(self, params: Params, name: str) -> np.ndarray:
        return self.predict(params, self.encoded[name], layout=self.layout, batch_size=EVAL_BATCH)

    def _score(self, name: str, outputs: np.ndarray) -> float:
        found = scores_of(self.task, outputs[None, None], self.label(name), self.metric)
        return 100.0 * float(found[0, 0])
