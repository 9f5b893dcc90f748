"""The classifier on the pair's vector: linear, or with hidden layers."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from pairjax.models.layers import KERNEL_INIT, dropout

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "tanh": jnp.tanh,
}


class Head(nn.Module):
    """A linear classifier `logits = h W_P + b`, optionally after hidden layers.

    Dropout precedes each dense layer, as in BERT's classifier.

    Attributes:
        outputs: Number of classes, or 1 for a score.
        hidden: Widths of the hidden layers, named `hidden_{i}`.
        activation: Activation of the hidden layers.
        relu_logits: Whether a ReLU is applied to the logits, as in one of the chapter's worked examples.
    """

    outputs: int
    hidden: tuple[int, ...] = ()
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    relu_logits: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows slots size"], *, rate: ArrayLike | None = None
    ) -> Float[Array, "rows slots outputs"]:
        """Computes the logits of each pair slot; with `rate` None there is no dropout."""

        def drop(x: Float[Array, "rows slots width"]) -> Float[Array, "rows slots width"]:
            return x if rate is None else dropout(x, rate, self.make_rng("dropout"))

        for index, width in enumerate(self.hidden):
            dense = nn.Dense(width, kernel_init=KERNEL_INIT, name=f"hidden_{index}")
            x = ACTIVATIONS[self.activation](dense(drop(x)))
        logits = nn.Dense(self.outputs, kernel_init=KERNEL_INIT, name="logits")(drop(x))
        return jax.nn.relu(logits) if self.relu_logits else logits
