"""The losses that training minimises: cross-entropy with classes or probabilities, and squared error for scores.

A loss is a pair of sums, of the weighted losses and of the weights, and never a mean. Sums over micro-batches and
devices add up to the sums of the whole batch, which are divided once.
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

Loss = Callable[..., tuple[Array, Array]]
"""`loss(logits, batch, *, smoothing=0.0) -> (sum of weighted losses, sum of weights)`, two scalars. A loss of several
terms returns two arrays [terms]; the sum of their quotients is the loss."""


def cross_entropy(
    logits: Float[Array, "rows slots classes"], label: Int[Array, "rows slots"], *, smoothing: ArrayLike = 0.0
) -> Float32[Array, "rows slots"]:
    """Computes the cross-entropy `-sum_c q_c log softmax(logits)_c` with the true class, in nats.

    Label smoothing s spreads s evenly over all classes: q = (1 - s) onehot(label) + s / classes (Szegedy et al.,
    "Rethinking the Inception Architecture for Computer Vision", 2016).

    Args:
        logits: Scores of the classes; converted to float32.
        label: Class indices.
        smoothing: s, in [0, 1); a number or a traced scalar.

    Example:
        >>> float(cross_entropy(jnp.zeros((1, 1, 2)), jnp.array([[1]]))[0, 0])  # log 2
        0.6931471824645996
    """
    # A comparison instead of a gather: the backward pass of a gather is a scatter, which is slow.
    true = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    target = (1.0 - smoothing) * true + smoothing / logits.shape[-1]
    return soft_cross_entropy(logits, jnp.asarray(target))


def soft_cross_entropy(
    logits: Float[Array, "rows slots classes"], target: Float[Array, "rows slots classes"]
) -> Float32[Array, "rows slots"]:
    """Computes the cross-entropy `-sum_c q_c log softmax(logits)_c` with target probabilities q, in nats.

    Args:
        logits: Scores of the classes; converted to float32.
        target: Probabilities of the classes.
    """
    return -jnp.sum(target * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)


def binary_cross_entropies(
    logits: Float[Array, "rows slots labels"], label: Float[Array, "rows slots labels"], *, smoothing: ArrayLike = 0.0
) -> Float32[Array, "rows slots"]:
    """Computes the mean over labels of the binary cross-entropy of each label's sigmoid, in nats.

    Args:
        logits: A logit for each label; converted to float32.
        label: 1 for each label that a pair carries, else 0.
        smoothing: s; targets are (1 - s) label + s / 2.
    """
    wide = logits.astype(jnp.float32)
    target = (1.0 - smoothing) * label + smoothing / 2.0
    return jnp.mean(jax.nn.softplus(wide) - target * wide, axis=-1)


def distillation(
    logits: Float[Array, "rows slots classes"],
    label: Int[Array, "rows slots"],
    target: Float[Array, "rows slots classes"],
    *,
    temperature: float,
    hard_share: float,
) -> Float32[Array, "rows slots"]:
    """Computes the loss of distillation, `(1 - a) T^2 CE(q, logits / T) + a CE(label, logits)`.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), section 2: T^2 keeps the gradients of the
    first term as large as those of the second when T changes.

    Args:
        logits: The student's logits.
        label: Class indices.
        target: q; the teacher's probabilities at temperature T, or soft labels.
        temperature: T.
        hard_share: a, in [0, 1).
    """
    soft = temperature**2 * soft_cross_entropy(logits / temperature, target)
    return (1.0 - hard_share) * soft + hard_share * cross_entropy(logits, label) if hard_share else soft


def squared_error(
    logits: Float[Array, "rows slots 1"], label: Num[Array, "rows slots"]
) -> Float32[Array, "rows slots"]:
    """Computes the squared error of each score, in the squared unit of the targets.

    Args:
        logits: The predicted scores.
        label: The targets.
    """
    return jnp.square(logits[..., 0].astype(jnp.float32) - label.astype(jnp.float32))


def symmetric_divergence(
    left: Float[Array, "rows slots classes"], right: Float[Array, "rows slots classes"]
) -> Float32[Array, "rows slots"]:
    """Computes the symmetric KL divergence (KL(p || q) + KL(q || p)) / 2 of two softmaxes, in nats.

    It equals `sum_c (p_c - q_c) (log p_c - log q_c) / 2`.

    Args:
        left: The logits of p.
        right: The logits of q.
    """
    log_p, log_q = (jax.nn.log_softmax(logits.astype(jnp.float32)) for logits in (left, right))
    return 0.5 * jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), axis=-1)


def class_weights(
    config: LossConfig, task: TaskSpec, counts: np.ndarray | None
) -> Float64[np.ndarray, " classes"] | None:
    """Returns the weight of each class in label order, or None if all classes weigh the same.

    Args:
        config: The kind of weights.
        task: The classes.
        counts: int [classes]; number of training pairs of each class; only needed for `balanced`.

    Raises:
        UserError: The task is a regression, the number of weights is wrong, or a class has no training pair.
    """
    if config.class_weights == "none":
        return None
    if task.kind != "classification":
        raise UserError(
            f"--loss.class-weights {config.class_weights} needs classes, but these labels are scores",
            fix="leave it out, or set --data.task classification",
        )
    if config.class_weights == "given":
        if len(config.weights) != task.outputs:
            raise UserError(
                "--loss.weights does not have one weight per class",
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


def make_loss(config: LossConfig, task: TaskSpec, counts: np.ndarray | None) -> Loss:
    """Builds the loss of a task on pairs.

    The weight of a pair is `batch.weight` times its class's weight. It counts in both sums, so their quotient is the
    weighted mean (as in torch's `CrossEntropyLoss(weight=...)`). Targets are used as they are; scores are not rescaled.

    With label smoothing too, the pair's whole smoothed cross-entropy has the weight of its true class, so a weight of 2
    is the same as having the pair twice: `sum_i w_yi sum_c q_ic (-log p_ic) / sum_i w_yi`. torch differs: it weights
    each term of the sum over c by w_c, so a class's weight also scales the share that smoothing gives to it.

    Args:
        config: The kind of loss, class weights and R-Drop. The label smoothing is an argument of each call, since a
            population varies it.
        task: The classes, or regression.
        counts: int [classes]; number of training pairs of each class, for balanced weights.

    Returns:
        `loss(logits [R, K, C], batch, *, smoothing=0.0) -> (sum of weighted losses, sum of weights)`. An empty slot
        has weight 0 and adds nothing, whatever its logits are. With `config.r_drop` the logits are a tuple of two
        dropout passes, and the loss of a pair is (CE_1 + CE_2) / 2 + r_drop * symmetric KL. Wu et al., "R-Drop:
        Regularized Dropout for Neural Networks" (2021), add CE_1 and CE_2 instead, so their alpha is twice this one.

    Raises:
        UserError: Class weights, label smoothing or R-Drop do not fit the task.
    """
    if task.kind == "regression" and config.r_drop > 0:
        raise UserError(
            "--loss.r-drop compares probabilities of classes, but these labels are scores", got=config.r_drop
        )
    if task.kind == "regression" and config.label_smoothing > 0:
        raise UserError(
            "--loss.label-smoothing needs classes, but these labels are scores",
            got=config.label_smoothing,
            fix="leave it out, or set --data.task classification",
        )
    weights = class_weights(config, task, counts)
    table = None if weights is None else np.asarray(weights, np.float32)

    def each(logits: Array, batch: Batch, smoothing: ArrayLike) -> Float32[Array, "rows slots"]:
        label = jnp.asarray(batch.label)
        if config.kind != "soft":
            return cross_entropy(logits, label, smoothing=smoothing)
        return distillation(
            logits, label, jnp.asarray(batch.soft), temperature=config.temperature, hard_share=config.hard_share
        )

    def loss(logits: Any, batch: Batch, *, smoothing: ArrayLike = 0.0) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
        label, weight = jnp.asarray(batch.label), jnp.asarray(batch.weight, jnp.float32)
        if task.kind == "regression":
            losses = squared_error(logits, label)
        elif task.kind == "multi-label":
            losses = binary_cross_entropies(logits, label, smoothing=smoothing)
        elif config.r_drop > 0:
            passes = [each(dropped, batch, smoothing) for dropped in logits]
            losses = (passes[0] + passes[1]) / 2 + config.r_drop * symmetric_divergence(*logits)
        else:
            losses = each(logits, batch, smoothing)
        if table is not None:
            # A sum, since the matrix products of accelerators round their float32 inputs.
            weight = weight * jnp.sum(jax.nn.one_hot(label, len(table), dtype=jnp.float32) * table, axis=-1)
        return jnp.sum(jnp.where(weight > 0, losses, 0.0) * weight), jnp.sum(weight)

    return loss


MLM, SEGMENT = "mlm", "segment"
"""Names of the terms of the pretraining loss: masked tokens, and the label of the segments."""


def masked_cross_entropy(
    logits: Float[Array, "rows masked words"], target: Int[Array, "rows masked"]
) -> Float32[Array, "rows masked"]:
    """Computes the cross-entropy of masked tokens, in nats.

    Args:
        logits: Scores of the vocabulary at the masked positions.
        target: The original tokens.
    """
    wide = logits.astype(jnp.float32)
    # XLA fuses the comparison into the sum, so neither log-probabilities nor a one-hot array are written to memory.
    hit = jnp.arange(logits.shape[-1], dtype=jnp.int32) == target[..., None]
    return jax.nn.logsumexp(wide, axis=-1) - jnp.sum(jnp.where(hit, wide, 0.0), axis=-1)


def make_pretraining_loss(*, segments: bool) -> tuple[Loss, tuple[str, ...]]:
    """Builds the pretraining loss: mean over masked tokens plus mean over segments, as in `BertForPreTraining`.

    Args:
        segments: Whether the label of the segments is learnt too.

    Returns:
        The loss, of one or two terms, and the names of the terms. The first term sums over tokens, the second over
        pairs of segments; `smoothing` is ignored.
    """

    def loss(
        logits: PretrainingLogits, batch: Batch, *, smoothing: ArrayLike = 0.0
    ) -> tuple[Float32[Array, " terms"], Float32[Array, " terms"]]:
        weight = jnp.asarray(batch.masked_weights, jnp.float32)
        losses = masked_cross_entropy(logits.masked, jnp.asarray(batch.masked_targets))
        sums, weights = [jnp.sum(losses * weight)], [jnp.sum(weight)]
        if segments:
            weight = jnp.asarray(batch.weight, jnp.float32)
            losses = cross_entropy(logits.segment, jnp.asarray(batch.label))
            sums.append(jnp.sum(losses * weight))
            weights.append(jnp.sum(weight))
        return jnp.stack(sums), jnp.stack(weights)

    return loss, (MLM, SEGMENT) if segments else (MLM,)
