"""What a step costs, read from its jaxpr and from the shapes of its arguments: an estimate, nothing compiled.

Arithmetic is counted product by product from the step's own jaxpr at the rows of one device. Memory is exact for
parameters, moments and batch; activations follow what XLA keeps of a transformer layer for its backward pass (see
`activation_bytes`). Traffic between devices follows from where the parameters lie.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType

from pairjax.base.params import flatten
from pairjax.plan.compiled import Traffic
from pairjax.plan.devices import Device
from pairjax.plan.step import Planned, Rows, on_mesh
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
"""Primitives that XLA's cost analysis counts no operation for; transcendental functions it counts apart."""
LAYER = "layer_"
CENTRED_FROM = 768
"""Width from which XLA keeps a sublayer's output only centred."""
VECTOR, GROUP = 128, 8
"""Of a TPU's tiles: an array's last dimension, and the one before it."""


@dataclass(frozen=True)
class Work:
    """Arithmetic of a step.

    Attributes:
        matrix: Operations of products inside transformer layers and outside.
        moved: Bytes that those products read and write.
        other: Elementwise operations, inside layers and outside.
    """

    matrix: tuple[float, float] = (0.0, 0.0)
    moved: tuple[float, float] = (0.0, 0.0)
    other: tuple[float, float] = (0.0, 0.0)

    def plus(self, more: "Work", times: float = 1.0) -> "Work":
        """This and another, so many times."""

        def add(one: tuple[float, float], two: tuple[float, float]) -> tuple[float, float]:
            return one[0] + times * two[0], one[1] + times * two[1]

        return Work(add(self.matrix, more.matrix), add(self.moved, more.moved), add(self.other, more.other))


def _in_or_out(amount: float, inside: bool) -> tuple[float, float]:
    return (amount, 0.0) if inside else (0.0, amount)


def _bytes(value: Any) -> float:
    return float(value.aval.size) * getattr(value.aval.dtype, "itemsize", 4)


def _product(eqn: Any) -> float:
    """Operations of a dot_general: two for each multiply-add."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    depth = math.prod(eqn.invars[0].aval.shape[dim] for dim in contracted)
    return 2.0 * depth * eqn.outvars[0].aval.size


def work_of(jaxpr: Any, scope: str = "") -> Work:
    """Arithmetic of a jaxpr and all that it calls; a scan's body counts as often as it runs, of branches the first."""
    total = Work()
    for eqn in jaxpr.eqns:
        where = f"{scope}/{eqn.source_info.name_stack}"
        inside = LAYER in where
        inner = [x for value in eqn.params.values() for x in (value if isinstance(value, list | tuple) else (value,))]
        bodies = [getattr(x, "jaxpr", x) for x in inner if hasattr(x, "eqns") or hasattr(x, "jaxpr")]
        if eqn.primitive.name == "cond":
            bodies = bodies[:1]
        if bodies:
            times = float(eqn.params["length"]) if eqn.primitive.name == "scan" else 1.0
            for body in bodies:
                total = total.plus(work_of(body, where), times)
        elif eqn.primitive.name == "dot_general":
            moved = sum(map(_bytes, (*eqn.invars, *eqn.outvars)))
            total = total.plus(Work(_in_or_out(_product(eqn), inside), _in_or_out(moved, inside)))
        elif eqn.primitive.name not in NOT_ARITHMETIC:
            # A reduction reads what it sums; all else does one operation for each element that it gives.
            reads = eqn.primitive.name.startswith(("reduce_", "arg"))
            amount = max(float(x.aval.size) for x in (eqn.invars if reads else eqn.outvars))
            total = total.plus(Work(other=_in_or_out(amount, inside)))
    return total


def trace_work(planned: Planned, rows: Rows) -> Work:
    """Arithmetic of a step over these rows on one device."""
    step = on_mesh(planned, rows, build_mesh(jax.devices("cpu")[:1]))
    traced = step.update.compiled.trace(step.state, step.frozen, step.batch, planned.hypers)
    return work_of(traced.jaxpr.jaxpr)


@dataclass(frozen=True)
class Layers:
    """The transformer layers that a step runs, encoder and what is above it.

    Attributes:
        count: All that keep activations: those from the lowest that a gradient reaches.
        width: D.
        inner: Width of the feed-forward sublayers.
        heads: Of the attention.
        split: Devices that share heads, and those that share feed-forward units.
    """

    count: int
    width: int
    inner: int
    heads: int
    split: tuple[int, int]


def layers_of(planned: Planned, tensor: int) -> Layers:
    """See `Layers`."""
    spec = planned.spec
    trained = [path for path, chosen in planned.chosen.items() if chosen]
    encoder = spec.num_layers
    if not any(path.startswith("encoder/embeddings/") for path in trained):
        lowest = [i for i in range(encoder) if any(path.startswith(f"encoder/{LAYER}{i}/") for path in trained)]
        encoder -= min(lowest, default=encoder)
    above = {match[0] for match in map(re.compile(rf"interact/(.*/)?{LAYER}\d+").match, trained) if match}
    split = (_share(spec.num_heads, tensor), _share(spec.intermediate_size, tensor))
    return Layers(encoder + len(above), spec.hidden_size, spec.intermediate_size, spec.num_heads, split)


def _share(size: int, devices: int) -> int:
    """Devices that a dimension is split over: all of them, or one where they do not divide it."""
    return devices if size % devices == 0 else 1


def activation_bytes(layers: Layers, rows: Rows, *, dtype: str, remat: bool, narrow: bool) -> float:
    """What the backward pass needs of the forward one, on one device, when it begins.

    XLA keeps of each layer, in units of a token's D numbers: the output of the attention and of the feed-forward
    sublayer, centred for its LayerNorm and, in narrow layers, also as it was (2 or 4, not split), queries, keys, values
    and their mixture (4, split by heads), the feed-forward sublayer's input to the activation (inner / D) and the
    softmax's exponentials (heads x L / D). What is centred and the exponentials are float32 in either type. Where
    operands of products are narrowed to bfloat16 (`narrow`, a TPU), the second group takes two bytes a number. There an
    array's last dimension fills whole vectors of 128, the one before it groups of 8 or fewer: rows shorter than a
    vector leave holes in the exponentials, which are then kept in bfloat16 too, and in queries, keys and values by
    heads. Found by reading the buffers that live at that point in programs of libtpu 0.0.52, of widths 256 to 512 and
    of 768 and 1,024, and of rows of 32, 64 and 128.
    """
    tokens = rows.rows * rows.length
    wide = 2 if dtype == "bfloat16" else 4
    heads, units = layers.split
    fed = 2 if narrow else wide
    size, length, kept = layers.width // layers.heads, rows.length, 4
    by_heads = 3.0
    if narrow:
        length = _filled(rows.length, VECTOR)
        if rows.length < VECTOR:
            kept += fed
            # XLA ends them in a head's numbers, or in the row's tokens. Fewer than a group fill one of 1, 2 or 4.
            own = layers.heads // heads
            group = min(GROUP, 1 << (own - 1).bit_length())
            by_size = _filled(size, VECTOR) / size * _filled(own, group) / own
            by_heads *= min(by_size, length / rows.length)
    layer = tokens * (
        layers.width * 2 * (4 if layers.width >= CENTRED_FROM else 4 + wide)
        + layers.width * (by_heads + 1) * fed / heads
        + layers.inner * wide / units
        + layers.heads * length * kept / heads
    )
    embedded = tokens * layers.width * wide
    if remat:
        return embedded * (1 + layers.count) + layer
    return embedded + layers.count * layer


def _filled(size: int, by: int) -> int:
    """The next multiple."""
    return -(-size // by) * by


@dataclass(frozen=True)
class Estimate:
    """What a step costs one device, in bytes, operations and seconds.

    Attributes:
        parameters: Of the model, frozen ones included.
        moments: Of the optimiser, and its counts.
        batch: What the step reads.
        gradients: Of the parameters that train, where this device keeps them.
        activations: What the backward pass needs of the forward one.
        temporaries: All that lies there besides parameters, moments and batch at the worst moment.
        flops: Floating-point operations.
        collectives: By kind.
        seconds: Of compute and of wires, one after the other; no device is faster than its peaks.
        wire_seconds: The wires' part.
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
        """Bytes at the worst moment."""
        return self.parameters + self.moments + self.batch + self.temporaries


def _held(tree: Any) -> float:
    """Bytes of a tree of placed shapes on one device."""
    sizes = [
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * getattr(leaf.dtype, "itemsize", 4)
        for leaf in jax.tree.leaves(tree)
    ]
    return float(sum(sizes))


class Estimator:
    """Estimates of an experiment's step on meshes of one kind of device.

    Args:
        planned: The experiment's step.
        device: Each of them.
        narrow: Whether operands of products are narrowed to bfloat16 (TPUs).
    """

    def __init__(self, planned: Planned, device: Device, *, narrow: bool) -> None:
        self.planned, self.device, self.narrow = planned, device, narrow
        multiple = planned.optim.accumulate
        one, two = (trace_work(planned, self._local(multiple * times)) for times in (1, 2))
        # Arithmetic is a constant and a part for each row.
        self._row = two.plus(one, -1.0)
        self._fixed = one.plus(self._row, -1.0)

    def _local(self, rows: int) -> Rows:
        return Rows(rows, self.planned.rows.length, self.planned.rows.pairs, self.planned.rows.masked)

    def __call__(self, mesh: Mapping[str, int], batch_size: int) -> Estimate:
        """Of a step over so many examples on this mesh."""
        planned, tensor = self.planned, mesh["tensor"]
        shards = mesh["data"] * mesh["fsdp"]
        rows = planned.rows_for(batch_size, shards)
        abstract = AbstractMesh(tuple(mesh[axis] for axis in AXES), AXES, axis_types=(AxisType.Auto,) * 3)
        step = on_mesh(planned, rows, abstract)
        parameters = _held(step.state.params) + _held(step.frozen)
        local = self._local(rows.rows // shards)
        micro = self._local(max(1, local.rows // planned.optim.accumulate))
        layers = layers_of(planned, tensor)
        activations = activation_bytes(
            layers, micro, dtype=planned.dtype, remat=planned.remat, narrow=self.narrow
        ) + self._words(micro, tensor)
        gradients = _held(step.state.params)
        traffic = self._traffic(step, mesh, micro, layers)
        work = self._fixed.plus(self._row, local.rows / planned.optim.accumulate)
        compute = self._compute_seconds(work, layers, gradients)
        wires = sum(one.wire for one in traffic.values()) / self.device.wires if self.device.wires else 0.0
        gathered = traffic["all-gather"].bytes if "all-gather" in traffic else 0.0
        return Estimate(
            parameters=parameters,
            moments=_held((step.state.opt_state, step.state.step, step.state.key)),
            batch=_held(step.batch),
            gradients=gradients,
            activations=activations,
            temporaries=self._temporaries(activations, gradients, gathered, micro, layers),
            flops=sum(_over(part, layers) for part in (work.matrix, work.other)),
            collectives=traffic,
            seconds=compute + wires,
            wire_seconds=wires,
        )

    def _words(self, rows: Rows, tensor: int) -> float:
        """Scores of the vocabulary and their gradient, in pretraining."""
        words = self.planned.spec.vocab_size
        return 2 * 4.0 * rows.rows * rows.masked * words / _share(words, tensor)

    def _temporaries(self, activations: float, gradients: float, gathered: float, rows: Rows, layers: Layers) -> float:
        """The worse of two moments: the backward pass begins, or all gradients are there.

        Where devices share layers, XLA puts off a layer's weight gradients to work while the next one's sums travel:
        what passes between layers is there twice.
        """
        wide = 2 if self.planned.dtype == "bfloat16" else 4
        passing = rows.rows * rows.length * (layers.inner / layers.split[1] + layers.width) * wide
        passing *= 2 if max(layers.split) > 1 else 1
        summed = gradients if self.planned.optim.accumulate > 1 else 0.0
        worst = max(activations + passing + summed, gradients) + gathered
        return max(0.0, worst - self.device.scratch)

    def _compute_seconds(self, work: Work, layers: Layers, gradients: float) -> float:
        """Products at the matrix rate or at the memory's, whichever is slower; then the rest."""
        device = self.device
        matrix, moved, other = (_over(part, layers) for part in (work.matrix, work.moved, work.other))
        if self.narrow and self.planned.dtype == "float32":
            moved /= 2
        products = max(matrix / device.rates[self.planned.dtype], moved / device.bandwidth)
        # The update reads parameter, gradient and two moments, and writes all but the gradient.
        update = 7 * gradients / device.bandwidth
        return products + update + (other / device.vector if device.vector else 0.0)

    def _traffic(self, step: Any, mesh: Mapping[str, int], rows: Rows, layers: Layers) -> dict[str, Traffic]:
        """Collectives: gradients over the rows' devices, parameters over fsdp, activations over tensor."""
        data, fsdp, tensor = (mesh[axis] for axis in AXES)
        found: dict[str, Traffic] = {}

        def add(kind: str, size: float, devices: int) -> None:
            if devices > 1 and size:
                share = (2 if kind == "all-reduce" else 1) * (devices - 1) / devices
                found[kind] = found.get(kind, Traffic()).plus(size, size * share)

        trained, frozen = flatten(step.state.params), flatten(step.frozen)
        for path, leaf in (trained | frozen).items():
            held, cut = _held(leaf), "fsdp" in leaf.sharding.spec
            if cut:
                add("all-gather", held * fsdp, fsdp)
            if path not in trained:
                continue
            if cut:
                add("reduce-scatter", held * fsdp, fsdp)
                add("all-reduce", held, data)
            else:
                add("all-reduce", held, data * fsdp)
        wide = 2 if self.planned.dtype == "bfloat16" else 4
        states = rows.rows * rows.length * layers.width * float(wide) * self.planned.optim.accumulate
        for split in layers.split:
            for _ in range(2 * layers.count if split > 1 else 0):
                add("all-reduce", states, tensor)
        return found


def _over(part: tuple[float, float], layers: Layers) -> float:
    """An amount inside layers and one outside, on one device of those that share the layers."""
    return part[0] / min(layers.split) + part[1]
