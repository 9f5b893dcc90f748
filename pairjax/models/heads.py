"""The classifier on the pair's vector: linear, with hidden layers, or the head of the encoder's family."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from pairjax.base.families import find_family
from pairjax.base.model_config import HeadConfig
from pairjax.base.types import EncoderSpec
from pairjax.models.layers import KERNEL_INIT, dropout

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "tanh": jnp.tanh,
    "identity": lambda x: x,
}


def unit(vectors: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """Returns vectors divided by their norms, which are taken to be at least 1e-12; zeros stay zeros."""
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


def two_logits(logit: Float[Array, "rows slots 1"], *, positive: int) -> Float[Array, "rows slots 2"]:
    """Returns the logits of two classes from the one logit l of a sigmoid: l for the positive class, 0 for the other.

    Their softmax is the sigmoid of l and their cross-entropy is the binary cross-entropy of l, so losses, metrics and
    calibration are those of two classes.

    Args:
        logit: The logit of the positive class.
        positive: Index of the positive class.
    """
    return jnp.concatenate([logit if index == positive else jnp.zeros_like(logit) for index in range(2)], axis=-1)


class Head(nn.Module):
    """A linear classifier `logits = h W_P + b`, optionally after hidden layers.

    Dropout precedes each dense layer, as in BERT's classifier, or only the last one.

    Attributes:
        outputs: Number of logits: one for each class, 1 for a score or for two classes with a sigmoid.
        hidden: Widths of the hidden layers, named `hidden_{i}`.
        activation: Activation of the hidden layers.
        relu_logits: Whether a ReLU is applied to the logits, as in one of the chapter's worked examples.
        bias: Whether the hidden layers have biases.
        norm_eps: Epsilon of a layer normalisation without bias after each hidden layer; None if there is none.
        dropout_first: Whether there is dropout before the hidden layers too.
    """

    outputs: int
    hidden: tuple[int, ...] = ()
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    relu_logits: bool = False
    bias: bool = True
    norm_eps: float | None = None
    dropout_first: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows slots size"], *, rate: ArrayLike | None = None
    ) -> Float[Array, "rows slots outputs"]:
        """Computes the logits of each pair slot; with `rate` None there is no dropout."""

        def drop(x: Float[Array, "rows slots width"]) -> Float[Array, "rows slots width"]:
            return x if rate is None else dropout(x, rate, self.make_rng("dropout"))

        for index, width in enumerate(self.hidden):
            dense = nn.Dense(width, use_bias=self.bias, kernel_init=KERNEL_INIT, name=f"hidden_{index}")
            x = ACTIVATIONS[self.activation](dense(drop(x) if self.dropout_first else x))
            if self.norm_eps is not None:
                x = nn.LayerNorm(self.norm_eps, use_bias=False, name=f"norm_{index}")(x)
        logits = nn.Dense(self.outputs, kernel_init=KERNEL_INIT, name="logits")(drop(x))
        return jax.nn.relu(logits) if self.relu_logits else logits


def cosine(u: Float[Array, "rows slots dim"], v: Float[Array, "rows slots dim"]) -> Float[Array, "rows slots outputs"]:
    """Computes the cosine of two vectors as a single output; it is 0 if a vector is 0, and so is its gradient.

    >>> cosine(jnp.array([[[3.0, 4.0]]]), jnp.array([[[4.0, 3.0]]])).round(2).tolist()
    [[[0.9599999785423279]]]
    """
    return jnp.sum(unit(u) * unit(v), axis=-1, keepdims=True)


def build_head(config: HeadConfig, spec: EncoderSpec, outputs: int) -> Head:
    """Builds the classifier that a configuration selects.

    Args:
        config: The head's configuration. For the kind `family` the layers are those of the family's record; a dense
            layer that is the bare model's pooler belongs to pooling, so no hidden layer is left for the head.
        spec: The encoder's architecture.
        outputs: Number of classes, or 1 for a score.
    """
    if config.kind == "layers":
        return Head(outputs=outputs, hidden=config.hidden, activation=config.activation, relu_logits=config.relu_logits)
    record = find_family(spec.family).head
    if record.is_pooler:
        return Head(outputs=outputs)
    return Head(
        outputs=outputs,
        hidden=(spec.hidden_size,),
        activation=record.activation,
        bias=record.bias,
        norm_eps=spec.layer_norm_eps if record.norm else None,
        dropout_first=record.dropout_first,
    )
