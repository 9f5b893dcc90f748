"""The encoders of BERT's kind as one Flax module, from token rows to hidden states."""

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
    """Returns the attention mask: [r, q, s] is True if token q attends to token s in row r.

    Tokens attend within their pair, and in a bi-encoder within their side. Padding attends to padding only.
    """
    pair = jnp.asarray(batch.pair_ids)
    group = pair if kind == "cross" else 3 * pair + jnp.asarray(batch.side_ids)
    return group[:, :, None] == group[:, None, :]


class Embeddings(nn.Module):
    """The sum of word, position and (if the family has them) segment embeddings, with LayerNorm and dropout.

    Attributes:
        spec: The encoder's architecture.
        dtype: Dtype of the result.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, rates: DropoutRates | None = None) -> Float[Array, "rows length dim"]:
        """Computes the embedding of every token slot; with `rates` None there is no dropout."""
        spec = self.spec
        # Parameters stay float32 until after the sum: a lookup gains nothing from a smaller dtype.
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
        kind: Whether the two texts of a pair are encoded jointly (`cross`) or separately (`bi`).
        dtype: Dtype of the activations; parameters, softmax and normalisation are float32.
        remat: Whether the backward pass recomputes each layer instead of storing its activations.
    """

    spec: EncoderSpec
    kind: Literal["cross", "bi"] = "cross"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Batch, *, rates: DropoutRates | None = None) -> Float[Array, "rows length dim"]:
        """Computes the hidden states of the last layer; they are finite on padding too.

        Args:
            batch: Token rows; labels and weights are not used.
            rates: Dropout rates; if given, the rng stream `dropout` is used.
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
    """Returns the path pattern of the encoder's attention parameters with its number of heads."""
    return ((r"encoder/.*/attention/(query|key|value|out)/.*", spec.num_heads),)
