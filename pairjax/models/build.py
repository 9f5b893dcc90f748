"""From a configuration to pure functions: what the rest of the package sees of a model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from pairjax.base.config import ModelConfig
from pairjax.base.errors import UserError
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Params
from pairjax.models.batches import tiny_batch
from pairjax.models.encoder import encoder_heads
from pairjax.models.pair_model import PairModel


class PairModelFns(NamedTuple):
    """A pair model as pure functions; `key` and `rates` None mean no dropout, and go together.

    Batches may hold NumPy's arrays or JAX's. Pair slots K are those of `batch.weight` [R, K].

    Attributes:
        config: With every default resolved.
        spec: The encoder's architecture.
        init: `init(key) -> params`, all of them fresh, the encoder's too.
        init_above: `init_above(key) -> params` of all above the encoder, equal to those of `init`.
        apply: `apply(params, batch, *, key=None, rates=None) -> logits [R, K, C]`.
        encode: `encode(params, batch, *, key=None, rates=None) -> hidden [R, L, D]`.
        head: `head(params, hidden, batch, *, key=None, rates=None) -> logits [R, K, C]`; needs no encoder in params.
        vectors: `vectors(params, batch) -> [R, K, 2, D]`, u and v; raises ValueError where the pair is pooled as one.
        pooled: `pooled(params, hidden, batch) -> [R, K, parts, D]`, interaction and pooling, without dropout.
        head_pooled: `head_pooled(params, pooled, *, key=None, rates=None) -> logits [R, K, C]`; `head` is `head_pooled`
            of `pooled`, but that the interaction's dropout stands in the latter.
    """

    config: ModelConfig
    spec: EncoderSpec
    init: Callable[..., Params]
    init_above: Callable[..., Params]
    apply: Callable[..., Array]
    encode: Callable[..., Array]
    head: Callable[..., Array]
    vectors: Callable[..., Array]
    pooled: Callable[..., Array]
    head_pooled: Callable[..., Array]


def resolve(config: ModelConfig, spec: EncoderSpec) -> ModelConfig:
    """The configuration with its defaults made plain, checked against the encoder.

    Pooling defaults to the pooler for a cross-encoder whose family has one, else to cls; to the mean for a
    bi-encoder. `--model.pooler` chooses pooling by pooler.

    Raises:
        UserError: A kept pooler where the encoder has none, heads that do not divide the hidden size, or a choice
            that reads one vector where two are needed; names the option.
    """
    pooling = config.pooling
    if pooling is None and config.pooler is not None:
        pooling = "pooler"
    if pooling is None and config.kind == "bi":
        pooling = "mean"
    if pooling is None:
        pooling = "pooler" if spec.has_pooler else "cls"
    if config.pooler == "keep" and not spec.has_pooler:
        raise UserError(
            f"--model.pooler keep: {spec.family} encoders have no pooler",
            fix="use --model.pooler fresh, or --model.pooling cls, mean or max",
        )
    if config.interact.kind != "none":
        _check_heads("model.interact.heads", config.interact.heads, spec)
    if config.combine.kind == "attention":
        _check_heads("model.combine.heads", config.combine.heads, spec)
        if config.over == "pair":
            raise UserError(
                f"--model.combine.kind attention needs two vectors, and this {config.kind}-encoder pools one",
                fix="use --model.kind bi, or --model.pool-over sides with --model.pooling mean or max",
            )
    reads_a = config.kind == "bi" and config.over == "pair" and config.interact.kind == "self"
    if reads_a and pooling in ("cls", "pooler"):
        raise UserError(
            f"--model.pooling {pooling} over the pair would read A's vector alone",
            got="--model.interact.kind self",
            expected="joint or cross",
        )
    return replace(config, pooling=pooling)


def build_pair_model(
    config: ModelConfig, spec: EncoderSpec, outputs: int, *, freeze_encoder: bool = False
) -> PairModelFns:
    """A pair model on an encoder.

    Args:
        config: The stages; defaults are resolved here.
        spec: The encoder's architecture.
        outputs: Classes, or 1 for a score (`TaskSpec.outputs`).
        freeze_encoder: Whether the encoder runs without dropout even in training.

    Raises:
        UserError: Options that contradict the encoder or each other; or a combiner that is no Flax module.
    """
    config = resolve(config, spec)
    if config.combiner is not None and not isinstance(made := config.combiner(), nn.Module):
        raise UserError(
            "the combiner does not return a Flax module",
            got=type(made).__name__,
            expected="a callable without arguments, such as the module's class",
        )
    module = PairModel(config=config, spec=spec, outputs=outputs, freeze_encoder=freeze_encoder)

    def call(
        method: str | None, params: Params, *args: Any, key: PRNGKeyArray | None, rates: DropoutRates | None
    ) -> Array:
        if (key is None) != (rates is None):
            raise ValueError("key and rates go together: both for dropout, neither without")
        rngs = None if key is None else {"dropout": key}
        made: Any = module.apply({"params": params}, *args, rates=rates, rngs=rngs, method=method)
        return made

    def init(key: PRNGKeyArray) -> Params:
        return module.init({"params": key}, tiny_batch())["params"]

    def init_above(key: PRNGKeyArray) -> Params:
        batch = tiny_batch()
        hidden = jnp.zeros((*batch.input_ids.shape, spec.hidden_size), config.dtype)
        return module.init({"params": key}, hidden, batch, method="classify")["params"]

    def apply(
        params: Params, batch: Batch, *, key: PRNGKeyArray | None = None, rates: DropoutRates | None = None
    ) -> Float[Array, "rows slots outputs"]:
        return call(None, params, batch, key=key, rates=rates)

    def encode(
        params: Params, batch: Batch, *, key: PRNGKeyArray | None = None, rates: DropoutRates | None = None
    ) -> Float[Array, "rows length dim"]:
        return call("encode", params, batch, key=key, rates=rates)

    def head(
        params: Params,
        hidden: Float[Array, "rows length dim"],
        batch: Batch,
        *,
        key: PRNGKeyArray | None = None,
        rates: DropoutRates | None = None,
    ) -> Float[Array, "rows slots outputs"]:
        return call("classify", params, hidden, batch, key=key, rates=rates)

    def vectors(params: Params, batch: Batch) -> Float[Array, "rows slots 2 dim"]:
        if config.over != "sides":
            raise ValueError("this model pools one vector a pair, not u and v")
        return call("vectors", params, batch, key=None, rates=None)

    def pooled(params: Params, hidden: Float[Array, "rows length dim"], batch: Batch) -> Array:
        return call("pooled", params, hidden, batch, key=None, rates=None)

    def head_pooled(
        params: Params,
        pooled: Float[Array, "rows slots parts dim"],
        *,
        key: PRNGKeyArray | None = None,
        rates: DropoutRates | None = None,
    ) -> Float[Array, "rows slots outputs"]:
        return call("classify_pooled", params, pooled, key=key, rates=rates)

    return PairModelFns(config, spec, init, init_above, apply, encode, head, vectors, pooled, head_pooled)


def heads_by_path(config: ModelConfig, spec: EncoderSpec) -> tuple[tuple[str, int], ...]:
    """Path patterns to the number of attention heads that those parameters are made of."""
    return (
        *encoder_heads(spec),
        (r"interact/(.*/)?attention/(query|key|value|out)/.*", config.interact.heads),
        (r"combine/(.*/)?attention/(query|key|value|out)/.*", config.combine.heads),
    )


def initial_params(
    model: PairModelFns, key: PRNGKeyArray, *, encoder: Params, pooler: Params | None
) -> tuple[Params, tuple[str, ...]]:
    """What training starts from: the checkpoint's encoder, everything above it fresh but for a kept pooler.

    Fresh parameters are a function of the key and their path. The encoder is taken as it is: no second one is made.

    Args:
        model: The model.
        key: Seeds the fresh parameters.
        encoder: The checkpoint's, the subtree `encoder`.
        pooler: The checkpoint's {kernel [D, D], bias [D]}, or None where it has none.

    Returns:
        The parameters, and a note for the log on where the pooler is from.

    Raises:
        UserError: `--model.pooler keep` and a checkpoint without one.
    """
    params = {"encoder": encoder, **model.init_above(key)}
    if model.config.pooling != "pooler":
        return params, ()
    if model.config.pooler == "fresh":
        return params, ("pooler: fresh, as asked",)
    if pooler is not None:
        return {**params, "pooler": pooler}, ("pooler: kept from the checkpoint",)
    if model.config.pooler == "keep":
        raise UserError(
            "--model.pooler keep: the checkpoint carries no pooler weights",
            fix="use --model.pooler fresh, or --model.pooling cls, mean or max",
        )
    return params, ("pooler: fresh, since the checkpoint carries none",)


def _check_heads(option: str, heads: int, spec: EncoderSpec) -> None:
    if spec.hidden_size % heads:
        raise UserError(
            f"--{option} does not divide the encoder's hidden size",
            got=heads,
            expected=f"a divisor of {spec.hidden_size}",
        )
