"""Heads on cached features as populations: seeds, rates, decay, dropout, subsets and folds in one program."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from pairjax.base.config import LossConfig, ModelConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Batch, EncoderSpec, PairData, Pairs, Params, TaskSpec
from pairjax.data.folds import text_clusters
from pairjax.models.build import build_pair_model
from pairjax.models.pool import Pooling
from pairjax.population.engine import MemberProgram
from pairjax.population.features import Features
from pairjax.population.members import assemble, number_pairs
from pairjax.weights import read_encoder_spec, resolve_encoder


@dataclass(frozen=True)
class HeadTask:
    """A task whose texts are vectors.

    Attributes:
        task: Classes, or scores with their center and scale.
        spec: Of the encoder.
        vectors: float32 [texts, D].
        splits: The pairs.
        rows: By split, int32 [N]: the numbers of its pairs among all, train first.
        sides: int32 [all, 2], rows of `vectors`.
        target: int32 or float32 [all], what a head learns; 0 where unlabelled.
        pooling: Of the vectors.
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
        """Labels of a split in the data's own units.

        Raises:
            UserError: It has none.
        """
        label = self.splits[split].label
        if label is None:
            raise UserError(f"{split} has no labels")
        return label

    @cached_property
    def test_clusters(self) -> Int[np.ndarray, " test"]:
        """Of each test pair (`text_clusters`)."""
        return text_clusters(self.splits["test"])


def head_task(data: PairData, features: Features) -> HeadTask:
    """A task read through a feature cache."""
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


def head_program(
    source: HeadTask,
    model: ModelConfig,
    *,
    optim: OptimConfig,
    loss: LossConfig | None = None,
    steps: int,
    dropout: bool,
    target: np.ndarray | None = None,
) -> MemberProgram:
    """A head on the vectors of a task.

    Args:
        source: The task.
        model: Its `combine` and `head` are read; interactions need tokens, which these caches lack.
        optim: Moments, clipping and schedule; rates and decay are the population's.
        loss: Cross-entropy or squared error, with class weights.
        steps: Of a run, for the schedule.
        dropout: Whether any member has a dropout rate above 0; without, no bits are drawn.
        target: Stands in for the task's targets (labels made noisy, say), for all rows.

    Raises:
        UserError: Options that do not go with pooled vectors.
    """
    if model.interact.kind != "none":
        raise UserError(
            "heads on pooled vectors have no interaction", got=f"--model.interact.kind {model.interact.kind}"
        )
    target = source.target if target is None else target
    config = replace(model, kind="bi", pooling="mean", pooler=None)
    fns = build_pair_model(config, source.spec, source.task.outputs, freeze_encoder=True)

    def gather(data: Any, index: Array) -> Batch:
        vectors, sides, labels = data
        real, row = index >= 0, jnp.maximum(index, 0)
        cached = jnp.where(real[:, None, None], vectors[sides[row]], 0.0)[:, None]
        label = jnp.where(real, labels[row], 0)[:, None]
        return Batch(
            None, None, None, None, None, label, real.astype(jnp.float32)[:, None], index[:, None], cached=cached
        )

    def apply(params: Params, batch: Batch, *, key: Any = None, rates: Any = None) -> Array:
        if not dropout:
            key = rates = None
        return fns.head_pooled(params, batch.cached, key=key, rates=rates)

    return assemble(
        source.task,
        fns,
        init=fns.init_above,
        train=source.rows["train"],
        key=source.key,
        apply=apply,
        gather=gather,
        data=(source.vectors, source.sides, target),
        optim=optim,
        loss=loss,
        steps=steps,
        dropout=dropout,
        target=target,
    )
