"""The devices that a run can be planned for, and the slices they come in; peak rates are from their data sheets."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pairjax.base.errors import UserError

GB = 1e9
TERA = 1e12


@dataclass(frozen=True)
class Device:
    """The peak rates of one device.

    Attributes:
        name: Its name in options.
        rates: Floating-point operations a second of matrix products, by the dtype of the activations.
        memory: Size of its memory, bytes; 0 if unknown.
        bandwidth: Bytes a second that its memory reads and writes.
        wires: Bytes a second that it sends to other devices of its slice, over all its links together.
        scratch: Bytes of on-chip memory where the compiler puts temporaries, which it does not count.
        vector: Elementwise operations a second; 0 if memory bounds them.
    """

    name: str
    rates: Mapping[str, float]
    memory: float
    bandwidth: float
    wires: float
    scratch: float = 0.0
    vector: float = 0.0


def _device(
    name: str, tera: tuple[float, float], memory: float, bandwidth: float, wires: float, scratch: float = 0.0
) -> Device:
    """Builds a device from the units of data sheets.

    Args:
        name: Its name in options.
        tera: Rates of matrix products in bfloat16 and in float32, in 1e12 operations a second.
        memory: Size of its memory in GB.
        bandwidth: Bandwidth of its memory in GB/s.
        wires: Bandwidth of its links together in GB/s.
        scratch: On-chip memory in MiB.
    """
    rates = {"bfloat16": tera[0] * TERA, "float32": tera[1] * TERA}
    return Device(name, rates, memory * GB, bandwidth * GB, wires * GB, scratch=scratch * 2**20)


# TPU: Google Cloud's pages "TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e", tables of chip specifications. Interconnect
# bandwidth counts one direction of all links: 2400, 1600 and 4800 Gbit/s a chip for v4, v5e and v5p, half of v6e's "800
# GBps bidirectional". XLA multiplies float32 in one bfloat16 pass by default, so both dtypes have one rate. Memory
# is in GiB, which is what the compiler allows. On-chip memory: vmem_capacity_bytes of all cores in JAX's own table
# (jax._src.pallas.mosaic.tpu_info).
# GPU: NVIDIA's data sheets "H100 Tensor Core GPU" (SXM5) and "A100 80GB" (SXM4), dense rates; JAX's float32 products
# use TF32 by default. NVLink's 900 and 600 GB/s count both directions.
GIB = 2**30 / GB
DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        _device("v4", (275.0, 275.0), 32.0 * GIB, 1228.0, 300.0, 32.0),
        _device("v5e", (197.0, 197.0), 16.0 * GIB, 819.0, 200.0, 128.0),
        _device("v5p", (459.0, 459.0), 95.0 * GIB, 2765.0, 600.0, 128.0),
        _device("v6e", (918.0, 918.0), 32.0 * GIB, 1638.0, 400.0, 128.0),
        _device("h100", (989.0, 494.0), 80.0, 3350.0, 450.0),
        _device("a100", (312.0, 156.0), 80.0, 2039.0, 300.0),
    )
}
FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
"""Slices of v5e and v6e, from Google Cloud's pages."""
CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")
"""The usual slices of v4 and v5p; multiples of 4x4x4 beyond them exist too."""
TOPOLOGIES: Mapping[str, tuple[str, ...]] = {"v4": CUBES, "v5e": FLAT, "v5p": CUBES, "v6e": FLAT}
GPUS = ("h100", "a100")


@dataclass(frozen=True)
class Target:
    """The devices that a run is planned for.

    Attributes:
        kind: `tpu`, `gpu` or `cpu`; decides the compiler.
        device: The peak rates of each device.
        count: Number of devices.
        topology: Name of a TPU slice in libtpu ("v5e:4x4"); empty otherwise.
    """

    kind: str
    device: Device
    count: int
    topology: str = ""

    @property
    def name(self) -> str:
        """Name and number of the devices."""
        return self.topology or f"{self.device.name}:{self.count}"


def tpu_target(text: str) -> Target:
    """Returns the target of a TPU slice such as `v5e:4x4`.

    Raises:
        UserError: The TPU or the slice is unknown; the message lists the known ones.
    """
    name, _, shape = text.lower().partition(":")
    if name not in TOPOLOGIES:
        raise UserError("--tpu: no such TPU", got=text, expected=_examples())
    if shape not in TOPOLOGIES[name]:
        raise UserError(f"--tpu: no such slice of {name}", got=text, expected=_slices(name))
    return Target("tpu", DEVICES[name], math.prod(map(int, shape.split("x"))), f"{name}:{shape}")


def _slices(name: str) -> str:
    return f"{name}: with one of {', '.join(TOPOLOGIES[name])}"


def _examples() -> str:
    return "; ".join(map(_slices, TOPOLOGIES))


def gpu_target(text: str) -> Target:
    """Returns the target of GPUs such as `h100:8`, all of them connected by NVLink.

    Raises:
        UserError: The GPU is unknown, or the count is not a number.
    """
    name, _, count = text.lower().partition(":")
    if name not in GPUS or not re.fullmatch(r"[1-9]\d{0,4}", count or "1"):
        raise UserError("--gpu: no such devices", got=text, expected=f"NAME:COUNT, with one of {', '.join(GPUS)}")
    return Target("gpu", DEVICES[name], int(count or "1"))


def cpu_target(count: int) -> Target:
    """Returns the target of `count` simulated devices of this machine; their rates are measured later.

    Raises:
        UserError: `count` is not between 1 and 1024.
    """
    if not 1 <= count <= 1024:
        raise UserError("--cpu: no such number of devices", got=count, expected="1 to 1024")
    return Target("cpu", Device("cpu", {}, 0.0, 0.0, 0.0), count)


def factorisations(count: int) -> list[dict[str, int]]:
    """Returns every mesh of `count` devices, as sizes by axis."""
    meshes = []
    for data in range(1, count + 1):
        for fsdp in range(1, count // data + 1):
            if count % (data * fsdp) == 0:
                meshes.append({"data": data, "fsdp": fsdp, "tensor": count // (data * fsdp)})
    return meshes


def named_mesh(data: int, fsdp: int, tensor: int, *, devices: int) -> dict[str, int]:
    """Returns the mesh of a config, with a size of -1 replaced by the devices that remain.

    Args:
        data: Size of the data axis, or -1.
        fsdp: Size of the fsdp axis, or -1.
        tensor: Size of the tensor axis, or -1.
        devices: Number of devices.

    Raises:
        UserError: The product of the sizes is not the number of devices.
    """
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    rest = math.prod(size for size in sizes.values() if size != -1)
    filled = {name: max(1, devices // rest) if size == -1 else size for name, size in sizes.items()}
    if math.prod(filled.values()) != devices:
        raise UserError(
            "mesh " + " x ".join(f"{name}={size}" for name, size in sizes.items()) + " does not divide the devices",
            got=f"{devices} devices",
            expected="the product of its axes",
            fix="give --mesh.data, --mesh.fsdp and --mesh.tensor",
        )
    return filled
