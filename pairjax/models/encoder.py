"""The encoders as one Flax module, from token rows to hidden states."""

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Rotary
from pairjax.models.attention import KERNEL_INIT, Projection
from pairjax.models.dropout import dropout
from pairjax.models.layers import GatedLayer, LayerNorm, TransformerLayer
from pairjax.models.relative import mpnet_bias, rotation


def attention_mask(batch: Batch, *, kind: Literal["cross", "bi"]) -> Bool[Array, "rows length length"]:
    """Returns the attention mask: [r, q, s] is True if token q attends to token s in row r.

    Tokens attend within their pair, and in a bi-encoder within their side. Padding attends to padding only.
    """
    pair = jnp.asarray(batch.pair_ids)
    group = pair if kind == "cross" else 3 * pair + jnp.asarray(batch.side_ids)
    return group[:, :, None] == group[:, None, :]


def local_mask(mask: Bool[Array, "rows length length"], *, window: int) -> Bool[Array, "rows length length"]:
    """Returns the mask of a local layer: tokens attend as far as `window` tokens away, within their pair.

    Distances in the row are distances in the pair, because a pair's tokens are contiguous.
    """
    slots = np.arange(mask.shape[-1])
    return mask & (np.abs(slots[:, None] - slots[None, :]) <= window)


class RelativeTable(nn.Module):
    """The embeddings of relative positions, which all layers share.

    Attributes:
        rows: Number of relative positions.
        width: Width of an embedding.
        eps: Epsilon of the LayerNorm that is applied to them; None if there is none.
    """

    rows: int
    width: int
    eps: float | None = None

    @nn.compact
    def __call__(self) -> Float[Array, "rows width"]:
        """Returns the table, float32."""
        table = self.param("embedding", KERNEL_INIT, (self.rows, self.width), jnp.float32)
        return table if self.eps is None else LayerNorm(self.eps, name="norm")(table)


class Embeddings(nn.Module):
    """The sum of word, position and segment embeddings (those that the family has), with LayerNorm and dropout.

    Attributes:
        spec: The encoder's architecture.
        dtype: Dtype of the result.
    """

    spec: EncoderSpec
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, batch: Batch, *, rates: DropoutRates | None = None
    ) -> tuple[Float[Array, "rows length dim"], Float[Array, "spans width"] | None]:
        """Computes the embedding of every token slot; with `rates` None there is no dropout.

        Returns:
            The embeddings, and the table of relative positions if the family has one.
        """
        spec = self.spec
        # Parameters stay float32 until after the sum: a lookup gains nothing from a smaller dtype.
        x = self._table("word", spec.vocab_size)(jnp.asarray(batch.input_ids))
        if spec.absolute_positions:
            positions = jnp.asarray(batch.position_ids) + spec.position_offset
            x += self._table("position", spec.max_positions + spec.position_offset)(positions)
        if spec.type_vocab_size > 0:
            x += self._table("segment", spec.type_vocab_size)(jnp.asarray(batch.token_type_ids))
        norm = LayerNorm(spec.layer_norm_eps, dtype=self.dtype, use_bias=spec.rotary is None, name="norm")
        x = norm(x)
        relative = None
        if spec.relative_buckets:
            relative = RelativeTable(spec.relative_buckets, spec.num_heads, name="relative")()
        elif spec.disentangled is not None:
            eps = spec.layer_norm_eps if spec.disentangled.norm else None
            relative = RelativeTable(2 * spec.disentangled.span, spec.hidden_size, eps, name="relative")()
        return (x if rates is None else dropout(x, rates.hidden, self.make_rng("dropout"))), relative

    def _table(self, name: str, size: int) -> nn.Embed:
        return nn.Embed(size, self.spec.embedding_size, embedding_init=KERNEL_INIT, name=name)


class Encoder(nn.Module):
    """A transformer encoder of one of the families in `pairjax.base.families`.

    LayerNorms follow the sublayers, except in ModernBERT. ALBERT's layers are one, `layer_0`, applied several times.

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
        x, relative = Embeddings(spec, dtype=self.dtype, name="embeddings")(batch, rates=rates)
        if spec.has_projection:
            kernel, bias = Projection(spec.hidden_size, dtype=self.dtype, name="projection")(spec.embedding_size)
            x = x @ kernel + bias
        mask = attention_mask(batch, kind=self.kind)
        options: dict[str, Any] = {
            "hidden_rate": None if rates is None else rates.hidden,
            "attention_rate": None if rates is None else rates.attention,
        }
        if spec.rotary is not None:
            return self._rotary_layers(x, mask, jnp.asarray(batch.position_ids), spec.rotary, options)
        if spec.relative_buckets and relative is not None:
            options["bias"] = mpnet_bias(relative, mask.shape[-1])
        elif relative is not None:
            options["relative"] = relative
        layer_class = nn.remat(TransformerLayer) if self.remat else TransformerLayer
        layers = [
            layer_class(**self._shape(), disentangled=spec.disentangled, name=f"layer_{index}")
            for index in range(spec.stored_layers)
        ]
        for index in range(spec.num_layers):
            x = layers[index % spec.stored_layers](x, mask, **options)
        return x

    def _shape(self) -> dict[str, Any]:
        """Returns the options that all kinds of layers share."""
        spec = self.spec
        return {
            "heads": spec.num_heads,
            "intermediate": spec.intermediate_size,
            "activation": spec.activation,
            "eps": spec.layer_norm_eps,
            "dtype": self.dtype,
        }

    def _rotary_layers(
        self,
        x: Float[Array, "rows length dim"],
        mask: Bool[Array, "rows length length"],
        position_ids: Int[Array, "rows length"],
        rotary: Rotary,
        options: dict[str, Any],
    ) -> Float[Array, "rows length dim"]:
        """Computes ModernBERT's layers, of which some are local, and its last LayerNorm."""
        spec = self.spec
        size = spec.hidden_size // spec.num_heads
        thetas = (rotary.theta, rotary.local_theta)
        angles = [rotation(position_ids, size=size, theta=theta) for theta in thetas]
        masks = (mask, local_mask(mask, window=rotary.window))
        layer_class = nn.remat(GatedLayer) if self.remat else GatedLayer
        for index, local in enumerate(rotary.local):
            layer = layer_class(**self._shape(), first=index == 0, name=f"layer_{index}")
            x = layer(x, masks[local], angles=angles[local], **options)
        return LayerNorm(spec.layer_norm_eps, dtype=self.dtype, use_bias=False, name="final_norm")(x)


def encoder_heads(spec: EncoderSpec) -> tuple[tuple[str, int], ...]:
    """Returns the path pattern of the encoder's attention parameters with its number of heads."""
    return ((r"encoder/.*/attention/(query|key|value|out|position_key|position_query)/.*", spec.num_heads),)
