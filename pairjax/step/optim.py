"""AdamW from path tables: which parameters train, which decay, and at what share of the learning rate.

One update of a parameter p with gradient g, after Loshchilov and Hutter, "Decoupled Weight Decay Regularization"
(2019), with the multiplier and the decay that the tables give for p's path:

    g' = g * min(1, clip_norm / ||all g||)
    m = b1 m + (1 - b1) g';   v = b2 v + (1 - b2) g'^2
    p = p - learning_rate * schedule(t) * multiplier * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)

As in `torch.optim.AdamW`, whose parameter groups' rates scale the decay too.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pairjax.base.config import OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.params import Table, flatten, lookup, unflatten
from pairjax.base.types import Hypers, Params, Rates

ABOVE = r"(pooler|interact|combine|head)/.*"
"""All that stands above the encoder."""

DECAY: Table[bool] = (
    (r".*/(bias|scale)", False),
    (r".*/(kernel|embedding)", True),
    (r"combine/.*", True),  # a user's own combiner may name its parameters as it likes
)


def decay_mask(params: Params) -> Params:
    """Which parameters decay: kernels and embeddings, neither biases nor LayerNorms. A tree of bools.

    Raises:
        UserError: A path that the table does not cover.
    """
    return unflatten(lookup(DECAY, list(flatten(params))))


def rate_multipliers(config: OptimConfig, params: Params) -> Params:
    """Each parameter's share of the learning rate, a tree of floats.

    With n encoder layers: 1 for the top one, `layer_decay ** (n - 1 - i)` for layer i, `layer_decay ** n` for the
    embeddings and their projection, `head_multiplier` for all above the encoder, the pooler included.

    Raises:
        UserError: A path that the table does not cover.
    """
    paths = list(flatten(params))
    layers = _layer_count(paths)
    table: list[tuple[str, float]] = [
        (rf"encoder/layer_{i}/.*", config.layer_decay ** (layers - 1 - i)) for i in range(layers)
    ]
    table.append((r"encoder/(embeddings|projection)/.*", config.layer_decay**layers))
    table.append((ABOVE, config.head_multiplier))
    return unflatten(lookup(table, paths))


def trainable_paths(config: OptimConfig, params: Params, *, pooler_kept: bool) -> dict[str, bool]:
    """Which paths train under `config.freeze`; for `pairjax.base.params.split`.

    Args:
        config: Its `freeze` and `freeze_layers`.
        params: The whole tree.
        pooler_kept: Whether the pooler came with the checkpoint; it then freezes with the encoder.

    Raises:
        UserError: More layers to freeze than there are, or a path that the table does not cover.
    """
    paths = list(flatten(params))
    layers = _layer_count(paths)
    embeddings = (r"encoder/embeddings/.*", False)
    rest = (rf"encoder/.*|{ABOVE}", True)
    table: list[tuple[str, bool]]
    match config.freeze:
        case "none":
            table = [rest]
        case "embeddings":
            table = [embeddings, rest]
        case "layers":
            if config.freeze_layers > layers:
                raise UserError(
                    "--optim.freeze-layers is more than the encoder has",
                    got=config.freeze_layers,
                    expected=f"at most {layers}",
                )
            lowest = [(rf"encoder/layer_{i}/.*", False) for i in range(config.freeze_layers)]
            table = [embeddings, (r"encoder/projection/.*", False), *lowest, rest]
        case "encoder":
            table = [(r"encoder/.*", False), (r"pooler/.*", not pooler_kept), (ABOVE, True)]
        case "all_but_head":
            table = [(r"head/.*", True), (rf"encoder/.*|{ABOVE}", False)]
    return lookup(table, paths)


def _layer_count(paths: Sequence[str]) -> int:
    """Encoder layers, by the highest index in the paths."""
    found = [int(m[1]) for m in (re.match(r"encoder/layer_(\d+)/", path) for path in paths) if m]
    return max(found, default=-1) + 1


def make_schedule(config: OptimConfig, *, total_steps: int) -> optax.Schedule:
    """Share of the peak rate at step t, from 0; equal to Hugging Face's `get_*_schedule_with_warmup`.

    Over w = ceil(warmup * total) steps it rises as t / w, so that update 0 of a run with warm-up has rate 0 and only
    fills the moments, as theirs does. Unlike theirs w is at most total - 1, and so a run always reaches the peak.
    Then linear 1 - (t - w) / (total - w), cosine (1 + cos(pi (t - w) / (total - w))) / 2, or 1.
    """
    warm = min(math.ceil(config.warmup * total_steps), total_steps - 1)
    rest = total_steps - warm
    after: optax.Schedule
    match config.schedule:
        case "linear":
            after = optax.schedules.linear_schedule(1.0, 0.0, rest)
        case "cosine":
            after = optax.schedules.cosine_decay_schedule(1.0, rest)
        case "constant":
            after = optax.schedules.constant_schedule(1.0)
    if warm == 0:
        return after
    return optax.schedules.join_schedules([optax.schedules.linear_schedule(0.0, 1.0, warm), after], [warm])


def _clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Scale the whole gradient down to the norm `limit`.

    `optax.clip_by_global_norm` selects between two trees, which XLA's CPU backend writes out: two thirds more memory
    traffic over the whole update. A product fuses into it.
    """

    def clip(updates: Any, _: Any) -> Any:
        factor = jnp.minimum(1.0, limit / optax.tree.norm(updates))
        return jax.tree.map(lambda u: u * factor, updates)

    return optax.stateless(clip)


def _scale_by_path(multiplier: Params) -> optax.GradientTransformation:
    """Scale each update by its path's share of the rate."""
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, share: u * share, updates, multiplier))


@dataclass(frozen=True)
class Optimizer:
    """A gradient transformation for each setting of the hypers, all with one kind of state.

    Attributes:
        schedule: Share of the peak rate by step.
        transform: The optax chain for hypers, traced or not.
    """

    schedule: optax.Schedule
    transform: Callable[[Hypers], optax.GradientTransformation]

    def __call__(self, hypers: Hypers) -> optax.GradientTransformation:
        return self.transform(hypers)

    def init(self, params: Any) -> optax.OptState:
        """The state at step 0; it does not depend on the hypers."""
        return self.transform(Hypers(0.0, 0.0, 0.0, Rates(0.0, 0.0, 0.0, 0.0))).init(params)

    def learning_rate(self, step: Any, hypers: Hypers) -> Any:
        """The rate of update `step`, before the paths' multipliers."""
        return hypers.learning_rate * self.schedule(step)


def build_optimizer(config: OptimConfig, *, total_steps: int, decay: Params, multiplier: Params) -> Optimizer:
    """AdamW over a tree of trainable parameters.

    The peak rate and the decay are read from the hypers, not from `config`, so that they can be traced and vmapped.

    Args:
        config: Moments, clipping and schedule.
        total_steps: Updates of the whole run, which the schedule spans; at least 1.
        decay: Bools, shaped like the trainable parameters (`decay_mask`).
        multiplier: Floats, shaped alike (`rate_multipliers`).
    """
    schedule = make_schedule(config, total_steps=total_steps)
    clip = _clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()

    def transform(hypers: Hypers) -> optax.GradientTransformation:
        return optax.chain(
            clip,
            optax.scale_by_adam(config.b1, config.b2, config.eps),
            optax.add_decayed_weights(hypers.weight_decay, mask=decay),
            _scale_by_path(multiplier),
            optax.scale_by_schedule(schedule),
            optax.scale(-hypers.learning_rate),
        )

    return Optimizer(schedule, transform)
