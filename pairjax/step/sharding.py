"""The mesh, where parameters and batches lie on it, and how NumPy gets there.

Rows go over `data` and `fsdp`; parameters go where a table from path patterns to partition specs says.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from pairjax.base.errors import UserError
from pairjax.base.params import Table, flatten, lookup, unflatten
from pairjax.base.types import Batch, Params

T = TypeVar("T")

AXES = ("data", "fsdp", "tensor")
ROWS = PartitionSpec(("data", "fsdp"))
"""A batch's leading axis."""

REPLICATED: Table[PartitionSpec] = ((r".*", PartitionSpec()),)
"""Every parameter whole on every device."""


def build_mesh(devices: Sequence[jax.Device] | None = None, *, data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Devices laid out over the axes `data`, `fsdp` and `tensor`.

    Args:
        devices: All of every process, by default.
        data: Size of the axis; -1, in one axis at most, takes the devices that the others leave.
        fsdp: Likewise.
        tensor: Likewise.

    Raises:
        UserError: The sizes do not multiply to the number of devices.
    """
    found = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    named = " x ".join(f"{name}={size}" for name, size in sizes.items())
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 for size in sizes.values() if size != -1):
        raise UserError(f"mesh {named}: a size is wrong", expected="sizes of at least 1, and -1 for one axis at most")
    if free:
        sizes[free[0]] = max(1, len(found) // math.prod(size for size in sizes.values() if size != -1))
    if math.prod(sizes.values()) != len(found):
        raise UserError(
            f"mesh {named} does not divide the devices", got=f"{len(found)} devices", expected="the product of its axes"
        )
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=found)


def param_specs(params: Params, table: Table[PartitionSpec] = REPLICATED) -> Params:
    """Each parameter's partition spec, a tree shaped like `params`.

    Raises:
        UserError: A path that the table does not cover.
    """
    return unflatten(lookup(table, list(flatten(params))))


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Of every array of a batch: rows over `data` and `fsdp`, whole over `tensor`."""
    return NamedSharding(mesh, ROWS)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: T, mesh: Mesh) -> T:
    """The tree whole on every device of the mesh; every process gives the same values.

    On one device the result may share the argument's buffers; `init_state` copies before a step donates them.
    """
    return jax.device_put(tree, replicated(mesh))


def check_rows(rows: int, mesh: Mesh | AbstractMesh) -> None:
    """Whether a batch's rows, of all processes together, divide over the mesh.

    Raises:
        UserError: They do not; says which numbers would.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % shards == 0:
        return
    below, above = rows // shards * shards, (rows // shards + 1) * shards
    raise UserError(
        f"a batch of {rows} rows does not divide over {shards} devices",
        expected=f"{below} or {above}" if below else str(above),
        mend="change the batch size, or use fewer devices",
    )


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """This process's rows as its part of a batch over the whole mesh.

    Args:
        batch: NumPy arrays; on P processes each gives its own 1/P of the rows, in the order of the processes.
        mesh: Where the rows go.

    Raises:
        UserError: The rows do not divide over the mesh.
    """
    check_rows(len(batch.input_ids) * jax.process_count(), mesh)
    sharding = batch_sharding(mesh)

    def put(local: np.ndarray) -> Any:
        return jax.make_array_from_process_local_data(sharding, local)

    return jax.tree.map(put, batch)
