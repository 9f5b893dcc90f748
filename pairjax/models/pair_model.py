"""The pair model: encode, interact, pool, combine, classify; each stage has its own options."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32

from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig, ProjectConfig
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, TaskSpec
from pairjax.models.combine import Gate, VectorAttention, pair_features
from pairjax.models.encoder import Encoder
from pairjax.models.heads import build_head, cosine, two_logits
from pairjax.models.interact import Interaction
from pairjax.models.layers import KERNEL_INIT
from pairjax.models.pool import Project, pool


class PairModel(nn.Module):
    """A classifier of pairs; it computes logits for each pair slot of a batch.

    Cached hidden states enter at `classify`, and cached pooled vectors at `classify_pooled`. Encoder and interaction
    are computed in the configured dtype, pooling and everything after it in float32.

    Attributes:
        config: The configuration with every default resolved (`pairjax.models.build.resolve`).
        spec: The encoder's architecture.
        task: The task; it gives the number of outputs and the kind of head.
        freeze_encoder: Whether the encoder runs without dropout in training too, so its output can be cached.
    """

    config: ModelConfig
    spec: EncoderSpec
    task: TaskSpec
    freeze_encoder: bool = False

    def setup(self) -> None:
        """Creates the stages."""
        config, spec = self.config, self.spec
        dtype = jnp.dtype(config.dtype)
        shape: dict[str, Any] = {
            "intermediate": spec.intermediate_size,
            "activation": spec.activation,
            "eps": spec.layer_norm_eps,
        }
        self.encoder = Encoder(spec=spec, kind=config.kind, dtype=dtype, remat=config.remat)
        choice = config.interact
        if choice.kind != "none":
            self.interact = Interaction(
                kind=choice.kind, layers=choice.layers, heads=choice.heads, dtype=dtype, **shape
            )
        if config.pooling == "pooler":
            self.pooler = nn.Dense(spec.hidden_size, kernel_init=KERNEL_INIT)
        if config.project != ProjectConfig():
            self.project = Project(config.project)
        if config.combiner is not None:
            self.combine = config.combiner()
        elif config.combine.kind == "gate":
            self.combine = Gate()
        elif config.combine.kind == "attention":
            self.combine = VectorAttention(layers=config.combine.layers, heads=config.combine.heads, **shape)
        if config.head.kind != "cosine":
            self.head = build_head(config.head, spec, 1 if self.task.head == "sigmoid" else self.task.outputs)

    def __call__(self, batch: Batch, *, rates: DropoutRates | None = None) -> Float[Array, "rows slots outputs"]:
        """Computes the logits of a batch; if `rates` are given, the rng stream `dropout` is used."""
        return self.classify(self.encode(batch, rates=rates), batch, rates=rates)

    def encode(self, batch: Batch, *, rates: DropoutRates | None = None) -> Float[Array, "rows length dim"]:
        """Computes the hidden state of every token slot."""
        return self.encoder(batch, rates=None if self.freeze_encoder else rates)

    def classify(
        self, hidden: Float[Array, "rows length dim"], batch: Batch, *, rates: DropoutRates | None = None
    ) -> Float[Array, "rows slots outputs"]:
        """Computes logits from hidden states, with all stages above the encoder."""
        return self.classify_pooled(self.pooled(hidden, batch, rates=rates), rates=rates)

    def classify_pooled(
        self, pooled: Float32[Array, "rows slots parts dim"], *, rates: DropoutRates | None = None
    ) -> Float[Array, "rows slots outputs"]:
        """Computes logits from pooled vectors, with combination and classifier."""
        task, positive = self.task, self.task.positive_index
        if self.config.head.kind == "cosine":
            logits = cosine(pooled[:, :, 0], pooled[:, :, 1])
            if task.head == "cosine":
                logits = (logits - task.center) / task.scale
        else:
            combined = self.combined(pooled, rate=None if rates is None else rates.interaction)
            logits = self.head(combined, rate=None if rates is None else rates.head)
        return logits if task.head == "softmax" or positive is None else two_logits(logits, positive=positive)

    def vectors(
        self, batch: Batch, *, sides: int = 2, rates: DropoutRates | None = None
    ) -> Float32[Array, "rows slots parts dim"]:
        """Computes u and v of each pair slot (and the vector of a third text), or h if the pair is pooled as one."""
        return self.pooled(self.encode(batch, rates=rates), batch, sides=sides, rates=rates)

    def pooled(
        self,
        hidden: Float[Array, "rows length dim"],
        batch: Batch,
        *,
        sides: int = 2,
        rates: DropoutRates | None = None,
    ) -> Float32[Array, "rows slots parts size"]:
        """Computes interaction, pooling and projection; without dense layers an empty slot gets zeros."""
        config = self.config
        if config.pooling is None:
            raise ValueError(
                "PairModel needs a configuration with its defaults resolved (pairjax.models.build.resolve)"
            )
        if config.interact.kind != "none":
            hidden = self.interact(hidden, batch, rate=None if rates is None else rates.interaction)
        pooled = pool(hidden, batch, pooling=config.pooling, over=config.over, sides=sides)
        if config.pooling == "pooler":
            # tanh(b) is not zero, so empty slots are set to zero again.
            filled = jnp.asarray(batch.weight)[:, :, None, None] > 0
            pooled = jnp.where(filled, jnp.tanh(self.pooler(pooled)), 0.0)
        return pooled if config.project == ProjectConfig() else self.project(pooled)

    def combined(
        self, pooled: Float32[Array, "rows slots parts dim"], *, rate: ArrayLike | None = None
    ) -> Float[Array, "rows slots size"]:
        """Combines the pair's vectors into one.

        Raises:
            UserError: A custom combiner does not return an array [R, K, size].
        """
        config = self.config
        if config.combiner is not None:
            vector = self.combine(pooled[:, :, 0], pooled[:, :, 1])
            if getattr(vector, "ndim", None) != 3 or vector.shape[:2] != pooled.shape[:2]:
                raise UserError(
                    f"the combiner {type(self.combine).__name__} returned another shape",
                    got=getattr(vector, "shape", type(vector).__name__),
                    expected=f"({pooled.shape[0]}, {pooled.shape[1]}, size), for u and v of shape "
                    f"{pooled[:, :, 0].shape}",
                )
            return vector.astype(jnp.float32)
        parts = [pooled[:, :, 0]]
        if config.over == "sides":
            parts = pair_features(pooled[:, :, 0], pooled[:, :, 1], config.features)
        match config.combine.kind:
            case "plain":
                return jnp.concatenate(parts, axis=-1)
            case "gate":
                return self.combine(jnp.concatenate(parts, axis=-1))
            case "attention":
                return self.combine(parts, rate=rate)
