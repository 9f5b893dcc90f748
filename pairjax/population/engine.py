"""Populations: many runs trained as one program, `vmap` of one run.

A population is a grid of groups x variants. A group is what decides the data: its seed (initial parameters, dropout)
and its order, an array of row numbers step by step, so that seeds, subsets and folds are all groups. A variant is a
setting of the hypers (rates, decay, dropout, smoothing), which are traced numbers. The variants of a group read the
same batches, which are gathered once for all of them.

Groups are trained in chunks that fit into memory, spread over the devices; a chunk that is done is kept in the folder,
and a population that was stopped goes on with the next one. A member whose loss is not finite touches no other.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float32, Int32, Int64

from pairjax.base.params import flatten, merge, unflatten
from pairjax.base.types import Batch, Hypers, Params
from pairjax.step.optim import Optimizer
from pairjax.step.sharding import build_mesh
from pairjax.step.state import TrainState
from pairjax.step.step import Apply, Loss, make_train_step
from pairjax.storage.arrays import read_arrays, write_arrays

EVAL_ROWS = 1024
"""Rows of vectors evaluated at once."""


def trainer_options() -> dict[str, str] | None:
    """Compiler options of a population's training: on a CPU XLA's own reductions, since those of the library that it
    calls by default are made for long rows, and a head's rows are as long as it has classes."""
    return (
        {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"} if jax.default_backend() == "cpu" else None
    )


@dataclass(frozen=True)
class Members:
    """Which runs: groups G x variants V.

    Attributes:
        seeds: int64 [G], of the initial parameters and of dropout.
        order: int32 [G, steps, B]; train rows of each step, -1 for an empty slot.
        hypers: Leaves float32 [V], the same variants in every group, or [G, V], where each group has its own.
    """

    seeds: Int64[np.ndarray, " groups"]
    order: Int32[np.ndarray, "groups steps rows"]
    hypers: Hypers

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.order):
            raise ValueError(f"{len(self.seeds)} seeds for {len(self.order)} orders")
        rate = np.asarray(self.hypers.learning_rate)
        if rate.ndim == 2 and len(rate) != len(self.seeds):
            raise ValueError(f"hypers of {len(rate)} groups for {len(self.seeds)} seeds")

    @property
    def groups(self) -> int:
        return len(self.seeds)

    @property
    def variants(self) -> int:
        return np.atleast_1d(self.hypers.learning_rate).shape[-1]

    def hypers_of(self, groups: np.ndarray) -> Hypers:
        """Hypers of some groups, leaves [groups, V]."""

        def one(leaf: Any) -> np.ndarray:
            leaf = np.atleast_1d(leaf)
            return leaf[groups] if leaf.ndim == 2 else np.broadcast_to(leaf, (len(groups), *leaf.shape)).copy()

        return jax.tree.map(one, self.hypers)

    @property
    def steps(self) -> int:
        return self.order.shape[1]

    def identity(self) -> str:
        """SHA-256 of all of it."""
        digest = hashlib.sha256()
        for array in (self.seeds, self.order, *jax.tree.leaves(self.hypers)):
            digest.update(str((array.shape, str(array.dtype))).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class MemberProgram:
    """What a member runs; pure functions.

    Attributes:
        init: `init(key) -> trainable params`.
        apply: As `make_train_step` takes it.
        loss: Likewise.
        optimizer: Over the whole length of a run.
        gather: `gather(data, index int32 [B]) -> Batch`, a slot with weight 0 where the index is -1.
        data: Its arrays, which every member reads; train rows first if there are several splits.
        frozen: Parameters that do not train.
        identity: Of model, data and settings, for resuming; with `Members.identity` it decides every result.
        eval_rows: Rows evaluated at once.
        row_bytes: What a row takes in one member while it trains, forward and back.
    """

    init: Callable[[Array], Params]
    apply: Apply
    loss: Loss
    optimizer: Optimizer
    gather: Callable[[Any, Array], Batch]
    data: Any
    frozen: Params
    identity: str
    eval_rows: int = EVAL_ROWS
    row_bytes: int = 256

    @cached_property
    def starter(self) -> Callable[[Array, int], TrainState]:
        """`start(seeds [G], V) -> states [G, V]`, jitted, kept like `trainer`; the variants of a group begin alike."""

        def one(seed: Array) -> TrainState:
            key = jax.random.key(seed)
            params = self.init(key)
            return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(params), key)

        def start(seeds: Array, variants: int) -> TrainState:
            def spread(leaf: Array) -> Array:
                return jnp.broadcast_to(leaf[:, None], (leaf.shape[0], variants, *leaf.shape[1:]))

            return jax.tree.map(spread, jax.vmap(one)(seeds))

        return jax.jit(start, static_argnums=1)

    @cached_property
    def trainer(self) -> Callable[..., tuple[TrainState, Array]]:
        """`train(states [G, V], order [G, n, B], hypers [G, V], data, frozen) -> (states, losses [G, V, n])`, jitted.

        Kept with the program, so that populations of one shape share what was compiled.
        """
        step = make_train_step(self.apply, self.loss, self.optimizer)

        def run(state: TrainState, order: Array, hypers: Hypers, data: Any, frozen: Params) -> tuple[TrainState, Array]:
            def update(state: TrainState, index: Array) -> tuple[TrainState, Array]:
                state, metrics = step(state, frozen, self.gather(data, index), hypers)
                return state, metrics["loss_sum"] / jnp.maximum(metrics["weight_sum"], 1e-9)

            return jax.lax.scan(update, state, order)

        over_variants = jax.vmap(run, in_axes=(0, None, 0, None, None))
        members = jax.vmap(over_variants, in_axes=(0, 0, 0, None, None))
        return jax.jit(members, donate_argnums=0, compiler_options=trainer_options())

    @cached_property
    def evaluator(self) -> Callable[..., Array]:
        """`evaluate(params [G, V], index [N] or [G, N], data, frozen) -> outputs [G, V, N, C]`, without dropout."""

        def one(params: Params, batch: Batch, frozen: Params) -> Array:
            return self.apply(merge(params, frozen), batch)[:, 0].astype(jnp.float32)

        def run(params: Params, index: Array, data: Any, frozen: Params) -> Array:
            own = index.ndim == 2
            batch = jax.vmap(self.gather, (None, 0))(data, index) if own else self.gather(data, index)
            return jax.vmap(jax.vmap(one, (0, None, None)), (0, 0 if own else None, None))(params, batch, frozen)

        return jax.jit(run)


@dataclass(frozen=True)
class Trained:
    """What a population leaves.

    Attributes:
        loss: float32 [G, V, steps], the mean loss of each step.
        outputs: By split, float32 [G, V, N, C], of the last parameters or the best; NaN for a member that diverged.
        eval_steps: int64 [E], updates done at each evaluation.
        curve: float64 [G, V, E], the score on dev at each; NaN where undefined.
        best_step: int64 [G, V], updates done by the parameters that `outputs` are of.
        diverged: int64 [G, V], the first step whose loss was not finite, -1 for none.
        params: Leaves [G, V, ...]; None unless they were asked for.
        resumed: Chunks that were there already.
    """

    loss: Float32[np.ndarray, "groups variants steps"]
    outputs: Mapping[str, Float32[np.ndarray, "groups variants pairs outputs"]]
    eval_steps: Int64[np.ndarray, " evals"]
    curve: Float[np.ndarray, "groups variants evals"]
    best_step: Int64[np.ndarray, "groups variants"]
    diverged: Int64[np.ndarray, "groups variants"]
    params: Params | None
    resumed: int = 0

    def notes(self) -> tuple[str, ...]:
        """A line on the members that diverged, if any."""
        bad = np.argwhere(self.diverged >= 0)
        if not len(bad):
            return ()
        shown = ", ".join(f"group {g} variant {v} at step {self.diverged[g, v]}" for g, v in bad[:3])
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        return (f"{len(bad)} of {self.diverged.size} runs diverged ({shown}{more}); they have no score",)


def make_hypers(base: Hypers, **varied: Any) -> Hypers:
    """Hypers with leaves [V] from one setting and the values that vary.

    Args:
        base: Numbers for what does not vary.
        varied: `learning_rate`, `weight_decay`, `label_smoothing`, or a dropout rate by name; sequences of one length,
            read side by side (a grid is laid out by the caller).

    Raises:
        ValueError: Lengths differ, or a name is unknown.
    """
    sizes = {len(values) for values in varied.values()} or {1}
    if len(sizes) != 1:
        raise ValueError(f"variants of several lengths: {sorted(sizes)}")
    size = sizes.pop()
    rates = {name: varied.pop(name) for name in base.rates._fields if name in varied}
    changed = base._replace(rates=base.rates._replace(**rates), **varied)
    return jax.tree.map(
        lambda x: np.broadcast_to(np.asarray(x, np.float32), (size,)).copy(),
        changed,
        is_leaf=lambda x: not isinstance(x, Hypers | type(base.rates)),
    )


def groups_at_once(program: MemberProgram, runs: Members, *, memory: int) -> int:
    """Groups of a chunk: as many as keep parameters, moments, gradients and a batch within `memory` bytes."""
    params = jax.eval_shape(program.init, jax.random.key(0))
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    batch = jax.eval_shape(program.gather, program.data, jax.ShapeDtypeStruct((program.eval_rows,), np.int32))
    read = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch))
    # Parameters, two moments, gradient, update and the best so far; a batch with its products, forward and back.
    rows = max(program.eval_rows, runs.order.shape[2])
    each = runs.variants * (6 * 4 * numbers + rows * program.row_bytes) + 8 * read
    return max(1, min(runs.groups, memory // each))


def _segments(steps: int, every: int | None) -> list[int]:
    """Updates done at each evaluation."""
    every = min(every or steps, steps)
    ends = list(range(every, steps + 1, every))
    return ends if ends[-1] == steps else [*ends, steps]


Score = Callable[[np.ndarray], np.ndarray]
"""From dev outputs [G, V, N, C] to scores [G, V], more is better, NaN where undefined."""


class _Chunks:
    """The compiled programs of a population, and the loop over one chunk."""

    def __init__(self, program: MemberProgram, runs: Members, *, evaluate: Mapping[str, np.ndarray]) -> None:
        self.program, self.runs, self.index = program, runs, evaluate
        self.mesh = build_mesh()
        self.data, self.frozen = self.whole(program.data), self.whole(program.frozen)

    def whole(self, tree: Any) -> Any:
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def by_group(self, array: np.ndarray) -> Array:
        return jax.device_put(array, NamedSharding(self.mesh, PartitionSpec("data")))

    def outputs(self, params: Params, split: str, groups: np.ndarray) -> np.ndarray:
        """Of all rows of a split, in blocks of few sizes, so that other splits need no other program."""
        index, parts = self.index[split], []
        index = index[groups] if index.ndim == 2 else index
        total = index.shape[-1]
        block = min(self.program.eval_rows, 1 << max(total - 1, 0).bit_length())
        for start in range(0, total, block):
            places = np.minimum(np.arange(start, start + block), total - 1)
            rows = self.by_group(index[:, places]) if index.ndim == 2 else index[places]
            parts.append(
                np.asarray(self.program.evaluator(params, rows, self.data, self.frozen))[:, :, : total - start]
            )
        return np.concatenate(parts, axis=2)

    def run(self, groups: np.ndarray, *, ends: list[int], score: Score | None, keep: str) -> dict[str, np.ndarray]:
        """Train the groups; arrays by name, parameters as `params/PATH`."""
        state = self.program.starter(self.by_group(self.runs.seeds[groups]), self.runs.variants)
        shape = (len(groups), self.runs.variants)
        losses, curve = [], np.full((*shape, len(ends)), np.nan)
        best, best_step = np.full(shape, -np.inf), np.full(shape, ends[-1], np.int64)
        hypers = jax.tree.map(self.by_group, self.runs.hypers_of(groups))
        # The trainer donates its state, and what is kept must outlive it.
        kept = jax.tree.map(jnp.copy, state.params) if keep == "best" else None
        for place, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            part = self.by_group(self.runs.order[groups, start:end])
            state, loss = self.program.trainer(state, part, hypers, self.data, self.frozen)
            losses.append(np.asarray(loss))
            if score is not None:
                curve[:, :, place] = score(self.outputs(state.params, "dev", groups))
            if keep == "best":
                better = np.nan_to_num(curve[:, :, place], nan=-np.inf) > best
                best, best_step = np.where(better, curve[:, :, place], best), np.where(better, end, best_step)
                assert kept is not None
                kept = _choose(self.by_group(better), state.params, kept)
        params = state.params if kept is None else kept
        all_losses = np.concatenate(losses, axis=2)
        lost = ~np.isfinite(all_losses)
        diverged = np.where(lost.any(axis=2), lost.argmax(axis=2), -1).astype(np.int64)
        found: dict[str, np.ndarray] = {"loss": all_losses, "curve": curve}
        found |= {"best_step": best_step, "diverged": diverged}
        for split in self.index:
            outputs = self.outputs(params, split, groups)
            found[f"outputs/{split}"] = np.where((diverged >= 0)[:, :, None, None], np.float32(np.nan), outputs)
        return found | {f"params/{path}": np.asarray(leaf) for path, leaf in flatten(params).items()}


@jax.jit
def _choose(better: Array, new: Params, old: Params) -> Params:
    """Members' new parameters where better, a copy either way."""

    def one(x: Array, y: Array) -> Array:
        return jnp.where(better.reshape(better.shape + (1,) * (x.ndim - 2)), x, y)

    return jax.tree.map(one, new, old)


def train_population(
    program: MemberProgram,
    runs: Members,
    *,
    evaluate: Mapping[str, Int32[np.ndarray, "*groups pairs"]],
    score: Score | None = None,
    eval_every: int | None = None,
    keep: Literal["last", "best"] = "last",
    keep_params: bool = False,
    folder: Path | None = None,
    memory: int = 2 << 30,
    at_once: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Trained:
    """Train every member.

    Args:
        program: What a member runs.
        runs: Which members.
        evaluate: By split, the rows of `program.data` whose outputs are wanted: [N], the same for all, or [G, N], each
            group's own (the fold that it has not seen).
        score: Of the split `dev`, at each evaluation.
        eval_every: Updates between evaluations; default: at the end alone.
        keep: Outputs of the last parameters, or of those with the best score.
        keep_params: Whether parameters are returned.
        folder: Where finished chunks are kept and found again; None keeps none.
        memory: Bytes that a chunk may take.
        at_once: Groups of a chunk, where memory allows; populations of one program with equal chunks compile once.
        progress: Called with the number of runs of each chunk that is done.

    Returns:
        In the order of the runs.
    """
    if (keep == "best" or score is not None) and (score is None or "dev" not in evaluate):
        raise ValueError("a score needs the split dev, and the best parameters a score")
    ends = _segments(runs.steps, eval_every)
    chunks = _Chunks(program, runs, evaluate=evaluate)
    devices = chunks.mesh.devices.size
    size = groups_at_once(program, runs, memory=memory)
    size = size if at_once is None else min(size, at_once)
    size = max(1, size // devices) * devices
    settings = hashlib.sha256(f"{program.identity} {runs.identity()} {ends} {keep} {size}".encode())
    for split in sorted(evaluate):
        settings.update(split.encode() + np.ascontiguousarray(evaluate[split]).tobytes())
    parts, resumed = [], 0
    for number, start in enumerate(range(0, runs.groups, size)):
        identity = f"{settings.hexdigest()}-{number}"
        path = None if folder is None else folder / f"chunk-{number:04d}.npz"
        found = None if path is None else read_arrays(path, identity)
        resumed += found is not None
        if found is None:
            # The last chunk repeats a group, so that it needs no program of its own.
            groups = np.minimum(np.arange(start, start + size), runs.groups - 1)
            found = chunks.run(groups, ends=ends, score=score, keep=keep)
            found = {name: array[: runs.groups - start] for name, array in found.items()}
            if not keep_params:
                found = {name: array for name, array in found.items() if not name.startswith("params/")}
            if path is not None:
                write_arrays(path, identity, found)
        parts.append(found)
        progress(len(found["best_step"]) * runs.variants)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _trained(whole, ends, resumed, keep_params=keep_params)


def _trained(whole: Mapping[str, np.ndarray], ends: list[int], resumed: int, *, keep_params: bool) -> Trained:
    flat = {name.removeprefix("params/"): array for name, array in whole.items() if name.startswith("params/")}
    return Trained(
        loss=whole["loss"],
        outputs={name.removeprefix("outputs/"): array for name, array in whole.items() if name.startswith("outputs/")},
        eval_steps=np.asarray(ends, np.int64),
        curve=whole["curve"],
        best_step=whole["best_step"],
        diverged=whole["diverged"],
        params=unflatten(flat) if keep_params else None,
        resumed=resumed,
    )
