"""Trains heads on pooled vectors as populations: seeds, rates, decay, dropout, subsets and folds in one program."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig, ProjectConfig
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, PairData, Pairs, Params, TaskSpec
from pairjax.evaluation.clusters import text_clusters
from pairjax.models.build import build_pair_model
from pairjax.models.pool import Pooling
from pairjax.population.engine import MemberProgram
from pairjax.population.features import Features
from pairjax.population.members import Source, TrainPart, assemble, number_pairs
from pairjax.weights import read_encoder_spec, resolve_encoder


@dataclass(frozen=True)
class HeadTask:
    """A task whose texts are pooled vectors.

    Attributes:
        task: The task; for regression with center and scale of the train split.
        spec: The encoder's architecture.
        vectors: float32 [texts, D]; one pooled vector for each text.
        splits: The pairs of each split.
        rows: By split, train first, int32 [N]; the numbers of its examples.
        sides: int32 [all, 2]; the rows of `vectors` that an example's two texts have.
        target: int32 or float32 [all]; what the head learns, 0 if unlabelled.
        pooling: How the vectors were pooled.
        key: SHA-256 of features and labels.
    """

    task: TaskSpec
    spec: EncoderSpec
    vectors: Float[np.ndarray, "texts dim"]
    splits: Mapping[str, Pairs]
    rows: Mapping[str, Int32[np.ndarray, " pairs"]]
    sides: Int32[np.ndarray, "all 2"]
    target: np.ndarray
    pooling: Pooling
    key: str

    def label(self, split: str) -> np.ndarray:
        """Returns the labels of a split, in the data's own units.

        Raises:
            UserError: The split has no labels.
        """
        label = self.splits[split].label
        if label is None:
            raise UserError(f"{split} has no labels")
        return label

    @cached_property
    def test_clusters(self) -> Int[np.ndarray, " test"]:
        """The cluster of each test pair (`text_clusters`)."""
        return text_clusters(self.splits["test"])


def head_task(data: PairData, features: Features) -> HeadTask:
    """Builds a task from pairs and the feature cache of their texts."""
    numbered = number_pairs(data)
    sides = np.concatenate([features.sides(data.splits[name]) for name in numbered.rows])
    digest = hashlib.sha256(features.key.encode() + sides.tobytes() + numbered.describe())
    return HeadTask(
        task=numbered.task,
        spec=read_encoder_spec(resolve_encoder(features.identity["encoder"])),
        vectors=np.asarray(features.pooled).astype(np.float32),
        splits=data.splits,
        rows=numbered.rows,
        sides=sides,
        target=numbered.target,
        pooling=features.identity["pooling"],
        key=digest.hexdigest(),
    )


class PooledSource(Source):
    """Combiner and head on pooled vectors."""

    def __init__(self, task: HeadTask, model: ModelConfig, target: np.ndarray | None) -> None:
        config = replace(model, kind="bi", pooling="mean", pooler=None)
        self.task, self.key, self.train, self.frozen = task.task, task.key, task.rows["train"], {}
        self.fns = build_pair_model(config, task.spec, task.task.outputs, freeze_encoder=True)
        self.arrays = (task.vectors, task.sides)
        self.target = task.target if target is None else target

    def init(self, key: Array) -> Params:
        return self.fns.init_above(key)

    def inputs(self, arrays: Sequence[Array], row: Array, real: Array) -> Mapping[str, Array]:
        vectors, sides = arrays
        return {"cached": jnp.where(real[:, None, None], vectors[sides[row]], 0.0)[:, None]}

    def apply(self, params: Params, batch: Batch, *, key: Array | None, rates: DropoutRates | None) -> Array:
        return self.fns.head_pooled(params, batch.cached, key=key, rates=rates)


def head_program(
    source: HeadTask,
    model: ModelConfig,
    *,
    optim: OptimConfig,
    loss: LossConfig | None = None,
    steps: int,
    dropout: bool,
    target: np.ndarray | None = None,
    parts: Sequence[TrainPart] = (),
) -> MemberProgram:
    """Builds the program of a combiner and a head on the pooled vectors of a task.

    Args:
        source: The task.
        model: Its `combine` and `head` are used.
        optim: Moments, clipping and schedule; the population sets learning rate and decay.
        loss: Cross-entropy or squared error, with class weights; None takes the defaults.
        steps: Number of updates of each run, for the schedule.
        dropout: Whether any member has a dropout rate above 0; otherwise no random bits are drawn.
        target: [all]; replaces the task's targets (noisy labels, for instance).
        parts: As for `assemble`.

    Raises:
        UserError: The model has an interaction, which needs tokens, or a projection; or an option is not supported.
    """
    if model.interact.kind != "none":
        raise UserError(
            "heads on pooled vectors have no interaction", got=f"--model.interact.kind {model.interact.kind}"
        )
    if model.project != ProjectConfig():
        raise UserError("heads on pooled vectors have no projection", got="--model.project")
    pooled = PooledSource(source, model, target)
    return assemble(pooled, optim=optim, loss=loss, steps=steps, dropout=dropout, parts=parts)
