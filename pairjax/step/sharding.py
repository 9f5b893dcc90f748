"""The mesh, where parameters and batches lie on it, and how NumPy gets there.

Rows go over `data` and `fsdp`; parameters go where a table from path patterns to partition specs says: over `fsdp` to
save memory (each device keeps a part and gathers the rest when it is used), over `tensor` by attention heads, by units
of the feed-forward sublayers and by words, as Shoeybi et al., "Megatron-LM" (2019).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
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

SHARDED: Table[PartitionSpec] = (
    (r".*/(norm|attention_norm|mlp_norm)/(scale|bias)", PartitionSpec()),
    (r"encoder/embeddings/word/embedding", PartitionSpec("tensor", "fsdp")),
    (r"encoder/embeddings/(position|segment)/embedding", PartitionSpec(None, "fsdp")),
    (r"encoder/projection/kernel", PartitionSpec("fsdp", None)),
    (r"(encoder|interact|combine)/(.*/)?attention/(query|key|value)/kernel", PartitionSpec("fsdp", "tensor")),
    (r"(encoder|interact|combine)/(.*/)?attention/(query|key|value)/bias", PartitionSpec("tensor")),
    (r"(encoder|interact|combine)/(.*/)?attention/out/kernel", PartitionSpec("tensor", "fsdp")),
    (r"(encoder|interact|combine)/(.*/)?mlp_in/kernel", PartitionSpec("fsdp", "tensor")),
    (r"(encoder|interact|combine)/(.*/)?mlp_in/bias", PartitionSpec("tensor")),
    (r"(encoder|interact|combine)/(.*/)?mlp_out/kernel", PartitionSpec("tensor", "fsdp")),
    (r"encoder/(.*/)?(query|key|value|mlp_in|projection)/lora_a", PartitionSpec("fsdp", None)),
    (r"encoder/(.*/)?(query|key|value|mlp_in)/lora_b", PartitionSpec(None, "tensor")),
    (r"encoder/(.*/)?(out|mlp_out)/lora_a", PartitionSpec("tensor", None)),
    (r"encoder/(.*/)?(out|mlp_out)/lora_b", PartitionSpec(None, "fsdp")),
    (r"encoder/projection/lora_b", PartitionSpec()),
    (r"(encoder|interact|combine)/.*/bias", PartitionSpec()),
    (r"encoder/projection/bias", PartitionSpec()),
    (r"pooler/kernel", PartitionSpec("fsdp", None)),
    (r"pooler/bias|combine/.*|head/.*", PartitionSpec()),
)
"""Where each parameter lies; norms, biases of the model's width and classifiers are small, and whole everywhere."""


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
    shape, types = tuple(sizes.values()), (AxisType.Auto,) * len(AXES)
    mesh = jax.make_mesh(shape, AXES, axis_types=types, devices=found)
    try:
        row_share(mesh)
    except ValueError:
        # The fastest order of the wires scatters a process's rows; its own order keeps them together.
        ordered = sorted(found, key=lambda device: (device.process_index, device.id))
        mesh = Mesh(np.asarray(ordered).reshape(shape), AXES, axis_types=types)
    return mesh


@dataclass(frozen=True)
class Placement:
    """Where parameters lie on a mesh.

    Attributes:
        specs: A tree of partition specs, shaped like the parameters.
        notes: What the table would have split and the mesh does not divide, a line each.
    """

    specs: Params
    notes: tuple[str, ...]


def param_specs(params: Params, table: Table[PartitionSpec] = REPLICATED) -> Params:
    """Each parameter's partition spec as the table has it, a tree shaped like `params`.

    Raises:
        UserError: A path that the table does not cover.
    """
    return unflatten(lookup(table, list(flatten(params))))


def place_params(
    params: Params,
    mesh: Mesh | AbstractMesh,
    *,
    table: Table[PartitionSpec] = SHARDED,
    heads: Table[int] = (),
) -> Placement:
    """Each parameter's place on this mesh: the table's, less what the mesh does not divide.

    A dimension that its axis does not divide is whole on the devices of that axis, and noted; a part never holds half
    an attention head, as every score would then need a sum over devices. Axes of one device split nothing.

    Args:
        params: Arrays or their shapes.
        mesh: Where they go.
        table: Path patterns to partition specs.
        heads: Path patterns to the number of heads of the parameters that `tensor` splits by head.

    Raises:
        UserError: A path that the table does not cover.
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
                reason = f"{axis}={size} does not divide {what} of {count}: whole on every device of {axis}"
                refused.setdefault(reason, []).append(path)
            fitted.append(axis if size > 1 and count % size == 0 else None)
        specs[path] = PartitionSpec(*fitted) if any(fitted) else PartitionSpec()
    notes = tuple(f"{reason}: {_some(paths)}" for reason, paths in refused.items())
    return Placement(unflatten(specs), notes)


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:2])
    return shown if len(paths) < 3 else f"{shown} and {len(paths) - 2} more"


def row_shards(mesh: Mesh | AbstractMesh) -> int:
    """How many parts a batch's rows fall into; they are rounded up to a multiple of it."""
    return int(mesh.shape["data"] * mesh.shape["fsdp"])


def row_share(mesh: Mesh) -> tuple[int, int]:
    """This process's rows of every batch: it makes slice `index` of `count`.

    Processes that share rows (`tensor` reaches over them) make the same slice.
    """
    shards = row_shards(mesh)
    places = batch_sharding(mesh).addressable_devices_indices_map((shards,)).values()
    own = sorted({index[0].indices(shards)[0] for index in places if index})
    if own != list(range(own[0], own[0] + len(own))) or own[0] % len(own) or shards % len(own):
        raise ValueError(f"the rows of process {jax.process_index()} are in pieces: {own} of {shards}")
    return own[0] // len(own), shards // len(own)


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


def shardings(specs: Params, mesh: Mesh | AbstractMesh) -> Params:
    """A tree of partition specs as one of shardings."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, PartitionSpec))


def used_shardings(specs: Params, mesh: Mesh | AbstractMesh) -> Params:
    """Where parameters lie while they are used: whole over `fsdp`, which shares the rows.

    Left to itself XLA splits the activations as the parameters are, along the width, computes all rows on every device
    of `fsdp` and sums activations over them, instead of gathering the parameters.
    """
    used = {
        path: PartitionSpec(*(None if axis == "fsdp" else axis for axis in spec))
        for path, spec in flatten(specs).items()
    }
    return shardings(unflatten(used), mesh)


def place(tree: Params, specs: Params, mesh: Mesh) -> Params:
    """Parameters laid out by their specs; every process gives the same values."""
    return jax.device_put(tree, shardings(specs, mesh))


def gather(tree: Params, mesh: Mesh) -> Params:
    """The whole arrays as NumPy's, wherever their parts lay, one after another; all processes must call it."""
    whole = jax.jit(lambda x: x, out_shardings=replicated(mesh))

    def fetch(leaf: Any) -> np.ndarray:
        here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        return np.asarray(leaf if here else whole(leaf))

    return jax.tree.map(fetch, tree)


def check_rows(rows: int, mesh: Mesh | AbstractMesh) -> None:
    """Whether a batch's rows, of all processes together, divide over the mesh.

    Raises:
        UserError: They do not; says which numbers would.
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
    """This process's rows as its part of a batch over the whole mesh.

    Args:
        batch: NumPy arrays; each process gives its own slice of the rows (`row_share`).
        mesh: Where the rows go.

    Raises:
        UserError: The rows do not divide over the mesh.
    """
    rows = len(batch.input_ids) * (row_share(mesh)[1] if jax.process_count() > 1 else 1)
    check_rows(rows, mesh)
    sharding = batch_sharding(mesh)

    def put(local: np.ndarray) -> Any:
        return jax.make_array_from_process_local_data(sharding, local, (rows, *local.shape[1:]))

    return jax.tree.map(put, batch)
