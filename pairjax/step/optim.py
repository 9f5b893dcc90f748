"""AdamW by path tables, which say whether a parameter trains, whether it decays, and its share of the learning rate.

The update of a parameter p with gradient g, after Loshchilov and Hutter, "Decoupled Weight Decay Regularization"
(2019); the multiplier and the decay come from the tables, by p's path:

    g' = g * min(1, clip_norm / ||all g||)
    m = b1 m + (1 - b1) g';   v = b2 v + (1 - b2) g'^2
    p = p - learning_rate * schedule(t) * multiplier * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)

`torch.optim.AdamW` does the same: the learning rate of a parameter group scales its decay too. Three options change the
update. Without bias correction, m and v replace m_hat and v_hat. With decay to the initial value, `weight_decay * p`
becomes `weight_decay * (p - p_0)`. With gradual unfreezing, a leaf has no gradient, update, decay or moments before its
first step, and counts t from there.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pairjax.base.config import OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.params import Table, flatten, lookup, unflatten
from pairjax.base.types import DropoutRates, Hypers, Params

ABOVE = r"(pooler|interact|project|combine|head)/.*"
"""Path pattern of all parameters above the encoder."""

DECAY: Table[bool] = (
    (r".*/(bias|scale)", False),
    (r".*/(kernel|embedding)", True),
    (r"encoder/.*/lora_[ab]", True),
    (r"combine/.*", True),  # a user's own combiner may use any names
)
"""Whether the parameters of a path pattern decay."""


def decay_mask(params: Params) -> Params:
    """Returns a tree of bools: whether each parameter decays. Kernels and embeddings do, biases and LayerNorms do not.

    Raises:
        UserError: The table does not cover a path.
    """
    return unflatten(lookup(DECAY, list(flatten(params))))


def rate_multipliers(config: OptimConfig, params: Params) -> Params:
    """Returns a tree of floats: each parameter's multiplier of the learning rate.

    With n encoder layers it is `layer_decay ** (n - 1 - i)` for layer i, `layer_decay ** n` for the embeddings and
    their projection, and `head_multiplier` for everything above the encoder, the pooler included.

    Args:
        config: The optimiser's config.
        params: The whole tree.

    Raises:
        UserError: The table does not cover a path.
    """
    paths = list(flatten(params))
    layers = layer_count(paths)
    table: list[tuple[str, float]] = [
        (rf"encoder/layer_{i}/.*", config.layer_decay ** (layers - 1 - i)) for i in range(layers)
    ]
    table.append((r"encoder/(embeddings|projection)/.*", config.layer_decay**layers))
    table.append((r"encoder/final_norm/.*", 1.0))
    table.append((ABOVE, config.head_multiplier))
    return unflatten(lookup(table, paths))


def trainable_paths(config: OptimConfig, params: Params, *, pooler_kept: bool) -> dict[str, bool]:
    """Returns whether each path trains under `config.freeze` or LoRA, for `pairjax.base.params.split`.

    Args:
        config: The optimiser's config; `freeze`, `freeze_layers` and `lora` are used.
        params: The whole tree.
        pooler_kept: Whether the pooler is pretrained; it then freezes with the encoder.

    Raises:
        UserError: More layers are to freeze than the encoder has, or the table does not cover a path.
    """
    paths = list(flatten(params))
    layers = layer_count(paths)
    embeddings = (r"encoder/embeddings/.*", False)
    others = (rf"encoder/.*|{ABOVE}", True)
    table: list[tuple[str, bool]]
    above = [(r"pooler/.*", not pooler_kept), (ABOVE, True)]
    match config.freeze:
        case "none" if config.lora.rank:
            table = [(r"encoder/.*/lora_[ab]", True), (r"encoder/.*", False), *above]
        case "none":
            table = [others]
        case "embeddings":
            table = [embeddings, others]
        case "layers":
            if config.freeze_layers > layers:
                raise UserError(
                    "--optim.freeze-layers is more than the encoder has",
                    got=config.freeze_layers,
                    expected=f"at most {layers}",
                )
            lowest = [(rf"encoder/layer_{i}/.*", False) for i in range(config.freeze_layers)]
            table = [embeddings, (r"encoder/projection/.*", False), *lowest, others]
        case "encoder":
            table = [(r"encoder/.*", False), *above]
        case "all_but_head":
            table = [(r"head/.*", True), (rf"encoder/.*|{ABOVE}", False)]
    return lookup(table, paths)


def anchors(config: OptimConfig, params: Params, *, pooler_kept: bool) -> Params | None:
    """Returns a tree of bools: whether each parameter decays to its initial value. None if none does.

    All pretrained parameters do, after Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional
    Networks" (2018), L2-SP; here the decay is decoupled from the gradient, as all decay is.

    Args:
        config: The optimiser's config; `decay_to` and `reinit_layers` are used.
        params: The whole tree.
        pooler_kept: Whether the pooler is pretrained.

    Raises:
        UserError: The table does not cover a path.
    """
    if config.decay_to == "zero":
        return None
    paths = list(flatten(params))
    layers = layer_count(paths)
    fresh = [(rf"encoder/layer_{i}/.*", False) for i in range(max(0, layers - config.reinit_layers), layers)]
    table = [*fresh, (r"encoder/.*", True), (r"pooler/.*", pooler_kept), (ABOVE, False)]
    return unflatten(lookup(table, paths))


def turns(config: OptimConfig, params: Params, *, total_steps: int) -> Params | None:
    """Returns a tree of ints: the update at which each parameter starts to train. None if all train from the start.

    After Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification" (2018). There are G groups:
    the encoder's layers from the top down, and last the embeddings with their projection. Group j, from 0, starts at
    round(gradual * total_steps * (j + 1) / G). Everything above the encoder starts at 0.

    Args:
        config: The optimiser's config; `gradual` is used.
        params: The trainable parameters; a group without any is left out.
        total_steps: Number of updates of the run.

    Raises:
        UserError: The table does not cover a path.
    """
    if config.gradual == 0:
        return None
    paths = list(flatten(params))
    groups = [rf"encoder/layer_{i}/.*" for i in sorted(_layers(paths), reverse=True)]
    if any(path.startswith("encoder/final_norm/") for path in paths):
        # The norm after the last layer belongs to it.
        groups[:1] = [rf"encoder/final_norm/.*|{groups[0]}"] if groups else [r"encoder/final_norm/.*"]
    lowest = r"encoder/(embeddings|projection)/.*"
    if any(re.fullmatch(lowest, path) for path in paths):
        groups.append(lowest)
    table = [(group, round(config.gradual * total_steps * (j + 1) / len(groups))) for j, group in enumerate(groups)]
    return unflatten(lookup([*table, (ABOVE, 0)], paths))


def layer_count(paths: Sequence[str]) -> int:
    """Returns the number of encoder layers, from the highest index in the paths."""
    return max(_layers(paths), default=-1) + 1


def _layers(paths: Sequence[str]) -> set[int]:
    """Returns the indices of the encoder layers in the paths."""
    return {int(m[1]) for m in (re.match(r"encoder/layer_(\d+)/", path) for path in paths) if m}


def make_schedule(config: OptimConfig, *, total_steps: int) -> optax.Schedule:
    """Builds the schedule: the share of the peak learning rate at step t, from 0.

    Over w = ceil(warmup * total) steps it rises as t / w. Then it is 1 - (t - w) / (total - w) (linear),
    (1 + cos(pi (t - w) / (total - w))) / 2 (cosine), or 1 (constant).

    It equals Hugging Face's `get_*_schedule_with_warmup`: update 0 of a run with warm-up has learning rate 0 and only
    fills the moments. The one difference is that w is at most total - 1, so a run always reaches the peak.

    Args:
        config: The optimiser's config; `schedule` and `warmup` are used.
        total_steps: Number of updates of the run.
    """
    warm = min(math.ceil(config.warmup * total_steps), total_steps - 1)
    decay_steps = total_steps - warm
    after: optax.Schedule
    match config.schedule:
        case "linear":
            after = optax.schedules.linear_schedule(1.0, 0.0, decay_steps)
        case "cosine":
            after = optax.schedules.cosine_decay_schedule(1.0, decay_steps)
        case "constant":
            after = optax.schedules.constant_schedule(1.0)
    if warm == 0:
        return after
    return optax.schedules.join_schedules([optax.schedules.linear_schedule(0.0, 1.0, warm), after], [warm])


def _clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Scales the gradient down to the global norm `limit`.

    `optax.clip_by_global_norm` selects between two trees, which XLA's CPU backend writes to memory: two thirds more
    memory traffic over the whole update. The product here fuses into the update.
    """

    def clip(updates: Any, _: Any) -> Any:
        factor = jnp.minimum(1.0, limit / optax.tree.norm(updates))
        return jax.tree.map(lambda u: u * factor, updates)

    return optax.stateless(clip)


def _scale_by_path(multiplier: Params) -> optax.GradientTransformation:
    """Scales each update by its path's multiplier of the learning rate."""
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, share: u * share, updates, multiplier))


def _scale_by_adam(config: OptimConfig, turn: Params | None) -> optax.GradientTransformation:
    """Scales updates as Adam does, with or without bias correction; t counts from each leaf's first step."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), zeros(params), zeros(params))

    def update(updates: Any, state: optax.ScaleByAdamState, _: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        mu = optax.tree.update_moment(updates, state.mu, config.b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, config.b2, 2)
        count = optax.safe_increment(state.count)

        def scale(m: Any, v: Any, start: int) -> Any:
            if config.bias_correction:
                t = jnp.maximum(count - start, 1).astype(jnp.float32)
                m, v = m / (1 - config.b1**t), v / (1 - config.b2**t)
            return m / (jnp.sqrt(v) + config.eps)

        starts = jax.tree.map(lambda _: 0, mu) if turn is None else turn
        return jax.tree.map(scale, mu, nu, starts), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


class InitialState(NamedTuple):
    """The state of decay to the initial value.

    Attributes:
        initial: The initial parameters; part of the state, so checkpoints hold them.
    """

    initial: Any


def _decay_to_initial(weight_decay: Any, *, decay: Params, anchored: Params) -> optax.GradientTransformation:
    """Adds `weight_decay * (p - p_0)` to the update of an anchored parameter, `weight_decay * p` to any other."""

    def update(updates: Any, state: InitialState, params: Any = None) -> tuple[Any, InitialState]:
        def add(u: Any, p: Any, initial: Any, decays: bool, anchor: bool) -> Any:
            return u + weight_decay * (p - initial if anchor else p) if decays else u

        return jax.tree.map(add, updates, params, state.initial, decay, anchored), state

    return optax.GradientTransformation(lambda params: InitialState(jax.tree.map(jnp.copy, params)), update)


class TurnState(NamedTuple):
    """The state of gradual unfreezing.

    Attributes:
        count: int32 scalar; updates done.
        inner: The state of the inner transformation.
    """

    count: Any
    inner: Any


def _in_turn(inner: optax.GradientTransformation, turn: Params) -> optax.GradientTransformation:
    """Zeroes a leaf's gradient and its update before its first step."""

    def init(params: Any) -> TurnState:
        return TurnState(jnp.zeros([], jnp.int32), inner.init(params))

    def update(updates: Any, state: TurnState, params: Any = None) -> tuple[Any, TurnState]:
        def hold(tree: Any) -> Any:
            return jax.tree.map(lambda u, start: jnp.where(state.count >= start, u, 0.0) if start else u, tree, turn)

        updates, after = inner.update(hold(updates), state.inner, params)
        return hold(updates), TurnState(optax.safe_increment(state.count), after)

    return optax.GradientTransformation(init, update)


@dataclass(frozen=True)
class Optimizer:
    """A gradient transformation for each value of the hypers; the structure of its state is always the same.

    Attributes:
        schedule: Share of the peak learning rate, by step.
        transform: Returns the optax chain for hypers, traced or not.
    """

    schedule: optax.Schedule
    transform: Callable[[Hypers], optax.GradientTransformation]

    def __call__(self, hypers: Hypers) -> optax.GradientTransformation:
        return self.transform(hypers)

    def init(self, params: Any) -> optax.OptState:
        """Returns the state at step 0; it does not depend on the hypers."""
        return self.transform(Hypers(0.0, 0.0, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))).init(params)

    def learning_rate(self, step: Any, hypers: Hypers) -> Any:
        """Returns the learning rate of update `step`, before the multipliers of the paths."""
        return hypers.learning_rate * self.schedule(step)


def build_optimizer(
    config: OptimConfig,
    *,
    total_steps: int,
    decay: Params,
    multiplier: Params,
    anchored: Params | None = None,
    turn: Params | None = None,
) -> Optimizer:
    """Builds AdamW for a tree of trainable parameters.

    The peak learning rate and the decay come from the hypers and not from `config`, so they can be traced and vmapped.

    Args:
        config: Moments, clipping and schedule.
        total_steps: Number of updates of the run, which the schedule spans; at least 1.
        decay: A tree of bools, one per trainable parameter (`decay_mask`).
        multiplier: A tree of floats of the same structure (`rate_multipliers`).
        anchored: A tree of bools of the same structure (`anchors`); by default all parameters decay to zero.
        turn: A tree of ints of the same structure (`turns`); by default all parameters train from the start.
    """
    schedule = make_schedule(config, total_steps=total_steps)
    clip = _clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    if config.bias_correction and turn is None:
        adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
    else:
        adam = _scale_by_adam(config, turn)

    def transform(hypers: Hypers) -> optax.GradientTransformation:
        if anchored is None:
            decayed = optax.add_decayed_weights(hypers.weight_decay, mask=decay)
        else:
            decayed = _decay_to_initial(hypers.weight_decay, decay=decay, anchored=anchored)
        chain = optax.chain(
            clip,
            adam,
            decayed,
            _scale_by_path(multiplier),
            optax.scale_by_schedule(schedule),
            optax.scale(-hypers.learning_rate),
        )
        return chain if turn is None else _in_turn(chain, turn)

    return Optimizer(schedule, transform)
