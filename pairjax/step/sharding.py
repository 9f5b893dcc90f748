"""The device mesh, and the sharding of parameters and batches on it.

Rows are sharded over `data` and `fsdp`. Parameters are sharded as a table from path patterns to partition specs says:
over `fsdp` to save memory (each device holds a part and gathers the rest while it is used), and over `tensor` by
attention heads, feed-forward units and vocabulary, as in Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter
Language Models Using Model Parallelism" (2019).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from pairjax.base.errors import UserError
from pairjax.base.params import Table, flatten, lookup, unflatten
from pairjax.base.types import Batch, Params
from pairjax.step.shared import share

T = TypeVar("T")

AXES = ("data", "fsdp", "tensor")
ROWS = PartitionSpec(("data", "fsdp"))
"""Partition spec of a batch's leading axis."""

REPLICATED: Table[PartitionSpec] = ((r".*", PartitionSpec()),)
"""Table that replicates every parameter on every device."""

SHARDED: Table[PartitionSpec] = (
    (r".*/(norm|attention_norm|mlp_norm|final_norm)/(scale|bias)", PartitionSpec()),
    (r"encoder/embeddings/word/embedding", PartitionSpec("tensor", "fsdp")),
    (r"encoder/embeddings/(position|segment)/embedding", PartitionSpec(None, "fsdp")),
    (r"encoder/embeddings/relative/embedding", PartitionSpec()),
    (r"encoder/projection/kernel", PartitionSpec("fsdp", None)),
    (
        r"(encoder|interact|combine)/(.*/)?attention/(query|key|value|position_key|position_query)/kernel",
        PartitionSpec("fsdp", "tensor"),
    ),
    (
        r"(encoder|interact|combine)/(.*/)?attention/(query|key|value|position_key|position_query)/bias",
        PartitionSpec("tensor"),
    ),
    (r"(encoder|interact|combine)/(.*/)?attention/out/kernel", PartitionSpec("tensor", "fsdp")),
    (r"(encoder|interact|combine)/(.*/)?(mlp_in|mlp_gate)/kernel", PartitionSpec("fsdp", "tensor")),
    (r"(encoder|interact|combine)/(.*/)?mlp_in/bias", PartitionSpec("tensor")),
    (r"(encoder|interact|combine)/(.*/)?mlp_out/kernel", PartitionSpec("tensor", "fsdp")),
    (
        r"encoder/(.*/)?(query|key|value|position_key|position_query|mlp_in|mlp_gate|projection)/lora_a",
        PartitionSpec("fsdp", None),
    ),
    (
        r"encoder/(.*/)?(query|key|value|position_key|position_query|mlp_in|mlp_gate)/lora_b",
        PartitionSpec(None, "tensor"),
    ),
    (r"encoder/(.*/)?(out|mlp_out)/lora_a", PartitionSpec("tensor", None)),
    (r"encoder/(.*/)?(out|mlp_out)/lora_b", PartitionSpec(None, "fsdp")),
    (r"encoder/projection/lora_b", PartitionSpec()),
    (r"(encoder|interact|combine)/.*/bias", PartitionSpec()),
    (r"encoder/projection/bias", PartitionSpec()),
    (r"pooler/kernel", PartitionSpec("fsdp", None)),
    (r"pooler/bias|project/.*|combine/.*|head/.*", PartitionSpec()),
)
"""Table of partition specs. Norms, biases of the model's width and classifiers are small, so they are replicated."""


def build_mesh(devices: Sequence[jax.Device] | None = None, *, data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Builds the mesh of devices with the axes `data`, `fsdp` and `tensor`.

    The size of one axis may be -1: it takes the devices that the other axes leave.

    Args:
        devices: The devices; by default all devices of all processes.
        data: Size of the axis `data`.
        fsdp: Size of the axis `fsdp`.
        tensor: Size of the axis `tensor`.

    Raises:
        UserError: The sizes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    named = " x ".join(f"{name}={size}" for name, size in sizes.items())
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 for size in sizes.values() if size != -1):
        raise UserError(f"mesh {named}: a size is wrong", expected="sizes of at least 1, and -1 for one axis at most")
    if free:
        sizes[free[0]] = max(1, len(devices) // math.prod(size for size in sizes.values() if size != -1))
    if math.prod(sizes.values()) != len(devices):
        raise UserError(
            f"mesh {named} does not divide the devices",
            got=f"{len(devices)} devices",
            expected="the product of its axes",
        )
    shape, types = tuple(sizes.values()), (AxisType.Auto,) * len(AXES)
    mesh = jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    try:
        row_share(mesh)
    except ValueError:
        # The fastest order for the interconnect scatters the rows of a process; this order keeps them together.
        ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
        mesh = Mesh(np.asarray(ordered).reshape(shape), AXES, axis_types=types)
    return mesh


@dataclass(frozen=True)
class Placement:
    """The sharding of parameters on a mesh.

    Attributes:
        specs: A tree of partition specs, one per parameter.
        notes: Lines about dimensions that the table splits but the mesh does not divide.
    """

    specs: Params
    notes: tuple[str, ...]


def param_specs(params: Params, table: Table[PartitionSpec] = REPLICATED) -> Params:
    """Returns a tree of partition specs: each parameter's entry in the table.

    Args:
        params: Arrays or their shapes.
        table: Path patterns to partition specs.

    Raises:
        UserError: The table does not cover a path.
    """
    return unflatten(lookup(table, list(flatten(params))))


def place_params(
    params: Params,
    mesh: Mesh | AbstractMesh,
    *,
    table: Table[PartitionSpec] = SHARDED,
    heads: Table[int] = (),
) -> Placement:
    """Returns the sharding of each parameter on a mesh: that of the table, as far as the mesh divides it.

    A dimension that its axis does not divide is replicated over that axis, and noted. Attention heads are never split:
    every attention score would then need a sum over devices. Axes of size 1 split nothing.

    Args:
        params: Arrays or their shapes.
        mesh: The device mesh.
        table: Path patterns to partition specs.
        heads: Path patterns to the number of attention heads of parameters that `tensor` splits by head.

    Raises:
        UserError: The table does not cover a path.
    """
    flat = flatten(params)
    wanted = lookup(table, list(flat))
    units = lookup((*heads, (r".*", 0)), list(flat))
    specs, refused = {}, dict[str, list[str]]()
    for path, spec in wanted.items():
        fitted: list[str | None] = []
        for dim, axis in enumerate(spec):
            size = 1 if axis is None else mesh.shape[axis]
            count, what = flat[path].shape[dim], f"dimension {dim}"
            if axis == "tensor" and units[path]:
                count, what = units[path], "heads"
            if count % size:
                reason = f"{axis}={size} does not divide {what} of {count}: replicated over {axis}"
                refused.setdefault(reason, []).append(path)
            fitted.append(axis if size > 1 and count % size == 0 else None)
        specs[path] = PartitionSpec(*fitted) if any(fitted) else PartitionSpec()
    notes = tuple(f"{reason}: {_abbreviate(paths)}" for reason, paths in refused.items())
    return Placement(unflatten(specs), notes)


def _abbreviate(paths: Sequence[str]) -> str:
    """Formats the first two paths and the number of the rest."""
    first = ", ".join(paths[:2])
    return first if len(paths) < 3 else f"{first} and {len(paths) - 2} more"


def row_shards(mesh: Mesh | AbstractMesh) -> int:
    """Returns the number of shards of a batch's rows; the number of rows is rounded up to a multiple of it."""
    return int(mesh.shape["data"] * mesh.shape["fsdp"])


def row_share(mesh: Mesh) -> tuple[int, int]:
    """Returns (index, count): this process makes slice `index` of `count` of the rows of every batch.

    Processes that share rows (when `tensor` spans processes) make the same slice.
    """
    shards = row_shards(mesh)
    places = batch_sharding(mesh).addressable_devices_indices_map((shards,)).values()
    shares = sorted({index[0].indices(shards)[0] for index in places if index})
    if shares != list(range(shares[0], shares[0] + len(shares))) or shares[0] % len(shares) or shards % len(shares):
        raise ValueError(f"the rows of process {jax.process_index()} are not contiguous: {shares} of {shards}")
    return shares[0] // len(shares), shards // len(shares)


class RowSplit(NamedTuple):
    """The rows of a batch that this process makes, as the arguments of the batch iterators.

    Attributes:
        process_index: The slice of the rows.
        process_count: The number of slices.
        multiple: The number of rows in a batch is rounded up to a multiple of this.
    """

    process_index: int
    process_count: int
    multiple: int


def row_split(mesh: Mesh, *, accumulate: int = 1) -> RowSplit:
    """Returns this process's split of every batch.

    Args:
        mesh: The device mesh.
        accumulate: Number of parts of a batch; each part's rows divide over the mesh.
    """
    return RowSplit(*row_share(mesh), row_shards(mesh) * accumulate)


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the sharding of a batch's arrays: rows over `data` and `fsdp`, replicated over `tensor`."""
    return NamedSharding(mesh, ROWS)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the sharding of a value that is replicated on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: T, mesh: Mesh) -> T:
    """Replicates a tree on every device of the mesh; every process must pass the same values.

    On one device the result may share the buffers of the argument; `init_state` copies them before a step donates them.
    """
    return jax.device_put(tree, replicated(mesh))


def shardings(specs: Params, mesh: Mesh | AbstractMesh) -> Params:
    """Returns the shardings of a tree of partition specs."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, PartitionSpec))


def used_shardings(specs: Params, mesh: Mesh | AbstractMesh) -> Params:
    """Returns the shardings of parameters while they are used: not split over `fsdp`, which shares the rows.

    Without this constraint XLA does not gather the parameters. It splits the activations along the width as the
    parameters are, computes all rows on every device of `fsdp`, and sums the activations over these devices.
    """
    used = {
        path: PartitionSpec(*(None if axis == "fsdp" else axis for axis in spec))
        for path, spec in flatten(specs).items()
    }
    return shardings(unflatten(used), mesh)


def place(tree: Params, specs: Params, mesh: Mesh) -> Params:
    """Places parameters by their specs; every process must pass the same values."""
    return jax.device_put(tree, shardings(specs, mesh))


def gather(tree: Params, mesh: Mesh) -> Params:
    """Gathers sharded arrays into NumPy arrays, one after another; all processes must call it."""
    replicate_leaf = share(("replicate", mesh), lambda: jax.jit(lambda x: x, out_shardings=replicated(mesh)))

    def fetch(leaf: Any) -> np.ndarray:
        local = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        return np.asarray(leaf if local else replicate_leaf(leaf))

    return jax.tree.map(fetch, tree)


def check_rows(rows: int, mesh: Mesh | AbstractMesh) -> None:
    """Checks that the rows of a batch divide over the mesh.

    Args:
        rows: Number of rows, over all processes.
        mesh: The device mesh.

    Raises:
        UserError: They do not; names the nearest numbers that do.
    """
    shards = row_shards(mesh)
    if rows % shards == 0:
        return
    below, above = rows // shards * shards, (rows // shards + 1) * shards
    raise UserError(
        f"a batch of {rows} rows does not divide over {shards} devices",
        expected=f"{below} or {above}" if below else str(above),
        fix="change the batch size, or use fewer devices",
    )


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Places this process's rows as its part of a batch over the whole mesh.

    Args:
        batch: NumPy arrays; this process's slice of the rows (`row_share`).
        mesh: The device mesh.

    Raises:
        UserError: The rows do not divide over the mesh.
    """
    rows = len(batch.input_ids) * (row_share(mesh)[1] if jax.process_count() > 1 else 1)
    check_rows(rows, mesh)
    sharding = batch_sharding(mesh)

    def put(local: np.ndarray) -> Any:
        return jax.make_array_from_process_local_data(sharding, local, (rows, *local.shape[1:]))

    return jax.tree.map(put, batch)
