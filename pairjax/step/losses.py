"""What training minimises: cross-entropy for classes, squared error for scores, as sums under weights.

A loss is a pair of sums, of weighted losses and of weights, never a mean: sums over micro-batches and devices add up
to those of the whole batch, which is divided once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Float64, Int, Num

from pairjax.base.config import LossConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Batch, PretrainingLogits, TaskSpec

LossFn = Callable[..., tuple[Array, Array]]
"""`loss(logits [R, K, C], batch, *, smoothing=0.0) -> (sum of weighted losses, sum of weights)`, scalars; or of several
terms, each [terms], whose quotients add up to the loss."""


def cross_entropy(
    logits: Float[Array, "rows slots classes"], label: Int[Array, "rows slots"], *, smoothing: ArrayLike = 0.0
) -> Float32[Array, "rows slots"]:
    """Computes the cross-entropy with the true class, `-sum_c q_c log softmax(logits)_c`, in nats.

    Label smoothing s spreads s evenly over all classes: q = (1 - s) onehot(label) + s / classes (Szegedy et al. 2016).

    Args:
        logits: Scores of the classes; computed in float32.
        label: Class indices.
        smoothing: Label smoothing in [0, 1); a number or a traced scalar.

    >>> logits = jnp.log(jnp.array([[[0.2, 0.8], [0.5, 0.5]]]))
    >>> print(jnp.round(cross_entropy(logits, jnp.array([[1, 0]])), 3))  # -log 0.8 and -log 0.5
    [[0.223 0.693]]
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    # A comparison and not a gather, so that neither direction scatters.
    true = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    target = (1.0 - smoothing) * true + smoothing / logits.shape[-1]
    return -jnp.sum(target * log_probabilities, axis=-1)


def squared_error(
    logits: Float[Array, "rows slots 1"], label: Num[Array, "rows slots"]
) -> Float32[Array, "rows slots"]:
    """Squared difference of the score and its target, in the targets' own unit, squared."""
    return jnp.square(logits[..., 0].astype(jnp.float32) - label.astype(jnp.float32))


def symmetric_divergence(
    one: Float[Array, "rows slots classes"], other: Float[Array, "rows slots classes"]
) -> Float32[Array, "rows slots"]:
    """(KL(p || q) + KL(q || p)) / 2 of the softmaxes of two sets of logits, in nats.

    Which is `sum_c (p_c - q_c) (log p_c - log q_c) / 2`.
    """
    p, q = (jax.nn.log_softmax(logits.astype(jnp.float32)) for logits in (one, other))
    return 0.5 * jnp.sum((jnp.exp(p) - jnp.exp(q)) * (p - q), axis=-1)


def class_weights(
    config: LossConfig, task: TaskSpec, counts: np.ndarray | None
) -> Float64[np.ndarray, " classes"] | None:
    """One weight a class in label order, or None where all weigh the same.

    Args:
        config: Which weights.
        task: The classes.
        counts: Training pairs of each class [classes]; needed for `balanced` alone.

    Raises:
        UserError: Weights for a regression, one weight too many or too few, or a class without a training pair.
    """
    if config.class_weights == "none":
        return None
    if task.kind == "regression":
        raise UserError(
            f"--loss.class-weights {config.class_weights} needs classes, and these labels are scores",
            fix="leave it out, or set --data.task classification",
        )
    if config.class_weights == "given":
        if len(config.weights) != task.outputs:
            raise UserError(
                "--loss.weights has not one weight a class",
                got=f"{len(config.weights)} weights",
                expected=f"{task.outputs}, for {' '.join(task.labels)}",
            )
        return np.asarray(config.weights, np.float64)
    if counts is None or len(counts) != task.outputs:
        raise ValueError(f"balanced class weights need {task.outputs} counts, got {counts}")
    unseen = [name for name, count in zip(task.labels, counts, strict=True) if count == 0]
    if unseen:
        raise UserError(
            f"--loss.class-weights balanced: no training pair of class {', '.join(unseen)}",
            fix="use --loss.class-weights given with --loss.weights",
        )
    return np.sum(counts) / (task.outputs * np.asarray(counts, np.float64))


def make_loss(config: LossConfig, task: TaskSpec, counts: np.ndarray | None) -> LossFn:
    """The loss of a task.

    A pair's weight is `batch.weight` times its class's weight, and stands in both sums, so that their quotient is the
    weighted mean (as torch's `CrossEntropyLoss(weight=...)`). Targets are read as they arrive: no rescaling of scores.

    Args:
        config: Class weights; the label smoothing comes with each call, since a population varies it.
        task: Classes, or a score.
        counts: Training pairs of each class [classes], for balanced weights.

    Returns:
        `loss(logits [R, K, C], batch, *, smoothing=0.0) -> (sum of weighted losses, sum of weights)`. An empty slot
        has weight 0 and adds nothing, whatever its logits are. With `config.r_drop` the logits are a pair, of two
        dropout passes, and a pair's loss is (CE_1 + CE_2) / 2 + r_drop * symmetric KL; Wu et al., "R-Drop: Regularized
        Dropout for Neural Networks" (2021), sum the two instead, so that their alpha is twice this one.

    Raises:
        UserError: Class weights, label smoothing or R-Drop that do not fit the task.
    """
    if task.kind == "regression" and config.r_drop > 0:
        raise UserError(
            "--loss.r-drop compares probabilities of classes, and these labels are scores", got=config.r_drop
        )
    if task.kind == "regression" and config.label_smoothing > 0:
        raise UserError(
            "--loss.label-smoothing needs classes, and these labels are scores",
            got=config.label_smoothing,
            fix="leave it out, or set --data.task classification",
        )
    of_class = class_weights(config, task, counts)
    table = None if of_class is None else np.asarray(of_class, np.float32)

    def loss(logits: Any, batch: Batch, *, smoothing: ArrayLike = 0.0) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
        label, weight = jnp.asarray(batch.label), jnp.asarray(batch.weight, jnp.float32)
        if task.kind == "regression":
            each = squared_error(logits, label)
        elif config.r_drop > 0:
            passes = [cross_entropy(one, label, smoothing=smoothing) for one in logits]
            each = (passes[0] + passes[1]) / 2 + config.r_drop * symmetric_divergence(*logits)
        else:
            each = cross_entropy(logits, label, smoothing=smoothing)
        if table is not None:
            weight = weight * (jax.nn.one_hot(label, len(table), dtype=jnp.float32) @ table)
        return jnp.sum(jnp.where(weight > 0, each, 0.0) * weight), jnp.sum(weight)

    return loss


MLM, SEGMENT = "mlm", "segment"
"""Terms of the pretraining loss: masked tokens, and the segments' labels."""


def masked_cross_entropy(
    logits: Float[Array, "rows masked words"], target: Int[Array, "rows masked"]
) -> Float32[Array, "rows masked"]:
    """Cross-entropy with the token that stood there, in nats."""
    wide = logits.astype(jnp.float32)
    # By comparison, which XLA fuses into the sum: neither the log-probabilities nor a one-hot array is written out.
    hit = jnp.arange(logits.shape[-1], dtype=jnp.int32) == target[..., None]
    return jax.nn.logsumexp(wide, axis=-1) - jnp.sum(jnp.where(hit, wide, 0.0), axis=-1)


def make_pretraining_loss(*, segments: bool) -> tuple[LossFn, tuple[str, ...]]:
    """Mean over the masked tokens, plus mean over the segment pairs, as transformers' `BertForPreTraining`.

    Args:
        segments: Whether the segments' labels are learnt too.

    Returns:
        The loss, of one term or two, and the terms' names. Sums are of tokens for the first and of pairs for the
        second; `smoothing` is not read.
    """

    def loss(
        logits: PretrainingLogits, batch: Batch, *, smoothing: ArrayLike = 0.0
    ) -> tuple[Float32[Array, " terms"], Float32[Array, " terms"]]:
        weight = jnp.asarray(batch.masked_weights, jnp.float32)
        each = masked_cross_entropy(logits.masked, jnp.asarray(batch.masked_targets))
        sums, weights = [jnp.sum(each * weight)], [jnp.sum(weight)]
        if segments:
            weight = jnp.asarray(batch.weight, jnp.float32)
            each = cross_entropy(logits.segment, jnp.asarray(batch.label))
            sums.append(jnp.sum(each * weight))
            weights.append(jnp.sum(weight))
        return jnp.stack(sums), jnp.stack(weights)

    return loss, (MLM, SEGMENT) if segments else (MLM,)
