"""Builds a pair model from its configuration, as pure functions: the interface of models/ to the other folders."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from pairjax.base.errors import UserError
from pairjax.base.families import find_family
from pairjax.base.model_config import DropoutConfig, ModelConfig
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Params, TaskSpec
from pairjax.models.batches import tiny_batch
from pairjax.models.encoder import encoder_heads
from pairjax.models.pair_model import PairModel


@dataclass(frozen=True, eq=False)
class PairModelFns:
    """A pair model as pure functions.

    `key` and `rates` are given together, for dropout, or both left out. Batches hold NumPy or JAX arrays. A batch has
    as many pair slots K as `batch.weight` [R, K].

    Attributes:
        config: The configuration with every default resolved.
        spec: The encoder's architecture.
        module: The Flax module.
    """

    config: ModelConfig
    spec: EncoderSpec
    module: PairModel

    @property
    def program(self) -> Hashable:
        """Identifies the functions by value, for `pairjax.step.shared.share`; with dropout they also depend on
        `module.freeze_encoder`.
        """
        # The encoder's path and the dropout rates are no part of the functions.
        config = replace(self.config, encoder="", download=False, dropout=DropoutConfig())
        task = self.module.task
        constants = (task.center, task.scale) if task.head == "cosine" else ()
        return config, self.spec, task.outputs, task.head, task.positive_index, *constants

    def _call(
        self,
        method: str | None,
        params: Params,
        *args: Any,
        key: PRNGKeyArray | None,
        rates: DropoutRates | None,
        **options: Any,
    ) -> Array:
        if (key is None) != (rates is None):
            raise ValueError("key and rates go together: both for dropout, neither without")
        rngs = None if key is None else {"dropout": key}
        output: Any = self.module.apply({"params": params}, *args, rates=rates, rngs=rngs, method=method, **options)
        return output

    @property
    def vector_size(self) -> int:
        """Size of each pooled vector, after the projection."""
        return self.config.project.sizes[-1] if self.config.project.sizes else self.spec.hidden_size

    def init(self, key: PRNGKeyArray) -> Params:
        """Draws all parameters, including the encoder's."""
        return self.module.init({"params": key}, tiny_batch())["params"]

    def init_above(self, key: PRNGKeyArray) -> Params:
        """Draws the parameters of all stages above the encoder; they equal those of `init`."""
        batch = tiny_batch()
        hidden = jnp.zeros((*batch.input_ids.shape, self.spec.hidden_size), self.config.dtype)
        return self.module.init({"params": key}, hidden, batch, method="classify").get("params", {})

    def apply(
        self, params: Params, batch: Batch, *, key: PRNGKeyArray | None = None, rates: DropoutRates | None = None
    ) -> Float[Array, "rows slots outputs"]:
        """Computes the logits of a batch."""
        return self._call(None, params, batch, key=key, rates=rates)

    def encode(
        self, params: Params, batch: Batch, *, key: PRNGKeyArray | None = None, rates: DropoutRates | None = None
    ) -> Float[Array, "rows length dim"]:
        """Computes the hidden states of a batch."""
        return self._call("encode", params, batch, key=key, rates=rates)

    def head(
        self,
        params: Params,
        hidden: Float[Array, "rows length dim"],
        batch: Batch,
        *,
        key: PRNGKeyArray | None = None,
        rates: DropoutRates | None = None,
    ) -> Float[Array, "rows slots outputs"]:
        """Computes logits from hidden states; `params` need not contain the encoder's."""
        return self._call("classify", params, hidden, batch, key=key, rates=rates)

    def vectors(
        self,
        params: Params,
        batch: Batch,
        *,
        sides: int = 2,
        key: PRNGKeyArray | None = None,
        rates: DropoutRates | None = None,
    ) -> Float[Array, "rows slots sides dim"]:
        """Computes u and v of each pair, and with 3 `sides` the vector of the negative of each triplet.

        Raises:
            ValueError: The model pools one vector per pair.
        """
        if self.config.over != "sides":
            raise ValueError("this model pools one vector per pair, not u and v")
        return self._call("vectors", params, batch, key=key, rates=rates, sides=sides)

    def pooled(
        self, params: Params, hidden: Float[Array, "rows length dim"], batch: Batch
    ) -> Float[Array, "rows slots parts size"]:
        """Computes interaction and pooling from hidden states, without dropout."""
        return self._call("pooled", params, hidden, batch, key=None, rates=None)

    def head_pooled(
        self,
        params: Params,
        pooled: Float[Array, "rows slots parts dim"],
        *,
        key: PRNGKeyArray | None = None,
        rates: DropoutRates | None = None,
    ) -> Float[Array, "rows slots outputs"]:
        """Computes logits from pooled vectors: equals `head` except for the interaction's dropout."""
        return self._call("classify_pooled", params, pooled, key=key, rates=rates)


def resolve(config: ModelConfig, spec: EncoderSpec) -> ModelConfig:
    """Resolves the configuration's defaults and checks it against the encoder.

    The default pooling of a bi-encoder is the mean. That of a cross-encoder is the pooler if its family has one, else
    cls. `--model.pooler` selects pooling by pooler, and `--model.head.kind family` that of the family's own class.

    Raises:
        UserError: The encoder has no pooler to keep, the heads do not divide the hidden size, two vectors are needed
            and one is pooled, or the family's own head reads another pooling; the message names the option.
    """
    pooling = config.pooling
    if pooling is None and config.pooler is not None:
        pooling = "pooler"
    if config.head.kind == "family":
        known = find_family(spec.family).head.pooling
        pooling = pooling or known[0]
        if pooling not in known:
            raise UserError(
                f"--model.head.kind family: {spec.family}'s own head does not read this pooling",
                got=f"--model.pooling {pooling}",
                expected=" or ".join(known),
            )
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
        _check_heads("model.interact.heads", config.interact.heads, spec.hidden_size)
    if config.combine.kind == "attention":
        _check_heads("model.combine.heads", config.combine.heads, (spec.hidden_size, *config.project.sizes)[-1])
        if config.over == "pair":
            raise UserError(
                f"--model.combine.kind attention needs two vectors, but this {config.kind}-encoder pools one",
                fix="use --model.kind bi, or --model.pool-over sides with --model.pooling mean or max",
            )
    reads_first_only = config.kind == "bi" and config.over == "pair" and config.interact.kind == "self"
    if reads_first_only and pooling in ("cls", "pooler"):
        raise UserError(
            f"--model.pooling {pooling} over the pair would read only the first text",
            got="--model.interact.kind self",
            expected="joint or cross",
        )
    return replace(config, pooling=pooling)


def build_pair_model(
    config: ModelConfig, spec: EncoderSpec, task: TaskSpec | int, *, freeze_encoder: bool = False
) -> PairModelFns:
    """Builds a pair model on an encoder.

    Args:
        config: The stages; defaults are resolved here.
        spec: The encoder's architecture.
        task: The task; or the number of classes of a softmax, or 1 for a score.
        freeze_encoder: Whether the encoder runs without dropout in training too.

    Raises:
        UserError: Options contradict the encoder or each other, or the combiner is no Flax module.
    """
    config = resolve(config, spec)
    if config.combiner is not None and not isinstance(combiner := config.combiner(), nn.Module):
        raise UserError(
            "the combiner does not return a Flax module",
            got=type(combiner).__name__,
            expected="a callable without arguments, such as the module's class",
        )
    if isinstance(task, int):
        names = tuple(map(str, range(task)))
        task = TaskSpec("regression") if task == 1 else TaskSpec("classification", names)
    if config.head.kind == "cosine" and task.outputs != 1 and task.head != "cosine":
        raise UserError("--model.head.kind cosine gives one score", got=f"{task.outputs} classes", expected="scores")
    if task.head == "sigmoid" and config.head.relu_logits:
        raise UserError(
            "--model.head.relu-logits needs a logit for each class: the sigmoid of one logit would be at least 0.5",
            got="--loss.kind binary",
            fix="leave one of them out",
        )
    module = PairModel(config=config, spec=spec, task=task, freeze_encoder=freeze_encoder)
    return PairModelFns(config, spec, module)


def heads_by_path(config: ModelConfig, spec: EncoderSpec) -> tuple[tuple[str, int], ...]:
    """Returns path patterns of attention parameters, each with its number of heads."""
    return (
        *encoder_heads(spec),
        (r"interact/(.*/)?attention/(query|key|value|out)/.*", config.interact.heads),
        (r"combine/(.*/)?attention/(query|key|value|out)/.*", config.combine.heads),
    )


def initial_params(
    model: PairModelFns, key: PRNGKeyArray, *, encoder: Params, pooler: Params | None
) -> tuple[Params, tuple[str, ...]]:
    """Returns the parameters that training starts from: pretrained encoder, kept or new pooler, new layers above.

    New parameters are a function of the key and their path. The encoder's arrays are not copied.

    Args:
        model: The model.
        key: Seeds the new parameters.
        encoder: The pretrained subtree `encoder`.
        pooler: The pretrained {kernel [D, D], bias [D]}; None if there is none.

    Returns:
        The parameters, and a note for the log about the pooler's origin.

    Raises:
        UserError: `--model.pooler keep` is given, but the pretrained weights have no pooler.
    """
    params = {"encoder": encoder, **model.init_above(key)}
    if model.config.pooling != "pooler":
        return params, ()
    if model.config.pooler == "fresh":
        return params, ("pooler: new, as requested",)
    if pooler is not None:
        return {**params, "pooler": pooler}, ("pooler: kept from the pretrained weights",)
    if model.config.pooler == "keep":
        raise UserError(
            "--model.pooler keep: the pretrained weights have no pooler",
            fix="use --model.pooler fresh, or --model.pooling cls, mean or max",
        )
    return params, ("pooler: new, because the pretrained weights have none",)


def _check_heads(option: str, heads: int, size: int) -> None:
    if size % heads:
        raise UserError(
            f"--{option} does not divide the size of the vectors", got=heads, expected=f"a divisor of {size}"
        )
