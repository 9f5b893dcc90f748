"""AdamW from path tables: which parameters train, which decay, and at what share of the learning rate.

One update of a parameter p with gradient g, after Loshchilov and Hutter, "Decoupled Weight Decay Regularization"
(2019), with the multiplier and the decay that the tables give for p's path:

    g' = g * min(1, clip_norm / ||all g||)
    m = b1 m + (1 - b1) g';   v = b2 v + (1 - b2) g'^2
    p = p - learning_rate * schedule(t) * multiplier * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)

As in `torch.optim.AdamW`, whose parameter groups' rates scale the decay too. Three options change it: without bias
correction m and v stand for m_hat and v_hat; decay to the initial value draws p to where it started; a leaf whose turn
has not come (gradual unfreezing) has no gradient, update, decay or moments, and counts t from its turn on.
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

ABOVE = r"(pooler|interact|combine|head)/.*"
"""All that stands above the encoder."""

DECAY: Table[bool] = (
    (r".*/(bias|scale)", False),
    (r".*/(kernel|embedding)", True),
    (r"encoder/.*/lora_[ab]", True),
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
    layers = layer_count(paths)
    table: list[tuple[str, float]] = [
        (rf"encoder/layer_{i}/.*", config.layer_decay ** (layers - 1 - i)) for i in range(layers)
    ]
    table.append((r"encoder/(embeddings|projection)/.*", config.layer_decay**layers))
    table.append((ABOVE, config.head_multiplier))
    return unflatten(lookup(table, paths))


def trainable_paths(config: OptimConfig, params: Params, *, pooler_kept: bool) -> dict[str, bool]:
    """Which paths train under `config.freeze`, or with LoRA; for `pairjax.base.params.split`.

    Args:
        config: Its `freeze`, `freeze_layers` and `lora`.
        params: The whole tree.
        pooler_kept: Whether the pooler came with the checkpoint; it then freezes with the encoder.

    Raises:
        UserError: More layers to freeze than there are, or a path that the table does not cover.
    """
    paths = list(flatten(params))
    layers = layer_count(paths)
    embeddings = (r"encoder/embeddings/.*", False)
    rest = (rf"encoder/.*|{ABOVE}", True)
    table: list[tuple[str, bool]]
    above = [(r"pooler/.*", not pooler_kept), (ABOVE, True)]
    match config.freeze:
        case "none" if config.lora.rank:
            table = [(r"encoder/.*/lora_[ab]", True), (r"encoder/.*", False), *above]
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
            table = [(r"encoder/.*", False), *above]
        case "all_but_head":
            table = [(r"head/.*", True), (rf"encoder/.*|{ABOVE}", False)]
    return lookup(table, paths)


def anchors(config: OptimConfig, params: Params, *, pooler_kept: bool) -> Params | None:
    """What decays to its initial value: all that came from the checkpoint. A tree of bools; None where nothing does.

    After Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks" (2018), L2-SP; here
    decoupled, as the rest of the decay is.

    Args:
        config: Its `decay_to` and `reinit_layers`.
        params: The whole tree.
        pooler_kept: Whether the pooler came with the checkpoint.

    Raises:
        UserError: A path that the table does not cover.
    """
    if config.decay_to == "zero":
        return None
    paths = list(flatten(params))
    layers = layer_count(paths)
    fresh = [(rf"encoder/layer_{i}/.*", False) for i in range(max(0, layers - config.reinit_layers), layers)]
    table = [*fresh, (r"encoder/.*", True), (r"pooler/.*", pooler_kept), (ABOVE, False)]
    return unflatten(lookup(table, paths))


def turns(config: OptimConfig, params: Params, *, total_steps: int) -> Params | None:
    """The update at which each parameter's turn comes, a tree of ints; None where all train from the start.

    After Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification" (2018). Of G groups, the
    layers from the top down and the embeddings with their projection last, group j from 0 begins at
    round(gradual * total_steps * (j + 1) / G); all above the encoder at 0.

    Args:
        config: Its `gradual`.
        params: The trainable parameters; groups without one take no turn.
        total_steps: Of the run.

    Raises:
        UserError: A path that the table does not cover.
    """
    if config.gradual == 0:
        return None
    paths = list(flatten(params))
    layers = {int(m[1]) for m in (re.match(r"encoder/layer_(\d+)/", path) for path in paths) if m}
    groups = [rf"encoder/layer_{i}/.*" for i in sorted(layers, reverse=True)]
    lowest = r"encoder/(embeddings|projection)/.*"
    if any(re.fullmatch(lowest, path) for path in paths):
        groups.append(lowest)
    table = [(group, round(config.gradual * total_steps * (j + 1) / len(groups))) for j, group in enumerate(groups)]
    return unflatten(lookup([*table, (ABOVE, 0)], paths))


def layer_count(paths: Sequence[str]) -> int:
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


def _scale_by_adam(config: OptimConfig, turn: Params | None) -> optax.GradientTransformation:
    """Adam's scaling with or without bias correction; t counts from each leaf's turn."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), zeros(params), zeros(params))

    def update(updates: Any, state: optax.ScaleByAdamState, _: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        mu = optax.tree.update_moment(updates, state.mu, config.b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, config.b2, 2)
        count = optax.safe_increment(state.count)

        def scale(m: Any, v: Any, start: int) -> Any:
            if config.bias_correction:
                own = jnp.maximum(count - start, 1).astype(jnp.float32)
                m, v = m / (1 - config.b1**own), v / (1 - config.b2**own)
            return m / (jnp.sqrt(v) + config.eps)

        starts = jax.tree.map(lambda _: 0, mu) if turn is None else turn
        return jax.tree.map(scale, mu, nu, starts), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


class InitialState(NamedTuple):
    """The parameters as they started; the optimiser's state, so that a checkpoint holds them."""

    initial: Any


def _decay_to_initial(weight_decay: Any, *, decay: Params, anchored: Params) -> optax.GradientTransformation:
    """Adds `weight_decay * (p - p at the start)`, or `weight_decay * p` where p is no anchored one."""

    def update(updates: Any, state: InitialState, params: Any = None) -> tuple[Any, InitialState]:
        def add(u: Any, p: Any, initial: Any, decays: bool, anchor: bool) -> Any:
            return u + weight_decay * (p - initial if anchor else p) if decays else u

        return jax.tree.map(add, updates, params, state.initial, decay, anchored), state

    return optax.GradientTransformation(lambda params: InitialState(jax.tree.map(jnp.copy, params)), update)


class TurnState(NamedTuple):
    """Updates done, and the state of what takes turns."""

    count: Any
    inner: Any


def _in_turn(inner: optax.GradientTransformation, turn: Params) -> optax.GradientTransformation:
    """No gradient into a leaf's moments, and no update out, before its turn."""

    def init(params: Any) -> TurnState:
        return TurnState(jnp.zeros([], jnp.int32), inner.init(params))

    def update(updates: Any, state: TurnState, params: Any = None) -> tuple[Any, TurnState]:
        def hold(tree: Any) -> Any:
            return jax.tree.map(lambda u, start: jnp.where(state.count >= start, u, 0.0) if start else u, tree, turn)

        made, after = inner.update(hold(updates), state.inner, params)
        return hold(made), TurnState(optax.safe_increment(state.count), after)

    return optax.GradientTransformation(init, update)


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
        return self.transform(Hypers(0.0, 0.0, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))).init(params)

    def learning_rate(self, step: Any, hypers: Hypers) -> Any:
        """The rate of update `step`, before the paths' multipliers."""
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
    """AdamW over a tree of trainable parameters.

    The peak rate and the decay are read from the hypers, not from `config`, so that they can be traced and vmapped.

    Args:
        config: Moments, clipping and schedule.
        total_steps: Updates of the whole run, which the schedule spans; at least 1.
        decay: Bools, shaped like the trainable parameters (`decay_mask`).
        multiplier: Floats, shaped alike (`rate_multipliers`).
        anchored: Bools, shaped alike (`anchors`); by default all decays to zero.
        turn: Ints, shaped alike (`turns`); by default all trains from the start.
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
