"""Estimates the cost of a step from its jaxpr and from the shapes of its arguments, without compiling it.

Arithmetic is counted from the step's own jaxpr at the rows of one device. Memory is exact for parameters, moments and
batch; activations are modelled on what XLA keeps of a transformer layer for the backward pass (see `activation_bytes`).
Traffic between devices follows from the sharding of the parameters.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType

from pairjax.base.params import flatten
from pairjax.plan.compiled import Traffic
from pairjax.plan.devices import Device
from pairjax.plan.step import Arguments, Planned, Rows, batch_on_mesh, on_mesh
from pairjax.step.sharding import AXES, build_mesh

NOT_ARITHMETIC = frozenset(
    (
        *(
            "broadcast_in_dim",
            "reshape",
            "transpose",
            "squeeze",
            "expand_dims",
            "slice",
            "dynamic_slice",
            "split",
            "pad",
        ),
        *("dynamic_update_slice", "concatenate", "iota", "copy", "gather", "scatter-add", "convert_element_type"),
        *("bitcast_convert_type", "stop_gradient", "sharding_constraint", "optimization_barrier", "platform_index"),
        *("random_wrap", "random_unwrap", "random_bits", "random_fold_in"),
        *("exp", "exp2", "expm1", "log", "log1p", "tanh", "erf", "rsqrt", "sqrt", "logistic", "cos", "sin", "pow"),
    )
)
"""Primitives that XLA's cost analysis does not count as operations; it counts transcendental functions separately."""
LAYER = "layer_"
CENTRED_FROM = 768
"""From this width on, XLA keeps only the centred output of a sublayer."""
VECTOR, GROUP = 128, 8
"""Size of a TPU's tiles in an array's last dimension, and in the one before it."""


@dataclass(frozen=True)
class Work:
    """Arithmetic of a step.

    Attributes:
        matrix: Operations of matrix products, inside transformer layers and outside.
        moved: Bytes that those products read and write, inside layers and outside.
        other: Elementwise operations, inside layers and outside.
    """

    matrix: tuple[float, float] = (0.0, 0.0)
    moved: tuple[float, float] = (0.0, 0.0)
    other: tuple[float, float] = (0.0, 0.0)

    def plus(self, other: "Work", times: float = 1.0) -> "Work":
        """Returns the sum of this work and `times` the other."""

        def add(left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
            return left[0] + times * right[0], left[1] + times * right[1]

        return Work(add(self.matrix, other.matrix), add(self.moved, other.moved), add(self.other, other.other))


def _in_or_out(amount: float, inside: bool) -> tuple[float, float]:
    """Returns an amount as a pair: inside transformer layers, and outside."""
    return (amount, 0.0) if inside else (0.0, amount)


def _bytes(value: Any) -> float:
    """Returns the size of a jaxpr's value."""
    return float(value.aval.size) * getattr(value.aval.dtype, "itemsize", 4)


def _product(eqn: Any) -> float:
    """Returns the operations of a dot_general, two for each multiply-add."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    depth = math.prod(eqn.invars[0].aval.shape[dim] for dim in contracted)
    return 2.0 * depth * eqn.outvars[0].aval.size


def work_of(jaxpr: Any, scope: str = "") -> Work:
    """Counts the arithmetic of a jaxpr and of everything that it calls.

    The body of a scan counts as often as it runs; of the branches of a cond, the first counts.

    Args:
        jaxpr: The jaxpr.
        scope: The name stack that it is called in.
    """
    total = Work()
    for eqn in jaxpr.eqns:
        stack = f"{scope}/{eqn.source_info.name_stack}"
        inside = LAYER in stack
        inner = [x for value in eqn.params.values() for x in (value if isinstance(value, list | tuple) else (value,))]
        bodies = [getattr(x, "jaxpr", x) for x in inner if hasattr(x, "eqns") or hasattr(x, "jaxpr")]
        if eqn.primitive.name == "cond":
            bodies = bodies[:1]
        if bodies:
            times = float(eqn.params["length"]) if eqn.primitive.name == "scan" else 1.0
            for body in bodies:
                total = total.plus(work_of(body, stack), times)
        elif eqn.primitive.name == "dot_general":
            moved = sum(map(_bytes, (*eqn.invars, *eqn.outvars)))
            total = total.plus(Work(_in_or_out(_product(eqn), inside), _in_or_out(moved, inside)))
        elif eqn.primitive.name not in NOT_ARITHMETIC:
            # A reduction does one operation for each element of its operands, all others one for each of their result.
            reads = eqn.primitive.name.startswith(("reduce_", "arg"))
            amount = max(float(x.aval.size) for x in (eqn.invars if reads else eqn.outvars))
            total = total.plus(Work(other=_in_or_out(amount, inside)))
    return total


def trace_work(planned: Planned, rows: Rows) -> Work:
    """Counts the arithmetic of a step over these rows on one device."""
    step = on_mesh(planned, rows, build_mesh(jax.devices("cpu")[:1]))
    traced = step.update.compiled.trace(step.state, step.frozen, step.batch, planned.hypers)
    return work_of(traced.jaxpr.jaxpr)


@dataclass(frozen=True)
class Layers:
    """The transformer layers that a step runs, in the encoder and above it.

    Attributes:
        count: Number of layers that keep activations: those from the lowest that a gradient reaches.
        width: Width D of the hidden states.
        inner: Width of the feed-forward sublayers.
        heads: Number of attention heads.
        split: Number of devices that share the heads, and that share the feed-forward units.
    """

    count: int
    width: int
    inner: int
    heads: int
    split: tuple[int, int]


def layers_of(planned: Planned, tensor: int) -> Layers:
    """Returns the transformer layers of a step.

    Args:
        planned: The step.
        tensor: Size of the mesh's tensor axis.
    """
    spec = planned.spec
    trained = [path for path, chosen in planned.chosen.items() if chosen]
    encoder = spec.num_layers
    if not any(path.startswith("encoder/embeddings/") for path in trained):
        lowest = [i for i in range(encoder) if any(path.startswith(f"encoder/{LAYER}{i}/") for path in trained)]
        encoder -= min(lowest, default=encoder)
    above = {match[0] for match in map(re.compile(rf"interact/(.*/)?{LAYER}\d+").match, trained) if match}
    split = (_share(spec.num_heads, tensor), _share(spec.intermediate_size, tensor))
    # A gated sublayer keeps the gate beside the input of the activation.
    inner = spec.intermediate_size * (2 if spec.rotary is not None else 1)
    return Layers(encoder + len(above), spec.hidden_size, inner, spec.num_heads, split)


def _share(size: int, devices: int) -> int:
    """Returns the devices that a dimension is split over: all of them, or one if they do not divide it."""
    return devices if size % devices == 0 else 1


def activation_bytes(layers: Layers, rows: Rows, *, dtype: str, remat: bool, narrow: bool) -> float:
    """Estimates the bytes that the backward pass needs from the forward pass, on one device, when it begins.

    XLA keeps of each layer, in units of D numbers a token:

    - the outputs of the attention and of the feed-forward sublayer, centred for their LayerNorm and, in narrow layers,
      also uncentred (2 or 4 units, not split);
    - queries, keys, values and the attention's output by heads (4 units, split by heads);
    - the feed-forward sublayer's input to the activation (inner / D);
    - the exponentials of the softmax (heads x L / D).

    Centred outputs and exponentials are float32 with either dtype. A TPU narrows the operands of products to bfloat16
    (`narrow`), so the second group takes two bytes a number. It also pads an array's last dimension to vectors of 128
    and the one before it to groups of 8 or fewer. Rows shorter than a vector therefore leave holes in the exponentials,
    which XLA then keeps in bfloat16 too, and in queries, keys and values by heads.

    The formula comes from reading the buffers that are live at that point in programs of libtpu 0.0.52, of widths 256
    to 512, 768 and 1,024, and of rows of 32, 64 and 128 slots.

    Args:
        layers: The transformer layers.
        rows: The rows on one device.
        dtype: Dtype of the activations.
        remat: Whether the backward pass recomputes each layer.
        narrow: Whether products narrow their operands to bfloat16.
    """
    tokens = rows.rows * rows.length
    wide = 2 if dtype == "bfloat16" else 4
    heads, units = layers.split
    fed = 2 if narrow else wide
    size, length, exponential_bytes = layers.width // layers.heads, rows.length, 4
    by_heads = 3.0
    if narrow:
        length = _filled(rows.length, VECTOR)
        if rows.length < VECTOR:
            exponential_bytes += fed
            # Their last dimension is a head's numbers or the row's tokens, whichever wastes less. Fewer heads than a
            # group fill a group of 1, 2 or 4.
            local_heads = layers.heads // heads
            group = min(GROUP, 1 << (local_heads - 1).bit_length())
            by_size = _filled(size, VECTOR) / size * _filled(local_heads, group) / local_heads
            by_heads *= min(by_size, length / rows.length)
    layer = tokens * (
        layers.width * 2 * (4 if layers.width >= CENTRED_FROM else 4 + wide)
        + layers.width * (by_heads + 1) * fed / heads
        + layers.inner * wide / units
        + layers.heads * length * exponential_bytes / heads
    )
    embedded = tokens * layers.width * wide
    if remat:
        return embedded * (1 + layers.count) + layer
    return embedded + layers.count * layer


def _filled(size: int, by: int) -> int:
    """Returns the next multiple of `by`."""
    return -(-size // by) * by


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a step on one device.

    Attributes:
        parameters: Bytes of the model's parameters, frozen ones included.
        moments: Bytes of the optimiser's moments and counts.
        batch: Bytes of the batch.
        gradients: Bytes of the gradients on this device.
        activations: Bytes that the backward pass needs from the forward pass.
        temporaries: Peak bytes besides parameters, moments and batch.
        flops: Floating-point operations.
        collectives: Collectives by kind.
        seconds: Time of compute and then of communication, at the device's peak rates.
        wire_seconds: The time of communication.
    """

    parameters: float
    moments: float
    batch: float
    gradients: float
    activations: float
    temporaries: float
    flops: float
    collectives: Mapping[str, Traffic]
    seconds: float
    wire_seconds: float

    @property
    def memory(self) -> float:
        """Peak bytes."""
        return self.parameters + self.moments + self.batch + self.temporaries


def _local_bytes(tree: Any) -> float:
    """Returns the bytes of a tree of sharded shapes on one device."""
    sizes = [
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * getattr(leaf.dtype, "itemsize", 4)
        for leaf in jax.tree.leaves(tree)
    ]
    return float(sum(sizes))


class Estimator:
    """Estimates an experiment's step on meshes of one kind of device.

    Args:
        planned: The experiment's step.
        device: The peak rates of each device.
        narrow: Whether products narrow their operands to bfloat16, as on TPUs.
    """

    def __init__(self, planned: Planned, device: Device, *, narrow: bool) -> None:
        self.planned, self.device, self.narrow = planned, device, narrow
        self._steps: dict[AbstractMesh, Arguments] = {}
        multiple = planned.optim.accumulate
        single, double = (trace_work(planned, self._local(multiple * times)) for times in (1, 2))
        # Arithmetic is a constant plus an amount for each row: two traces give both.
        self._row = double.plus(single, -1.0)
        self._fixed = single.plus(self._row, -1.0)

    def _local(self, rows: int) -> Rows:
        return Rows(rows, self.planned.rows.length, self.planned.rows.pairs, self.planned.rows.masked)

    def __call__(self, mesh: Mapping[str, int], batch_size: int) -> Estimate:
        """Estimates a step.

        Args:
            mesh: Size of each axis of the mesh.
            batch_size: Examples a step.
        """
        planned, tensor = self.planned, mesh["tensor"]
        shards = mesh["data"] * mesh["fsdp"]
        rows = planned.rows_for(batch_size, shards)
        abstract = AbstractMesh(tuple(mesh[axis] for axis in AXES), AXES, axis_types=(AxisType.Auto,) * 3)
        # The update depends on the mesh alone, and the search for the largest batch tries many numbers of rows.
        if abstract not in self._steps:
            self._steps[abstract] = on_mesh(planned, rows, abstract)
        step = replace(self._steps[abstract], batch=batch_on_mesh(planned, rows, abstract))
        parameters = _local_bytes(step.state.params) + _local_bytes(step.frozen)
        local = self._local(rows.rows // shards)
        micro = self._local(max(1, local.rows // planned.optim.accumulate))
        layers = layers_of(planned, tensor)
        activations = activation_bytes(
            layers, micro, dtype=planned.dtype, remat=planned.remat, narrow=self.narrow
        ) + self._words(micro, tensor)
        gradients = _local_bytes(step.state.params)
        traffic = self._traffic(step, mesh, micro, layers)
        work = self._fixed.plus(self._row, local.rows / planned.optim.accumulate)
        compute = self._compute_seconds(work, layers, gradients)
        wires = sum(total.wire for total in traffic.values()) / self.device.wires if self.device.wires else 0.0
        gathered = traffic["all-gather"].bytes if "all-gather" in traffic else 0.0
        return Estimate(
            parameters=parameters,
            moments=_local_bytes((step.state.opt_state, step.state.step, step.state.key)),
            batch=_local_bytes(step.batch),
            gradients=gradients,
            activations=activations,
            temporaries=self._temporaries(activations, gradients, gathered, micro, layers),
            flops=sum(_over(part, layers) for part in (work.matrix, work.other)),
            collectives=traffic,
            seconds=compute + wires,
            wire_seconds=wires,
        )

    def _words(self, rows: Rows, tensor: int) -> float:
        """Returns the bytes of the vocabulary's scores and their gradient, in pretraining."""
        words = self.planned.spec.vocab_size
        return 2 * 4.0 * rows.rows * rows.masked * words / _share(words, tensor)

    def _temporaries(self, activations: float, gradients: float, gathered: float, rows: Rows, layers: Layers) -> float:
        """Returns the larger of two peaks: when the backward pass begins, and when all gradients exist.

        If devices share layers, XLA delays a layer's weight gradients until the next layer's sums are in transit, so
        the activations between layers exist twice.
        """
        wide = 2 if self.planned.dtype == "bfloat16" else 4
        passing = rows.rows * rows.length * (layers.inner / layers.split[1] + layers.width) * wide
        passing *= 2 if max(layers.split) > 1 else 1
        summed = gradients if self.planned.optim.accumulate > 1 else 0.0
        worst = max(activations + passing + summed, gradients) + gathered
        return max(0.0, worst - self.device.scratch)

    def _compute_seconds(self, work: Work, layers: Layers, gradients: float) -> float:
        """Returns the time of the products, at the matrix rate or the memory's bandwidth, and then of the rest."""
        device = self.device
        matrix, moved, other = (_over(part, layers) for part in (work.matrix, work.moved, work.other))
        if self.narrow and self.planned.dtype == "float32":
            moved /= 2
        products = max(matrix / device.rates[self.planned.dtype], moved / device.bandwidth)
        # The update reads parameter, gradient and two moments, and writes all of them except the gradient.
        update = 7 * gradients / device.bandwidth
        return products + update + (other / device.vector if device.vector else 0.0)

    def _traffic(self, step: Any, mesh: Mapping[str, int], rows: Rows, layers: Layers) -> dict[str, Traffic]:
        """Returns the collectives: gradients over data and fsdp, parameters over fsdp, activations over tensor."""
        data, fsdp, tensor = (mesh[axis] for axis in AXES)
        totals: dict[str, Traffic] = {}

        def add(kind: str, size: float, devices: int) -> None:
            if devices > 1 and size:
                share = (2 if kind == "all-reduce" else 1) * (devices - 1) / devices
                totals[kind] = totals.get(kind, Traffic()).plus(size, size * share)

        trained, frozen = flatten(step.state.params), flatten(step.frozen)
        for path, leaf in (trained | frozen).items():
            local_bytes, cut = _local_bytes(leaf), "fsdp" in leaf.sharding.spec
            if cut:
                add("all-gather", local_bytes * fsdp, fsdp)
            if path not in trained:
                continue
            if cut:
                add("reduce-scatter", local_bytes * fsdp, fsdp)
                add("all-reduce", local_bytes, data)
            else:
                add("all-reduce", local_bytes, data * fsdp)
        wide = 2 if self.planned.dtype == "bfloat16" else 4
        states = rows.rows * rows.length * layers.width * float(wide) * self.planned.optim.accumulate
        for split in layers.split:
            for _ in range(2 * layers.count if split > 1 else 0):
                add("all-reduce", states, tensor)
        return totals


def _over(part: tuple[float, float], layers: Layers) -> float:
    """Returns the amount inside layers, shared by their devices, plus the amount outside."""
    return part[0] / min(layers.split) + part[1]
