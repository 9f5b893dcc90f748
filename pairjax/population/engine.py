"""Trains populations: many runs as one program, the `vmap` of one run.

A population is a grid of groups x variants. A group fixes what the members read: the seed of initial parameters and
dropout, and the order of the data, an array of example numbers step by step. Seeds, subsets and folds are all groups. A
variant is a setting of the hypers (rates, decay, dropout, smoothing), which are traced numbers. All variants of a group
read the same batches, so each batch is gathered once for all of them.

Groups train in chunks that fit into memory, spread over the devices. Finished chunks are saved in a folder, and an
interrupted population resumes with the next chunk. A member whose loss is not finite does not affect the others.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float32, Int32, Int64

from pairjax.base.params import flatten, merge, unflatten
from pairjax.base.types import Batch, Hypers, Params
from pairjax.step.losses import Loss
from pairjax.step.optim import Optimizer
from pairjax.step.sharding import build_mesh
from pairjax.step.state import TrainState
from pairjax.step.step import Apply, make_train_step
from pairjax.storage.arrays import read_arrays, write_arrays

EVAL_ROWS = 1024
"""Rows of pooled vectors that are evaluated at once."""


def compiler_options() -> dict[str, str] | None:
    """Returns XLA's options for the training program.

    On a CPU, XLA's own reductions replace those of the library that it calls by default. The library is made for long
    rows, and a head's rows are only as long as the number of classes.
    """
    return (
        {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"} if jax.default_backend() == "cpu" else None
    )


@dataclass(frozen=True)
class Members:
    """The runs of a population: groups G x variants V.

    Attributes:
        seeds: int64 [G]; seeds the initial parameters and dropout of each group.
        order: int32 [G, steps, B]; the train examples of each step by number, -1 for an empty slot.
        hypers: Leaves are float32 [V] if all groups share the variants, or [G, V] if each group has its own.
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
        """Number of groups, G."""
        return len(self.seeds)

    @property
    def variants(self) -> int:
        """Number of variants in each group, V."""
        return np.atleast_1d(self.hypers.learning_rate).shape[-1]

    @property
    def steps(self) -> int:
        """Number of updates of each run."""
        return self.order.shape[1]

    def group_hypers(self, groups: Int64[np.ndarray, " chosen"]) -> Hypers:
        """Returns the hypers of the chosen groups; leaves are [chosen, V]."""

        def take(leaf: Any) -> np.ndarray:
            leaf = np.atleast_1d(leaf)
            return leaf[groups] if leaf.ndim == 2 else np.broadcast_to(leaf, (len(groups), *leaf.shape)).copy()

        return jax.tree.map(take, self.hypers)

    def identity(self) -> str:
        """Returns the SHA-256 of seeds, order and hypers."""
        digest = hashlib.sha256()
        for array in (self.seeds, self.order, *jax.tree.leaves(self.hypers)):
            digest.update(str((array.shape, str(array.dtype))).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class MemberProgram:
    """What each member of a population runs, as pure functions.

    Attributes:
        init: `init(key) -> params`, the initial trainable parameters.
        apply: The model, as `make_train_step` takes it.
        loss: The loss, as `make_train_step` takes it.
        optimizer: The optimiser, with its schedule over the whole run.
        gather: `gather(data, index int32 [B]) -> Batch`; a slot has weight 0 if its index is -1.
        data: The arrays that `gather` reads; all members share them. Train examples come first.
        frozen: Parameters that do not train.
        identity: Identifies model, data and settings when a population resumes. Together with `Members.identity` it
            determines every result.
        eval_rows: Rows evaluated at once.
        row_bytes: Bytes that a row needs in one member during training, forward and backward pass together.
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
        """`start(seeds [G], V) -> states [G, V]`, jitted; all variants of a group start from the same state."""

        def start_group(seed: Array) -> TrainState:
            key = jax.random.key(seed)
            params = self.init(key)
            return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(params), key)

        def start(seeds: Array, variants: int) -> TrainState:
            def repeat(leaf: Array) -> Array:
                return jnp.broadcast_to(leaf[:, None], (leaf.shape[0], variants, *leaf.shape[1:]))

            return jax.tree.map(repeat, jax.vmap(start_group)(seeds))

        return jax.jit(start, static_argnums=1)

    @cached_property
    def trainer(self) -> Callable[..., tuple[TrainState, Array]]:
        """`train(states [G, V], order [G, n, B], hypers [G, V], data, frozen) -> (states, losses [G, V, n])`, jitted.

        The program keeps it, so populations of one shape compile it once.
        """
        step = make_train_step(self.apply, self.loss, self.optimizer)

        def run(state: TrainState, order: Array, hypers: Hypers, data: Any, frozen: Params) -> tuple[TrainState, Array]:
            def update(state: TrainState, index: Array) -> tuple[TrainState, Array]:
                state, metrics = step(state, frozen, self.gather(data, index), hypers)
                return state, metrics["loss_sum"] / jnp.maximum(metrics["weight_sum"], 1e-9)

            return jax.lax.scan(update, state, order)

        over_variants = jax.vmap(run, in_axes=(0, None, 0, None, None))
        over_groups = jax.vmap(over_variants, in_axes=(0, 0, 0, None, None))
        return jax.jit(over_groups, donate_argnums=0, compiler_options=compiler_options())

    @cached_property
    def evaluator(self) -> Callable[..., Array]:
        """`evaluate(params [G, V], index [N] or [G, N], data, frozen) -> outputs [G, V, N, C]`, jitted, no dropout."""

        def logits(params: Params, batch: Batch, frozen: Params) -> Array:
            return self.apply(merge(params, frozen), batch)[:, 0].astype(jnp.float32)

        def run(params: Params, index: Array, data: Any, frozen: Params) -> Array:
            by_group = index.ndim == 2
            batch = jax.vmap(self.gather, (None, 0))(data, index) if by_group else self.gather(data, index)
            over_variants = jax.vmap(logits, (0, None, None))
            return jax.vmap(over_variants, (0, 0 if by_group else None, None))(params, batch, frozen)

        return jax.jit(run)


@dataclass(frozen=True)
class Trained:
    """Results of a population, after the last step of each member.

    Attributes:
        loss: float32 [G, V, steps]; mean loss of each step.
        outputs: By split, float32 [G, V, N, C]; outputs of the last parameters, NaN for a member that diverged.
        diverged: int64 [G, V]; the first step whose loss was not finite, -1 if there is none.
        params: The last parameters, leaves [G, V, ...]; None unless `keep_params` was set.
        resumed: Number of chunks that were read from the folder.
    """

    loss: Float32[np.ndarray, "groups variants steps"]
    outputs: Mapping[str, Float32[np.ndarray, "groups variants pairs outputs"]]
    diverged: Int64[np.ndarray, "groups variants"]
    params: Params | None
    resumed: int = 0

    def notes(self) -> tuple[str, ...]:
        """Returns one line on the members that diverged, or nothing if none did."""
        bad = np.argwhere(self.diverged >= 0)
        if not len(bad):
            return ()
        examples = ", ".join(f"group {g} variant {v} at step {self.diverged[g, v]}" for g, v in bad[:3])
        remainder = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        return (f"{len(bad)} of {self.diverged.size} runs diverged ({examples}{remainder}); they have no score",)


def make_hypers(base: Hypers, **varied: Any) -> Hypers:
    """Builds the hypers of V variants from one setting and the values that vary.

    Args:
        base: The numbers that do not vary.
        **varied: Sequences of one length V, by name: `learning_rate`, `weight_decay`, `label_smoothing` or a dropout
            rate. Variant v takes the v-th value of each; the caller expands a grid.

    Returns:
        Hypers whose leaves are float32 [V].

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


def groups_at_once(program: MemberProgram, members: Members, *, memory: int) -> int:
    """Returns the number of groups whose parameters, moments, gradients and batch fit into `memory` bytes."""
    params = jax.eval_shape(program.init, jax.random.key(0))
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    batch = jax.eval_shape(program.gather, program.data, jax.ShapeDtypeStruct((program.eval_rows,), np.int32))
    batch_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch))
    # Parameters, two moments, gradient, update and a spare copy; a batch with its products, forward and backward.
    rows = max(program.eval_rows, members.order.shape[2])
    group_bytes = members.variants * (6 * 4 * numbers + rows * program.row_bytes) + 8 * batch_bytes
    return max(1, min(members.groups, memory // group_bytes))


class _Chunks:
    """Trains the chunks of a population, each with the same compiled programs."""

    def __init__(self, program: MemberProgram, members: Members, *, evaluate: Mapping[str, np.ndarray]) -> None:
        self.program, self.members, self.index = program, members, evaluate
        self.mesh = build_mesh()
        self.data, self.frozen = self._replicate(program.data), self._replicate(program.frozen)

    def _replicate(self, tree: Any) -> Any:
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def _shard(self, array: np.ndarray) -> Array:
        """Spreads the leading axis, that of the groups, over the devices."""
        return jax.device_put(array, NamedSharding(self.mesh, PartitionSpec("data")))

    def _outputs(self, params: Params, split: str, groups: np.ndarray) -> np.ndarray:
        """Computes the outputs of a split in blocks of few sizes, so splits share compiled programs."""
        index, blocks = self.index[split], []
        index = index[groups] if index.ndim == 2 else index
        total = index.shape[-1]
        size = min(self.program.eval_rows, 1 << max(total - 1, 0).bit_length())
        for start in range(0, total, size):
            # The last block repeats the last example until it is full.
            columns = np.minimum(np.arange(start, start + size), total - 1)
            block = self._shard(index[:, columns]) if index.ndim == 2 else index[columns]
            outputs = self.program.evaluator(params, block, self.data, self.frozen)
            blocks.append(np.asarray(outputs)[:, :, : total - start])
        return np.concatenate(blocks, axis=2)

    def run(self, groups: np.ndarray) -> dict[str, np.ndarray]:
        """Trains some groups; returns arrays by name, with parameters as `params/PATH`."""
        state = self.program.starter(self._shard(self.members.seeds[groups]), self.members.variants)
        hypers = jax.tree.map(self._shard, self.members.group_hypers(groups))
        order = self._shard(self.members.order[groups])
        state, losses = self.program.trainer(state, order, hypers, self.data, self.frozen)
        loss = np.asarray(losses)
        lost = ~np.isfinite(loss)
        diverged = np.where(lost.any(axis=2), lost.argmax(axis=2), -1).astype(np.int64)
        arrays = {"loss": loss, "diverged": diverged}
        for split in self.index:
            outputs = self._outputs(state.params, split, groups)
            arrays[f"outputs/{split}"] = np.where((diverged >= 0)[:, :, None, None], np.float32(np.nan), outputs)
        return arrays | {f"params/{path}": np.asarray(leaf) for path, leaf in flatten(state.params).items()}


def train_population(
    program: MemberProgram,
    members: Members,
    *,
    evaluate: Mapping[str, Int32[np.ndarray, "*groups pairs"]],
    keep_params: bool = False,
    folder: Path | None = None,
    memory: int = 2 << 30,
    at_once: int | None = None,
) -> Trained:
    """Trains every member to its last step.

    Args:
        program: What each member runs.
        members: The runs.
        evaluate: By split, the examples of `program.data` to compute outputs for: [N] if all groups share them, [G, N]
            if each group has its own (the fold that it has not seen).
        keep_params: Whether to return the parameters.
        folder: Where finished chunks are saved and looked for; None saves none.
        memory: Bytes that a chunk may need.
        at_once: Groups in a chunk, if they fit into memory; populations of one program with equal chunks compile once.

    Returns:
        Losses and outputs in the order of the members.
    """
    chunks = _Chunks(program, members, evaluate=evaluate)
    devices = chunks.mesh.devices.size
    size = groups_at_once(program, members, memory=memory)
    size = size if at_once is None else min(size, at_once)
    size = max(1, size // devices) * devices
    # "[steps] last" is how chunks of version 0.1.0 say when they were evaluated: they are still read.
    settings = hashlib.sha256(f"{program.identity} {members.identity()} [{members.steps}] last {size}".encode())
    for split in sorted(evaluate):
        settings.update(split.encode() + np.ascontiguousarray(evaluate[split]).tobytes())
    parts, resumed = [], 0
    for number, start in enumerate(range(0, members.groups, size)):
        identity = f"{settings.hexdigest()}-{number}"
        path = None if folder is None else folder / f"chunk-{number:04d}.npz"
        arrays = None if path is None else read_arrays(path, identity)
        resumed += arrays is not None
        if arrays is None:
            # The last chunk repeats its last group until it is full: it needs no program of its own.
            groups = np.minimum(np.arange(start, start + size), members.groups - 1)
            arrays = {name: array[: members.groups - start] for name, array in chunks.run(groups).items()}
            if not keep_params:
                arrays = {name: array for name, array in arrays.items() if not name.startswith("params/")}
            if path is not None:
                write_arrays(path, identity, arrays)
        parts.append(arrays)
    return _concatenate(parts, resumed, keep_params=keep_params)


def _concatenate(parts: list[dict[str, np.ndarray]], resumed: int, *, keep_params: bool) -> Trained:
    """Joins the arrays of all chunks along the groups."""

    def join(prefix: str) -> dict[str, np.ndarray]:
        names = [name for name in parts[0] if name.startswith(prefix)]
        return {name.removeprefix(prefix): np.concatenate([part[name] for part in parts]) for name in names}

    return Trained(
        **{name: np.concatenate([part[name] for part in parts]) for name in ("loss", "diverged")},
        outputs=join("outputs/"),
        params=unflatten(join("params/")) if keep_params else None,
        resumed=resumed,
    )
