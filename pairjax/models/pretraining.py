"""BERT's pretraining model: a masked-token head tied to the word embeddings, and a segment head on the pooler.

It equals transformers' `BertForPreTraining`, but computes masked-token logits only at the positions to predict. With
15 % of the tokens masked, this saves five sixths of the products with the vocabulary.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Params, PretrainingLogits
from pairjax.models.attention import KERNEL_INIT, Projection, affine
from pairjax.models.batches import tiny_batch
from pairjax.models.encoder import Encoder
from pairjax.models.layers import LayerNorm, activate

SEGMENT_CLASSES = 2
"""Classes of the segment head, as in Hugging Face's files: 0 is next (in order), 1 is not (swapped)."""


class MaskedTokenHead(nn.Module):
    """The masked-token head, `LayerNorm(act(h W + b)) E^T + c` with the word embeddings E (Devlin et al. 2019).

    Attributes:
        spec: The encoder's architecture.
        dtype: Dtype of the products.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "rows masked dim"], table: Float[Array, "words dim"]
    ) -> Float[Array, "rows masked words"]:
        """Computes logits over the vocabulary."""
        spec = self.spec
        kernel, bias = Projection(spec.hidden_size, dtype=self.dtype, name="transform")(hidden.shape[-1])
        x = activate(affine(hidden, kernel, bias), spec.activation)
        x = LayerNorm(spec.layer_norm_eps, dtype=self.dtype, name="norm")(x)
        offset = self.param("bias", nn.initializers.zeros, (spec.vocab_size,), jnp.float32)
        logits = jnp.einsum("rmd,wd->rmw", x, table.astype(self.dtype), preferred_element_type=jnp.float32)
        return logits + offset


class PretrainingHeads(nn.Module):
    """The masked-token head and the segment head.

    Attributes:
        spec: The encoder's architecture.
        dtype: Dtype of the masked-token head's products.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Creates the heads."""
        self.mlm = MaskedTokenHead(self.spec, dtype=self.dtype)
        self.order = nn.Dense(SEGMENT_CLASSES, kernel_init=KERNEL_INIT)

    def __call__(
        self,
        masked: Float[Array, "rows masked dim"],
        pooled: Float[Array, "rows dim"],
        table: Float[Array, "words dim"],
    ) -> PretrainingLogits:
        """Computes the logits of both heads."""
        return PretrainingLogits(self.mlm(masked, table), self.order(pooled)[:, None, :])


class PretrainingModel(nn.Module):
    """Encoder, pooler and both heads; the parameters are `encoder`, `pooler`, `head/mlm` and `head/order`.

    Attributes:
        spec: The encoder's architecture.
        dtype: Dtype of the activations.
        remat: Whether the backward pass recomputes each layer instead of storing its activations.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        """Creates encoder, pooler and heads."""
        self.encoder = Encoder(spec=self.spec, kind="cross", dtype=self.dtype, remat=self.remat)
        self.pooler = nn.Dense(self.spec.hidden_size, kernel_init=KERNEL_INIT)
        self.head = PretrainingHeads(self.spec, dtype=self.dtype)

    def __call__(self, batch: Batch, *, rates: DropoutRates | None = None) -> PretrainingLogits:
        """Computes logits at the masked positions and of the segments; with `rates` None there is no dropout."""
        hidden = self.encoder(batch, rates=rates)
        table = jnp.asarray(self.encoder.variables["params"]["embeddings"]["word"]["embedding"])
        pooled = jnp.tanh(self.pooler(hidden[:, 0].astype(jnp.float32)))
        return self.head(at_positions(hidden, jnp.asarray(batch.masked_positions)), pooled, table)


def at_positions(
    hidden: Float[Array, "rows length dim"], positions: Int[Array, "rows masked"]
) -> Float[Array, "rows masked dim"]:
    """Selects the hidden states at some positions of each row."""
    return jnp.take_along_axis(hidden, positions[..., None], axis=1)


class PretrainingFns(NamedTuple):
    """The pretraining model as pure functions.

    `key` and `rates` are given together, for dropout, or both left out.

    Attributes:
        spec: The encoder's architecture.
        program: Identifies the functions by value.
        init: `init(key) -> params`; draws all parameters.
        apply: `apply(params, batch, *, key=None, rates=None) -> PretrainingLogits`.
    """

    spec: EncoderSpec
    program: Hashable
    init: Callable[..., Params]
    apply: Callable[..., Any]


def build_pretraining_model(
    spec: EncoderSpec, *, masked: int, dtype: str = "float32", remat: bool = False
) -> PretrainingFns:
    """Builds the pretraining model of an encoder.

    Args:
        spec: The architecture, that of a BERT encoder.
        masked: Number M of masked positions per row.
        dtype: Dtype of the activations.
        remat: Whether the backward pass recomputes each layer instead of storing its activations.
    """
    module = PretrainingModel(spec, dtype=jnp.dtype(dtype), remat=remat)

    def init(key: PRNGKeyArray) -> Params:
        return module.init({"params": key}, tiny_batch(masked=masked))["params"]

    def apply(
        params: Params, batch: Batch, *, key: PRNGKeyArray | None = None, rates: DropoutRates | None = None
    ) -> PretrainingLogits:
        if (key is None) != (rates is None):
            raise ValueError("key and rates go together: both for dropout, neither without")
        rngs = None if key is None else {"dropout": key}
        logits: Any = module.apply({"params": params}, batch, rates=rates, rngs=rngs)
        return logits

    return PretrainingFns(spec, (spec, masked, dtype, remat), init, apply)
