"""BERT's pretraining model: masked tokens by a head tied to the embeddings, segments by a head on the pooler.

Equal to transformers' `BertForPreTraining`, but that the masked tokens' logits are computed where a token is to be
predicted and nowhere else: at 15 % masked that is a sixth of the vocabulary's products.
"""

from collections.abc import Callable
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

ORDERS = 2
"""Classes of the segment head: 0 is next (in order), 1 is not (swapped), as in Hugging Face's files."""


class MaskedTokenHead(nn.Module):
    """`LayerNorm(act(h W + b)) E^T + c`, E being the word embeddings (Devlin et al. 2019).

    Attributes:
        spec: The encoder's architecture.
        dtype: Of the products.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "rows masked dim"], table: Float[Array, "words dim"]
    ) -> Float[Array, "rows masked words"]:
        """Logits over the vocabulary."""
        spec = self.spec
        kernel, bias = Projection(spec.hidden_size, dtype=self.dtype, name="transform")(hidden.shape[-1])
        x = activate(affine(hidden, kernel, bias), spec.activation)
        x = LayerNorm(spec.layer_norm_eps, dtype=self.dtype, name="norm")(x)
        offset = self.param("bias", nn.initializers.zeros, (spec.vocab_size,), jnp.float32)
        logits = jnp.einsum("rmd,wd->rmw", x, table.astype(self.dtype), preferred_element_type=jnp.float32)
        return logits + offset


class PretrainingHeads(nn.Module):
    """Both heads.

    Attributes:
        spec: The encoder's architecture.
        dtype: Of the masked tokens' products.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.mlm = MaskedTokenHead(self.spec, dtype=self.dtype)
        self.order = nn.Dense(ORDERS, kernel_init=KERNEL_INIT)

    def __call__(
        self,
        masked: Float[Array, "rows masked dim"],
        pooled: Float[Array, "rows dim"],
        table: Float[Array, "words dim"],
    ) -> PretrainingLogits:
        """Logits of both."""
        return PretrainingLogits(self.mlm(masked, table), self.order(pooled)[:, None, :])


class PretrainingModel(nn.Module):
    """Encoder, pooler and both heads; parameters `encoder`, `pooler`, `head/mlm`, `head/order`.

    Attributes:
        spec: The architecture.
        dtype: Of activations.
        remat: Whether the backward pass computes each layer again.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        self.encoder = Encoder(spec=self.spec, kind="cross", dtype=self.dtype, remat=self.remat)
        self.pooler = nn.Dense(self.spec.hidden_size, kernel_init=KERNEL_INIT)
        self.head = PretrainingHeads(self.spec, dtype=self.dtype)

    def __call__(self, batch: Batch, *, rates: DropoutRates | None = None) -> PretrainingLogits:
        """Logits at the masked positions and of the segments; `rates` None means no dropout."""
        hidden = self.encoder(batch, rates=rates)
        table = jnp.asarray(self.encoder.variables["params"]["embeddings"]["word"]["embedding"])
        pooled = jnp.tanh(self.pooler(hidden[:, 0].astype(jnp.float32)))
        return self.head(at_positions(hidden, jnp.asarray(batch.masked_positions)), pooled, table)


def at_positions(
    hidden: Float[Array, "rows length dim"], positions: Int[Array, "rows masked"]
) -> Float[Array, "rows masked dim"]:
    """The hidden states of some slots of each row."""
    return jnp.take_along_axis(hidden, positions[..., None], axis=1)


class PretrainingFns(NamedTuple):
    """The model as pure functions; `key` and `rates` None mean no dropout, and go together.

    Attributes:
        spec: The architecture.
        init: `init(key) -> params`, all fresh.
        apply: `apply(params, batch, *, key=None, rates=None) -> PretrainingLogits`.
    """

    spec: EncoderSpec
    init: Callable[..., Params]
    apply: Callable[..., Any]


def build_pretraining_model(
    spec: EncoderSpec, *, masked: int, dtype: str = "float32", remat: bool = False
) -> PretrainingFns:
    """The model of an architecture.

    Args:
        spec: Of a BERT encoder.
        masked: Masked positions of a row, M.
        dtype: Of activations.
        remat: Whether the backward pass computes each layer again.
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
        made: Any = module.apply({"params": params}, batch, rates=rates, rngs=rngs)
        return made

    return PretrainingFns(spec, init, apply)
