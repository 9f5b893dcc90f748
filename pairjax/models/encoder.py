"""BERT and its kin as one Linen module: rows of token slots in, hidden states out."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pairjax.base.types import Batch, DropoutRates, EncoderSpec
from pairjax.models.attention import KERNEL_INIT, Projection
from pairjax.models.dropout import dropout
from pairjax.models.layers import LayerNorm, TransformerLayer


def attention_mask(batch: Batch, *, kind: Literal["cross", "bi"]) -> Bool[Array, "rows length length"]:
    """Who may read whom: [r, q, s] is whether token q reads token s.

    Both are of one pair, and in a bi-encoder of one side too. Padding reads padding, which nobody else reads.
    """
    pair = jnp.asarray(batch.pair_ids)
    group = pair if kind == "cross" else 2 * pair + jnp.asarray(batch.side_ids)
    return group[:, :, None] == group[:, None, :]


class Embeddings(nn.Module):
    """Word, position and (where the family has them) segment embeddings, summed, normalised and dropped.

    Attributes:
        spec: The encoder's architecture.
        dtype: Of the result.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, rates: DropoutRates | None = None) -> Float[Array, "rows length dim"]:
        """Embeddings of every slot; `rates` None means no dropout."""
        spec = self.spec
        # Parameters stay float32 until they are summed: the tables are gathered from, not multiplied.
        positions = jnp.asarray(batch.position_ids) + spec.position_offset
        x = self._table("word", spec.vocab_size)(jnp.asarray(batch.input_ids))
        x += self._table("position", spec.max_positions + spec.position_offset)(positions)
        if spec.type_vocab_size > 0:
            x += self._table("segment", spec.type_vocab_size)(jnp.asarray(batch.token_type_ids))
        x = LayerNorm(spec.layer_norm_eps, dtype=self.dtype, name="norm")(x)
        return x if rates is None else dropout(x, rates.hidden, self.make_rng("dropout"))

    def _table(self, name: str, size: int) -> nn.Embed:
        return nn.Embed(size, self.spec.embedding_size, embedding_init=KERNEL_INIT, name=name)


class Encoder(nn.Module):
    """A post-LayerNorm transformer encoder: BERT, RoBERTa, XLM-R, DistilBERT, ELECTRA.

    Attributes:
        spec: The architecture.
        kind: Whether the sides of a pair read each other (`cross`) or each is encoded alone (`bi`).
        dtype: Of activations; parameters, softmax and normalisation are float32.
        remat: Whether the backward pass computes each layer again instead of keeping its activations.
    """

    spec: EncoderSpec
    kind: Literal["cross", "bi"] = "cross"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Batch, *, rates: DropoutRates | None = None) -> Float[Array, "rows length dim"]:
        """Hidden states of the last layer, finite on padding too.

        Args:
            batch: Rows; labels and weights are not read.
            rates: Dropout rates; None means none, otherwise the rng stream `dropout` is read.
        """
        spec = self.spec
        x = Embeddings(spec, dtype=self.dtype, name="embeddings")(batch, rates=rates)
        if spec.embedding_size != spec.hidden_size:
            kernel, bias = Projection(spec.hidden_size, dtype=self.dtype, name="projection")(spec.embedding_size)
            x = x @ kernel + bias
        mask = attention_mask(batch, kind=self.kind)
        layer_class = nn.remat(TransformerLayer) if self.remat else TransformerLayer
        for index in range(spec.num_layers):
            layer = layer_class(
                heads=spec.num_heads,
                intermediate=spec.intermediate_size,
                activation=spec.activation,
                eps=spec.layer_norm_eps,
                dtype=self.dtype,
                name=f"layer_{index}",
            )
            x = layer(
                x,
                mask,
                hidden_rate=None if rates is None else rates.hidden,
                attention_rate=None if rates is None else rates.attention,
            )
        return x


def encoder_heads(spec: EncoderSpec) -> tuple[tuple[str, int], ...]:
    """Path patterns to the number of attention heads that the encoder's parameters are made of."""
    return ((r"encoder/.*/attention/(query|key|value|out)/.*", spec.num_heads),)
