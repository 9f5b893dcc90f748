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
    """`logits = h W_P + b`, or the same after hidden layers; dropout before each dense layer, as BERT's classifier.

    Attributes:
        outputs: Classes, or 1 for a score.
        hidden: Widths of the hidden layers, each `hidden_{i}`.
        activation: Theirs.
        relu_logits: ReLU on the logits before the softmax, as one of the chapter's worked examples has it.
    """

    outputs: int
    hidden: tuple[int, ...] = ()
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    relu_logits: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows slots size"], *, rate: ArrayLike | None = None
    ) -> Float[Array, "rows slots outputs"]:
        """Logits of each pair slot; `rate` None means no dropout."""

        def drop(x: Float[Array, "rows slots width"]) -> Float[Array, "rows slots width"]:
            return x if rate is None else dropout(x, rate, self.make_rng("dropout"))

        for index, width in enumerate(self.hidden):
            dense = nn.Dense(width, kernel_init=KERNEL_INIT, name=f"hidden_{index}")
            x = ACTIVATIONS[self.activation](dense(drop(x)))
        logits = nn.Dense(self.outputs, kernel_init=KERNEL_INIT, name="logits")(drop(x))
        return jax.nn.relu(logits) if self.relu_logits else logits
