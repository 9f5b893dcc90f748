"""The losses of a bi-encoder's vectors: cosine, contrastive and in-batch negatives, as in sentence-transformers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32

from pairjax.base.optim_config import LossConfig
from pairjax.base.types import Batch, TaskSpec
from pairjax.models.build import PairModelFns
from pairjax.models.heads import cosine, unit
from pairjax.step.losses import Loss
from pairjax.step.step import Apply

Vectors = Float32[Array, "rows slots sides dim"]


def forward_pass(fns: PairModelFns, loss: LossConfig, *, sides: int = 2) -> Apply:
    """Returns the forward pass whose outputs a loss reads: the vectors of both texts, or the pair's outputs.

    Args:
        fns: The model.
        loss: The loss.
        sides: Number of texts of an example: 3 for triplets.
    """
    return partial(fns.vectors, sides=sides) if loss.reads_vectors else fns.apply


def cosine_loss(vectors: Vectors, target: Float32[Array, "rows slots"]) -> Float32[Array, "rows slots"]:
    """Computes the squared error of the cosine of u and v (CosineSimilarityLoss).

    Args:
        vectors: u and v of each pair.
        target: The wanted cosines.
    """
    return jnp.square(cosine(vectors[:, :, 0], vectors[:, :, 1])[..., 0] - target)


def contrastive_loss(
    vectors: Vectors, similar: Float32[Array, "rows slots"], *, margin: float
) -> Float32[Array, "rows slots"]:
    """Computes `(y d^2 + (1 - y) max(margin - d, 0)^2) / 2` with the cosine distance d = 1 - cos(u, v).

    Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping" (2006); ContrastiveLoss.

    Args:
        vectors: u and v of each pair.
        similar: y; 1 for similar pairs, 0 for others.
        margin: Distance from which a pair that is not similar costs nothing.
    """
    distance = 1.0 - cosine(vectors[:, :, 0], vectors[:, :, 1])[..., 0]
    apart = jnp.square(jax.nn.relu(margin - distance))
    return 0.5 * (similar * jnp.square(distance) + (1.0 - similar) * apart)


def in_batch_loss(
    vectors: Vectors, weight: Float32[Array, "rows slots"], *, scale: float
) -> Float32[Array, "rows slots"]:
    """Computes the cross-entropy of each first text's own second text among the second texts of the whole batch.

    `loss_i = -log(exp(s cos(u_i, v_i)) / sum_j exp(s cos(u_i, v_j)))`, where j runs over all pairs of the batch and,
    for triplets, also over all of their negatives (van den Oord et al., "Representation Learning with Contrastive
    Predictive Coding", 2018; MultipleNegativesRankingLoss). The batch is the global one: under `jit` the sum runs over
    the rows of all devices.

    Args:
        vectors: u and v of each pair, and the vector of the negative of a triplet.
        weight: 0 for an empty slot, which is no candidate.
        scale: s; the inverse of a temperature.
    """
    rows, slots, sides, size = vectors.shape
    u, *others = (unit(vectors[:, :, side]).reshape(rows * slots, size) for side in range(sides))
    candidates = jnp.concatenate(others)
    scores = scale * jnp.matmul(u, candidates.T, precision=jax.lax.Precision.HIGHEST)
    filled = jnp.tile(weight.reshape(-1) > 0, sides - 1)
    own = jnp.arange(rows * slots, dtype=jnp.int32)[:, None] == jnp.arange(len(candidates), dtype=jnp.int32)
    true = jnp.sum(jnp.where(own, scores, 0.0), axis=1)
    # An empty slot keeps its own score, so that its loss is finite; it has weight 0.
    total = jax.nn.logsumexp(jnp.where(filled | own, scores, -jnp.inf), axis=1)
    return (total - true).reshape(rows, slots)


def make_vector_loss(config: LossConfig, task: TaskSpec) -> Loss:
    """Builds the loss of a bi-encoder's vectors.

    Args:
        config: The kind of loss and its margin or scale.
        task: Two classes, whose positive one means similar, or scores.

    Returns:
        `loss(vectors [R, K, sides, D], batch, *, smoothing) -> (sum of weighted losses, sum of weights)`; `smoothing`
        is ignored.
    """

    def loss(
        vectors: Array, batch: Batch, *, smoothing: ArrayLike = 0.0
    ) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
        label, weight = jnp.asarray(batch.label), jnp.asarray(batch.weight, jnp.float32)
        target = (label == np.int32(task.positive_index or 0)) if task.kind == "classification" else label
        match config.kind:
            case "cosine":
                losses = cosine_loss(vectors, target.astype(jnp.float32))
            case "contrastive":
                losses = contrastive_loss(vectors, target.astype(jnp.float32), margin=config.margin)
            case _:
                losses = in_batch_loss(vectors, weight, scale=config.scale)
        return jnp.sum(jnp.where(weight > 0, losses, 0.0) * weight), jnp.sum(weight)

    return loss
