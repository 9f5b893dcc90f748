"""What a plan counts: against compiled programs of simulated devices, and against sums done by hand."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from pairjax.base.config import Config, MeshConfig, OptimConfig, TrainConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.pretrain_config import CorpusConfig, PretrainConfig
from pairjax.plan.advise import advise, fits, largest_batch, make_plan
from pairjax.plan.compiled import Figures, Traffic, compile_step, cpu_devices, figures_of, group_size, traffic
from pairjax.plan.cost import Estimator, work_of
from pairjax.plan.devices import DEVICES, factorisations, gpu_target, named_mesh, tpu_target
from pairjax.plan.step import Planned, batch_shapes, plan_step

ROWS, LENGTH = 16, 32


def write_config(folder: Path, *, layers: int = 2, width: int = 64, heads: int = 4) -> str:
    """An encoder's folder without any weights: a plan reads none."""
    config = {"model_type": "bert", "vocab_size": 96, "hidden_size": width, "num_hidden_layers": layers}
    config |= {"num_attention_heads": heads, "intermediate_size": 4 * width, "max_position_embeddings": 128}
    (folder / "config.json").write_text(json.dumps(config | {"type_vocab_size": 2}), encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_config(tmp_path_factory.mktemp("encoder"))


def make_config(encoder: str, **changes: object) -> Config:
    parts: dict = {"data": DataConfig(rules="entailment"), "model": ModelConfig(encoder=encoder)}
    parts |= {"train": TrainConfig(batch_size=ROWS)}
    return Config(**(parts | changes))


@pytest.fixture(scope="module")
def planned(encoder: str) -> Planned:
    return plan_step(make_config(encoder), length=LENGTH)


def mesh_of(data: int, fsdp: int, tensor: int) -> dict[str, int]:
    return {"data": data, "fsdp": fsdp, "tensor": tensor}


def compiled(planned: Planned, mesh: dict[str, int]) -> Figures:
    count = mesh["data"] * mesh["fsdp"] * mesh["tensor"]
    rows = planned.rows_for(ROWS, mesh["data"] * mesh["fsdp"])
    return figures_of(compile_step(planned, rows, mesh, cpu_devices(count)))


def gradient_bytes(planned: Planned) -> int:
    return 4 * sum(leaf.size for leaf in jax.tree.leaves(planned.params))


@pytest.fixture(scope="module")
def estimator(planned: Planned) -> Estimator:
    return Estimator(planned, DEVICES["v5e"], narrow=False)


@pytest.mark.mesh
def test_data_parallelism_sums_the_gradients_and_moves_nothing_else(planned: Planned, estimator: Estimator) -> None:
    mesh = mesh_of(8, 1, 1)
    found, guess = compiled(planned, mesh), estimator(mesh, ROWS)
    assert set(found.collectives) == {"all-reduce"}
    # Besides the gradients a few scalars: losses, weights, counts.
    assert 0 <= found.collectives["all-reduce"].bytes - gradient_bytes(planned) < 64
    assert guess.collectives["all-reduce"].bytes == gradient_bytes(planned)
    assert guess.parameters + guess.moments + guess.batch == pytest.approx(found.arguments, abs=64)


@pytest.mark.mesh
def test_fsdp_gathers_each_parameter_and_moves_no_activation_but_the_embedded_rows(
    planned: Planned, estimator: Estimator
) -> None:
    mesh = mesh_of(1, 8, 1)
    found, guess = compiled(planned, mesh), estimator(mesh, ROWS)
    shapes = {4.0 * leaf.size for leaf in jax.tree.leaves(planned.params)}
    assert found.gathered
    # The gradient of the words is scattered where its columns lie: all ids go there, and each device's share of the
    # embedded rows, once.
    ids = 4.0 * ROWS * LENGTH
    assert set(found.gathered) <= shapes | {ids}
    exchanged = found.collectives.get("all-to-all", Traffic())
    assert exchanged.count <= 1
    assert exchanged.bytes <= ids * planned.spec.hidden_size / 8
    assert guess.parameters + guess.moments + guess.batch == pytest.approx(found.arguments, abs=64)
    # Each device computes its own rows alone.
    whole = estimator(mesh_of(1, 1, 1), ROWS)
    assert found.flops < 1.5 * whole.flops / 8


@pytest.mark.mesh
def test_tensor_parallelism_sums_activations_and_reshuffles_none(planned: Planned, estimator: Estimator) -> None:
    mesh = mesh_of(1, 1, 2)
    found, guess = compiled(planned, mesh), estimator(mesh, ROWS)
    assert "all-to-all" not in found.collectives
    assert "all-gather" not in found.collectives
    states = 4 * ROWS * LENGTH * planned.spec.hidden_size
    assert guess.collectives["all-reduce"].bytes == 4 * planned.spec.num_layers * states
    assert found.collectives["all-reduce"].bytes == pytest.approx(guess.collectives["all-reduce"].bytes, rel=0.3)
    assert guess.parameters + guess.moments + guess.batch == pytest.approx(found.arguments, abs=64)


def test_arithmetic_agrees_with_the_compiler(planned: Planned, estimator: Estimator) -> None:
    found = compiled(planned, mesh_of(1, 1, 1))
    assert estimator(mesh_of(1, 1, 1), ROWS).flops == pytest.approx(found.flops, rel=0.1)


def test_products_are_counted_wherever_they_stand() -> None:
    x = jnp.ones((4, 8))
    once = 2.0 * 4 * 8 * 8

    def count(function: object) -> float:
        return sum(work_of(jax.make_jaxpr(function)(x, jnp.ones((8, 8))).jaxpr).matrix)

    assert count(lambda x, w: x @ w) == once
    assert count(jax.jit(lambda x, w: x @ w)) == once
    assert count(lambda x, w: jax.lax.scan(lambda c, _: (c @ w, None), x, length=5)[0]) == 5 * once
    assert count(jax.checkpoint(lambda x, w: jnp.sin(x @ w))) == once
    assert count(lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x)) in (0.0, once)
    # Forward, and one product for each operand's gradient.
    assert count(jax.grad(lambda x, w: jnp.sum(jnp.sin(x @ w)), argnums=(0, 1))) == 3 * once


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", 8),
        ("source_target_pairs={{0,1}}", 1),
    ],
)
def test_groups_of_a_collective_in_every_spelling(groups: str, size: int) -> None:
    assert group_size(f"  %x = f32[8]{{0}} all-reduce(%y), channel_id=1, {groups}, to_apply=%add") == size


def test_traffic_of_a_program() -> None:
    text = """
  %a = (f32[256]{0:T(256)}, /*index=1*/bf16[2,128]{1,0}) all-reduce(%p, %q), replica_groups=[1,4]<=[4], to_apply=%add
  %b = (f32[64]{0}, f32[256]{0}) all-gather-start(%p), replica_groups={{0,1,2,3}}, dimensions={0}
  %b.done = f32[256]{0} all-gather-done(%b)
  ROOT %c = f32[64]{0} reduce-scatter(%p), replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add
  %d = f32[512]{0} copy(%p)
  %e = f32[2]{0} copy(%p)
  %f = f32[32,32]{1,0} transpose(%p), dimensions={1,0}
  %g = f32[32,32]{1,0} transpose(%p), dimensions={0,1}
"""
    collectives, moves, gathered = traffic(text)
    assert {kind: (one.count, one.bytes) for kind, one in collectives.items()} == {
        "all-reduce": (1, 256 * 4 + 256 * 2),
        "all-gather": (1, 1024),
        "reduce-scatter": (1, 1024),
    }
    assert collectives["all-reduce"].wire == 1.5 * 1536
    assert collectives["all-gather"].wire == 0.75 * 1024
    assert {kind: (one.count, one.bytes) for kind, one in moves.items()} == {"copy": (1, 2048), "transpose": (1, 4096)}
    assert gathered == (1024.0,)


def test_the_largest_batch_fits_and_the_next_does_not(planned: Planned, estimator: Estimator) -> None:
    device, mesh = estimator.device, mesh_of(2, 2, 1)
    best = largest_batch(estimator, mesh, device)
    assert best % 4 == 0
    assert fits(estimator(mesh, best), device)
    assert not fits(estimator(mesh, best + 4), device)


def test_advice_prefers_the_mesh_that_splits_least_among_equals(estimator: Estimator) -> None:
    mesh, made = advise(estimator, tpu_target("v5e:2x2"), ROWS)
    assert mesh is not None
    assert made is not None
    assert made.seconds <= min(estimator(one, ROWS).seconds for one in factorisations(4)) + 1e-5


def test_more_rows_cost_more_and_remat_costs_less_memory(encoder: str, estimator: Estimator) -> None:
    mesh = mesh_of(1, 1, 1)
    small, large = estimator(mesh, 16), estimator(mesh, 64)
    assert large.activations == pytest.approx(4 * small.activations)
    assert large.flops > 3 * small.flops
    leaner = plan_step(make_config(encoder, model=ModelConfig(encoder=encoder, remat=True)), length=LENGTH)
    again = Estimator(leaner, estimator.device, narrow=False)(mesh, 64)
    assert again.activations < large.activations
    assert again.flops > 1.2 * large.flops


def test_frozen_parameters_have_neither_gradient_nor_moments(encoder: str, estimator: Estimator) -> None:
    frozen = plan_step(make_config(encoder, optim=OptimConfig(freeze="encoder")), length=LENGTH)
    made = Estimator(frozen, estimator.device, narrow=False)(mesh_of(1, 1, 1), ROWS)
    whole = estimator(mesh_of(1, 1, 1), ROWS)
    assert made.parameters == whole.parameters
    assert made.gradients < whole.gradients / 2
    assert made.moments < whole.moments / 2
    assert made.flops < whole.flops / 2


def test_a_plan_of_pretraining_reads_no_text() -> None:
    config = PretrainConfig(data=CorpusConfig(corpus="nowhere/*.txt", vocabulary=512, max_length=32))
    planned = plan_step(config)
    assert planned.rows.length == 32
    assert planned.rows.masked == config.data.most_masked
    assert planned.spec.vocab_size == 512
    batch = batch_shapes(planned.rows)
    assert batch.masked_positions.shape == (config.train.batch_size, planned.rows.masked)
    made = Estimator(planned, DEVICES["v5e"], narrow=True)(mesh_of(2, 1, 1), 64)
    assert made.gradients == gradient_bytes(planned)


def test_a_plan_reads_the_rows_that_the_data_need(tmp_path: Path) -> None:
    from tests.tiny import write_tiny_encoder

    config = make_config(str(write_tiny_encoder(tmp_path / "tiny")), data=DataConfig(rules="entailment", buckets=2))
    planned = plan_step(config)
    assert 1 <= len(planned.lengths) <= 2
    assert planned.rows.length == max(planned.lengths)
    assert sum(planned.lengths.values()) == -(-4000 // ROWS)


@pytest.mark.parametrize("text", ["v9:2x2", "v5e", "v5e:3x3", "v5e:4x4x4", "", "v5e:4x4;rm"])
def test_an_unknown_slice_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UserError, match=r"v5e: with one of 1x1, 2x2"):
        tpu_target(text)


@pytest.mark.parametrize("text", ["b200:8", "h100:0", "h100:x", "h100:-1"])
def test_an_unknown_gpu_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UserError, match="h100, a100"):
        gpu_target(text)


def test_a_mesh_that_does_not_divide_the_devices_is_refused(encoder: str) -> None:
    assert named_mesh(-1, 2, 1, devices=8) == mesh_of(4, 2, 1)
    assert len(factorisations(16)) == 15
    with pytest.raises(UserError, match="does not divide the devices; got 4 devices"):
        make_plan(make_config(encoder, mesh=MeshConfig(data=3)), tpu_target("v5e:2x2"), length=LENGTH, compiler=False)
    with pytest.raises(UserError, match="--length is longer"):
        plan_step(make_config(encoder), length=4096)
