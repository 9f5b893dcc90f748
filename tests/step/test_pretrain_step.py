"""The pretraining step on meshes: masked tokens and segments, the same losses and gradients wherever rows lie."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pairjax.base.config import OptimConfig
from pairjax.base.params import flatten
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Hypers
from pairjax.models.encoder import encoder_heads
from pairjax.models.pretraining import build_pretraining_model
from pairjax.step.losses import make_pretraining_loss
from pairjax.step.programs import build_update
from pairjax.step.sharding import build_mesh, gather, place_params
from tests.step.test_pair_step import FACTORISATIONS, MESHES, MINILM, Run, check_same
from tests.step.test_pair_step import SPEC as PAIR_SPEC

pytestmark = pytest.mark.mesh

SPEC = dataclasses.replace(PAIR_SPEC, family="bert", vocab_size=32, embedding_size=16)
MASKED = 3


def make_batch(rows: int, spec: EncoderSpec, *, seed: int) -> Batch:
    """Two sides of five and four tokens; the last row is empty, and the one before has fewer masks."""
    rng = np.random.default_rng(seed)
    shape = (rows, 10)
    real = np.arange(rows) < rows - 1
    place = np.broadcast_to(np.arange(10, dtype=np.int32), shape)
    pair_ids = ((place < 9) & real[:, None]).astype(np.int32)
    side_ids = ((place >= 5) & (pair_ids > 0)).astype(np.int32)
    weights = np.broadcast_to(real[:, None], (rows, MASKED)).astype(np.float32)
    weights[-2, 1:] = 0.0
    return Batch(
        input_ids=(rng.integers(1, spec.vocab_size, shape) * pair_ids).astype(np.int32),
        token_type_ids=side_ids,
        position_ids=np.where(pair_ids > 0, place, 1).astype(np.int32),
        pair_ids=pair_ids,
        side_ids=side_ids.copy(),
        label=rng.integers(0, 2, (rows, 1)).astype(np.int32),
        weight=real.astype(np.float32)[:, None],
        example_id=np.where(real, np.arange(rows), -1).astype(np.int32)[:, None],
        masked_positions=np.sort(rng.integers(1, 9, (rows, MASKED)), axis=1).astype(np.int32),
        masked_targets=rng.integers(1, spec.vocab_size, (rows, MASKED)).astype(np.int32),
        masked_weights=weights,
    )


def run(mesh: Mesh, spec: EncoderSpec, *, steps: int) -> Run:
    """Some updates of 16 rows with dropout; parameters, first moments and losses."""
    fns = build_pretraining_model(spec, masked=MASKED)
    params = fns.init(jax.random.key(0))
    loss, _ = make_pretraining_loss(segments=True)
    specs = place_params(params, mesh, heads=encoder_heads(spec)).specs
    update = build_update(
        params,
        dict.fromkeys(flatten(params), True),
        apply=fns.apply,
        loss=loss,
        # A larger eps: Adam makes noise of rounding where a gradient is nearly 0, as that of keys' biases is.
        optim=OptimConfig(schedule="constant", warmup=0.0, eps=1e-3),
        total_steps=steps,
        mesh=mesh,
        specs=specs,
    )
    start = update.start(Hypers(1e-2, 0.01, 0.0, DropoutRates(0.2, 0.2, 0.0, 0.0)), seed=1)
    state, losses = start.state, []
    for seed in range(steps):
        state, metrics = start.step(state, make_batch(16, spec, seed=seed))
        assert int(metrics["tokens"]) == 15 * 9
        assert np.asarray(metrics["weight_sum"]).tolist() == [15 * MASKED - 2, 15]
        losses += np.asarray(metrics["loss_sum"] / metrics["weight_sum"]).tolist()
    for path, leaf in flatten(state.params).items():
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, flatten(specs)[path]), leaf.ndim), path
    return Run(gather(state.params, mesh), gather(state.opt_state[1].mu, mesh), losses)


@functools.cache
def alone(spec: EncoderSpec, steps: int) -> Run:
    return run(build_mesh(jax.devices()[:1]), spec, steps=steps)


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_the_pretraining_step_is_the_same_on_every_mesh(sizes: tuple[int, int, int]) -> None:
    actual = run(build_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]), SPEC, steps=3)
    check_same(actual, alone(SPEC, 3))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", FACTORISATIONS, ids=str)
def test_the_pretraining_step_is_the_same_in_every_factorisation_at_minilms_shapes(
    sizes: tuple[int, int, int],
) -> None:
    actual = run(build_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]), MINILM, steps=2)
    check_same(actual, alone(MINILM, 2))


def test_words_and_heads_are_split_and_the_classifiers_whole() -> None:
    fns = build_pretraining_model(SPEC, masked=MASKED)
    params = jax.eval_shape(fns.init, jax.random.key(0))
    placed = place_params(params, build_mesh(fsdp=2, tensor=2), heads=encoder_heads(SPEC))
    specs = flatten(placed.specs)
    assert specs["encoder/embeddings/word/embedding"] == PartitionSpec("tensor", "fsdp")
    assert specs["encoder/layer_0/attention/query/kernel"] == PartitionSpec("fsdp", "tensor")
    assert specs["head/mlm/transform/kernel"] == specs["head/order/kernel"] == PartitionSpec()
    assert placed.notes == ()
