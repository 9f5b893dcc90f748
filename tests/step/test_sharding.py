"""Meshes, placement, and the step over eight simulated devices against the step on one."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from pairjax.base.config import OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.params import flatten
from pairjax.base.types import Params
from pairjax.step.sharding import (
    AXES,
    batch_sharding,
    build_mesh,
    param_specs,
    put_batch,
    replicate,
    replicated,
)
from pairjax.step.state import TrainState, init_state, state_sharding
from pairjax.step.step import make_eval_step, make_train_step
from tests.step import toy

pytestmark = pytest.mark.mesh

CONFIG = OptimConfig(schedule="constant", warmup=0.0, eps=1e-3, freeze="embeddings")


def shape(mesh: Mesh) -> tuple[int, ...]:
    assert mesh.axis_names == AXES
    return tuple(mesh.shape[name] for name in AXES)


def test_eight_devices_are_simulated() -> None:
    assert len(jax.devices()) == 8


def test_minus_one_fills_an_axis() -> None:
    assert shape(build_mesh()) == (8, 1, 1)
    assert shape(build_mesh(fsdp=2, tensor=2)) == (2, 2, 2)
    assert shape(build_mesh(data=2, fsdp=-1)) == (2, 4, 1)
    assert shape(build_mesh(jax.devices()[:1])) == (1, 1, 1)
    assert [d.id for d in build_mesh().devices.ravel()] == [d.id for d in jax.devices()]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"data": 3}, r"mesh data=3 x fsdp=1 x tensor=1 does not divide the devices; got 8 devices"),
        ({"tensor": 3}, r"mesh data=-1 x fsdp=1 x tensor=3 does not divide the devices"),
        ({"tensor": 16}, r"does not divide the devices; got 8 devices"),
        ({"fsdp": -1}, r"a size is wrong; expected .* -1 for one axis at most"),
        ({"fsdp": 0}, r"a size is wrong"),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_refused(sizes: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build_mesh(**sizes)


def test_parameter_specs_come_from_the_first_pattern_and_cover_every_path() -> None:
    table = ((r".*/embedding", PartitionSpec("tensor")), (r".*/(kernel|bias)", PartitionSpec()))
    specs = flatten(param_specs(toy.init(), table))
    assert specs.keys() == flatten(toy.init()).keys()
    assert [path for path, spec in specs.items() if spec == PartitionSpec("tensor")] == [
        "encoder/embeddings/word/embedding"
    ]
    assert set(flatten(param_specs(toy.init())).values()) == {PartitionSpec()}
    with pytest.raises(UserError, match="no pattern covers the parameter encoder/embeddings/word/embedding"):
        param_specs(toy.init(), table[1:])


def test_rows_that_do_not_divide_are_refused_with_the_numbers_that_would() -> None:
    with pytest.raises(UserError, match=r"a batch of 10 rows does not divide over 8 devices; expected 8 or 16"):
        put_batch(toy.make_batch(10), build_mesh())
    with pytest.raises(UserError, match=r"a batch of 3 rows does not divide over 8 devices; expected 8;"):
        put_batch(toy.make_batch(3), build_mesh(fsdp=2))
    assert put_batch(toy.make_batch(3), build_mesh(tensor=8, data=1)).input_ids.shape == (3, toy.LENGTH)


def test_a_batch_is_laid_over_the_mesh_by_rows() -> None:
    batch = toy.make_batch(16)
    placed = put_batch(batch, build_mesh(fsdp=2, tensor=2))
    for name, local, leaf in zip(batch._fields, batch, placed, strict=True):
        if local is None:
            assert leaf is None, name
            continue
        np.testing.assert_array_equal(leaf, local)
        assert leaf.dtype == local.dtype
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {4}
        assert leaf.sharding.spec == PartitionSpec(("data", "fsdp"))


@functools.cache
def run(mesh: Mesh | None, *, dropout: float = 0.0, accumulate: int = 1) -> tuple[TrainState, list[dict[str, float]]]:
    """Four steps of 16 rows; without a mesh on the default device, with plain arrays."""
    trains, frozen, optimizer = toy.split_and_build(CONFIG)
    sharding = None if mesh is None else state_sharding(trains, optimizer, mesh)
    step = make_train_step(toy.apply, toy.loss, optimizer, accumulate=accumulate, sharding=sharding)
    state = init_state(trains, optimizer, key=jax.random.key(1), sharding=sharding)
    frozen = frozen if mesh is None else replicate(frozen, mesh)
    seen = []
    for seed in range(4):
        batch = toy.make_batch(16, seed=seed)
        placed = batch if mesh is None else put_batch(batch, mesh)
        state, metrics = step(state, frozen, placed, toy.make_hypers(dropout=dropout))
        seen.append({name: float(value) for name, value in metrics.items()})
    return state, seen


def test_threefry_draws_the_same_bits_on_any_mesh() -> None:
    """The switch that the next test relies on."""
    assert jax.config.jax_threefry_partitionable
    assert str(jax.random.key_impl(jax.random.key(0))) == "threefry2x32"


@pytest.mark.parametrize(
    ("sizes", "accumulate"),
    [((8, 1, 1), 1), ((2, 2, 2), 1), ((1, 1, 8), 1), ((4, 2, 1), 2)],
)
def test_the_sharded_step_equals_the_step_on_one_device(sizes: tuple[int, int, int], accumulate: int) -> None:
    """Dropout included; losses within 1e-5 relative, parameters within 1e-6 absolute (float32 sums reordered)."""
    expected, losses = run(None, dropout=0.3, accumulate=accumulate)
    mesh = build_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2])
    actual, sharded = run(mesh, dropout=0.3, accumulate=accumulate)
    for one, other in zip(sharded, losses, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for path, leaf in flatten(expected.params).items():
        np.testing.assert_allclose(flatten(actual.params)[path], leaf, rtol=0, atol=1e-6, err_msg=path)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(actual))


def test_one_program_serves_every_step_of_a_mesh(caplog: pytest.LogCaptureFixture) -> None:
    mesh = build_mesh()
    trains, frozen, optimizer = toy.split_and_build(CONFIG)
    sharding = state_sharding(trains, optimizer, mesh)
    step = make_train_step(toy.apply, toy.loss, optimizer, sharding=sharding)
    state = init_state(trains, optimizer, key=jax.random.key(1), sharding=sharding)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for seed in range(3):
            batch = put_batch(toy.make_batch(8, seed=seed), mesh)
            state, _ = step(state, replicate(frozen, mesh), batch, toy.make_hypers())
    compiled = [record for record in caplog.records if "Compiling jit(step)" in record.getMessage()]
    assert len(compiled) == 1


def test_moments_lie_where_their_parameters_lie() -> None:
    trains, frozen, optimizer = toy.split_and_build(CONFIG)
    mesh = build_mesh(data=2, fsdp=2, tensor=2)
    table = ((r".*/kernel", PartitionSpec("fsdp")), (r".*", PartitionSpec()))
    sharding = state_sharding(trains, optimizer, mesh, specs=param_specs(trains, table))
    state = init_state(trains, optimizer, key=jax.random.key(1), sharding=sharding)
    step = make_train_step(toy.apply, toy.loss, optimizer, sharding=sharding)
    state, _ = step(state, replicate(frozen, mesh), put_batch(toy.make_batch(16), mesh), toy.make_hypers())
    places = [leaf.sharding.spec for leaf in jax.tree.leaves(state) if leaf.shape == (toy.DIM, toy.DIM)]
    assert places == [PartitionSpec("fsdp")] * 3
    assert state.step.sharding.is_fully_replicated


def test_evaluation_over_a_mesh_gives_every_row_to_all() -> None:
    mesh, batch = build_mesh(), toy.make_batch(16)
    logits = make_eval_step(toy.apply, mesh=mesh)(replicate(toy.init(), mesh), put_batch(batch, mesh))
    assert logits.sharding.is_fully_replicated
    np.testing.assert_allclose(logits, toy.apply(toy.init(), batch), rtol=0, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_step_lowers_for_a_tpu_mesh_without_hardware(accumulate: int) -> None:
    mesh = AbstractMesh((16, 4, 4), AXES, axis_types=(AxisType.Auto,) * 3)
    trains, frozen, optimizer = toy.split_and_build(CONFIG)
    sharding = state_sharding(trains, optimizer, mesh)
    step = make_train_step(toy.apply, toy.loss, optimizer, accumulate=accumulate, sharding=sharding)

    def spec(leaf: jax.Array | np.ndarray, where: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    def everywhere(tree: Params) -> Params:
        return jax.tree.map(lambda leaf: spec(leaf, replicated(mesh)), tree)

    state = jax.tree.map(spec, init_state(trains, optimizer, key=jax.random.key(0)), sharding)
    batch = jax.tree.map(lambda leaf: spec(leaf, batch_sharding(mesh)), toy.make_batch(128))
    lowered = step.trace(state, everywhere(frozen), batch, toy.make_hypers()).lower(lowering_platforms=("tpu",))
    text = lowered.as_text()
    assert "mhlo.num_partitions = 256" in text
    assert jax.tree.structure(lowered.out_info[0]) == jax.tree.structure(state)


def test_accumulation_over_a_mesh_moves_no_rows_between_devices() -> None:
    mesh = build_mesh()
    trains, frozen, optimizer = toy.split_and_build(CONFIG)
    sharding = state_sharding(trains, optimizer, mesh)
    step = make_train_step(toy.apply, toy.loss, optimizer, accumulate=2, sharding=sharding)
    state = init_state(trains, optimizer, key=jax.random.key(1), sharding=sharding)
    program = step.lower(state, replicate(frozen, mesh), put_batch(toy.make_batch(16), mesh), toy.make_hypers())
    text = program.compile().as_text()
    assert "all-reduce" in text
    for moves in ("all-to-all", "all-gather", "collective-permute"):
        assert moves not in text
    assert jnp.isfinite(step(state, frozen, toy.make_batch(16), toy.make_hypers())[1]["loss_sum"])
