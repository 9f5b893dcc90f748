"""Fine-tuning on one task from many encoders of one architecture, with one compiled program.

The runs differ in the encoder, the pooler, the seed, the training pairs and their labels; the program takes these as
arguments. A run is short and writes no checkpoints. It returns its dev curve and its outputs on test.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.model_config import ModelConfig
from pairjax.base.params import merge, split
from pairjax.base.types import Batch, DropoutRates, Hypers, PairData, Params
from pairjax.data.encode import encode_split
from pairjax.data.layout import choose_layout
from pairjax.data.pipeline import train_batches
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
        steps: Number of updates.
        batch_size: Pairs per update.
        eval_every: Updates between two evaluations on dev.
        learning_rate: Peak learning rate, reached after a tenth of the steps; it then falls linearly.
        weight_decay: Decoupled weight decay.
        max_length: Most tokens of a joint sequence.
    """

    steps: int = 150
    batch_size: int = 16
    eval_every: int = 10
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    max_length: int = 64


@dataclass(frozen=True)
class TunedRun:
    """The results of a run.

    Attributes:
        curve: float64 [evaluations]; dev score after each `eval_every` updates, in points (accuracy, or Spearman's
            correlation).
        outputs: float32 [N, C]; outputs of the last parameters on test. Scores are in the data's own units.
        score: Test score in points; NaN if the run diverged.
    """

    curve: Float64[np.ndarray, " evals"]
    outputs: Float32[np.ndarray, "pairs outputs"]
    score: float


class Tuner:
    """The encoded pairs of a task and its compiled programs.

    Attributes:
        task: The task; for regression with the center and scale of all training scores.
        steps: int64 [evaluations]; the number of updates done at each entry of a curve.
    """

    def __init__(self, data: PairData, like: Path, config: TuneConfig) -> None:
        """Encodes the task for encoders of one architecture and vocabulary.

        Args:
            data: Labelled train, dev and test; each run trains on some of the training pairs.
            like: The folder of one of the encoders.
            config: How each run trains.
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
        # The embeddings are most of the parameters, and few of their rows occur in the task: they stay frozen.
        self.optim = OptimConfig(freeze="embeddings")
        shapes = jax.eval_shape(self.fns.init, jax.random.key(0))
        self.trainable = trainable_paths(self.optim, shapes, pooler_kept=True)
        trainable, _ = split(shapes, self.trainable)
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
        """The name of the metric that scores each run."""
        return "accuracy" if self.task.kind == "classification" else "spearman"

    def label(self, name: str) -> np.ndarray:
        """Returns the labels of a split, in the data's own units."""
        label = self.data.splits[name].label
        assert label is not None
        return label

    def read(self, folder: Path) -> LoadedEncoder:
        """Reads an encoder of the architecture, with its pooler if it has one."""
        return load_encoder(folder, self.spec)

    def run(
        self,
        encoder: LoadedEncoder,
        *,
        pooler: Pooler,
        seed: int,
        index: Int[np.ndarray, " subset"],
        label: np.ndarray | None = None,
    ) -> TunedRun:
        """Trains a model and scores it.

        Args:
            encoder: The encoder to start from.
            pooler: Whether to keep the encoder's pooler or to draw a fresh one.
            seed: Seeds the fresh parameters and the order of the pairs.
            index: Indices of the training pairs to use.
            label: Labels of all training pairs, in the data's own units, in place of their own (noise).
        """
        params, _ = initial_params(
            self.fns,
            jax.random.key(seed),
            encoder=encoder.params,
            pooler=encoder.pooler if pooler == "keep" else None,
        )
        trainable, frozen = split(params, self.trainable)
        state = init_state(trainable, self.optimizer, key=jax.random.key(seed))
        frozen = jax.device_put(frozen, jax.devices()[0])
        zero = DropoutRates(0.0, 0.0, 0.0, 0.0)
        hypers = Hypers(self.config.learning_rate, self.config.weight_decay, 0.0, zero)
        pairs = self.data.splits["train"]
        batches = train_batches(
            self.encoded["train"],
            targets_of(self.task, pairs if label is None else replace(pairs, label=label)),
            seed=seed,
            layout=self.layout,
            batch_size=self.config.batch_size,
            start_step=0,
            stop_step=self.config.steps,
            prefetch=0,
            subset=index,
        )
        curve: list[float] = []
        for step, batch in batches:
            state, _ = self.step(state, frozen, batch, hypers)
            if step + 1 in self.steps:
                curve.append(self._score("dev", self._outputs(merge(state.params, frozen), "dev")))
        outputs = self._outputs(merge(state.params, frozen), "test")
        return TunedRun(np.array(curve), outputs, self._score("test", outputs))

    def _outputs(self, params: Params, name: str) -> np.ndarray:
        return self.predict(params, self.encoded[name], layout=self.layout, batch_size=EVAL_BATCH)

    def _score(self, name: str, outputs: np.ndarray) -> float:
        scores = scores_of(self.task, outputs[None, None], self.label(name), self.metric)
        return 100.0 * float(scores[0, 0])
