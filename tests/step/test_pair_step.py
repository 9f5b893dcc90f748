"""The step over the real pair model: its parameters are covered by every table, and a mesh changes nothing."""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.model_config import CombineConfig, HeadConfig, InteractConfig, ModelConfig
from pairjax.base.params import flatten, split
from pairjax.base.types import Batch, DropoutRates, EncoderSpec, Hypers, Params, TaskSpec
from pairjax.models.build import build_pair_model, heads_by_path
from pairjax.step.losses import make_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers, trainable_paths
from pairjax.step.sharding import build_mesh, gather, param_specs, place, place_params, put_batch
from pairjax.step.state import init_state, state_sharding
from pairjax.step.step import make_train_step

pytestmark = pytest.mark.mesh

SPEC = EncoderSpec(
    family="electra",
    vocab_size=30,
    hidden_size=16,
    embedding_size=8,
    num_layers=1,
    num_heads=2,
    intermediate_size=32,
    max_positions=16,
    type_vocab_size=2,
    position_offset=0,
    pad_token_id=0,
    layer_norm_eps=1e-12,
    activation="gelu",
    has_pooler=True,
)
TASK = TaskSpec("classification", ("no", "maybe", "yes"))
MODELS = [
    ModelConfig(),
    ModelConfig(interact=InteractConfig(kind="joint"), pooling="max", head=HeadConfig(hidden=(8, 4))),
    ModelConfig(
        kind="bi",
        interact=InteractConfig(kind="cross", heads=2),
        combine=CombineConfig(kind="attention", heads=2),
        head=HeadConfig(hidden=(8,)),
    ),
    ModelConfig(kind="bi", pooling="pooler", combine=CombineConfig(kind="gate")),
]
OPTIMS = [
    OptimConfig(freeze=freeze, freeze_layers=1 if freeze == "layers" else 0, layer_decay=0.9)
    for freeze in ("none", "embeddings", "layers", "encoder", "all_but_head")
]


def make_batch(rows: int) -> Batch:
    """One pair a row, five tokens a side, as a bi-encoder's row; the last row is empty."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, SPEC.vocab_size, (rows, 10)).astype(np.int32)
    weight = np.ones((rows, 1), np.float32)
    weight[-1] = 0.0
    return Batch(
        input_ids=tokens,
        token_type_ids=np.zeros_like(tokens),
        position_ids=np.tile(np.arange(5, dtype=np.int32), (rows, 2)),
        pair_ids=np.ones_like(tokens),
        side_ids=np.tile(np.repeat(np.asarray([0, 1], np.int32), 5), (rows, 1)),
        label=rng.integers(0, 3, (rows, 1)).astype(np.int32),
        weight=weight,
        example_id=np.arange(rows, dtype=np.int32)[:, None],
    )


@pytest.mark.parametrize("model", MODELS, ids=["cross", "cross-joint", "bi-cross-attention", "bi-pooler-gate"])
def test_every_table_covers_every_parameter_of_the_model(model: ModelConfig) -> None:
    params = jax.eval_shape(build_pair_model(model, SPEC, 3).init, jax.random.key(0))
    paths = flatten(params).keys()
    assert flatten(param_specs(params)).keys() == paths
    heads = heads_by_path(model, SPEC)
    for sizes in ({"fsdp": 2, "tensor": 2}, {"data": 1, "tensor": 8}):
        assert flatten(place_params(params, build_mesh(**sizes), heads=heads).specs).keys() == paths
    for config, kept in itertools.product(OPTIMS, (False, True)):
        chosen = trainable_paths(config, params, pooler_kept=kept)
        assert chosen.keys() == paths
        trains, _ = split(params, chosen)
        assert flatten(rate_multipliers(config, trains)) == {
            path: share for path, share in flatten(rate_multipliers(config, params)).items() if chosen[path]
        }
    for path, decays in flatten(decay_mask(params)).items():
        assert decays == (flatten(params)[path].ndim > 1), path


FACTORISATIONS = [
    (8, 1, 1),
    (4, 2, 1),
    (4, 1, 2),
    (2, 2, 2),
    (2, 4, 1),
    (2, 1, 4),
    (1, 8, 1),
    (1, 4, 2),
    (1, 2, 4),
    (1, 1, 8),
]
"""Of eight devices into data, fsdp and tensor."""

MINILM = dataclasses.replace(
    SPEC,
    family="bert",
    vocab_size=30522,
    hidden_size=384,
    embedding_size=384,
    num_layers=2,
    num_heads=12,
    intermediate_size=1536,
    max_positions=512,
)
"""The widths of all-MiniLM-L6-v2; two of its six layers, which are alike."""


class Run(NamedTuple):
    """Parameters, the optimiser's first moments (a mean of gradients) and losses of a few steps."""

    params: Params
    moments: Params
    losses: list[float]


def run(mesh: Mesh, *, spec: EncoderSpec = SPEC, model: ModelConfig, freeze: str = "embeddings", steps: int = 3) -> Run:
    """Steps of 16 rows with dropout."""
    # Adam's eps above float32's noise, so that entries whose gradient is all but zero compare.
    config = OptimConfig(freeze=freeze, schedule="constant", warmup=0.0, eps=1e-3, layer_decay=0.9)
    fns = build_pair_model(model, spec, 3)
    params = fns.init(jax.random.key(0))
    specs = place_params(params, mesh, heads=heads_by_path(fns.config, spec)).specs
    chosen = trainable_paths(config, params, pooler_kept=False)
    (trains, frozen), (train_specs, frozen_specs) = split(params, chosen), split(specs, chosen)
    optimizer = build_optimizer(
        config, total_steps=steps, decay=decay_mask(trains), multiplier=rate_multipliers(config, trains)
    )
    sharding = state_sharding(trains, optimizer, mesh, specs=train_specs)
    loss = make_loss(LossConfig(), TASK, None)
    step = make_train_step(fns.apply, loss, optimizer, sharding=sharding)
    state = init_state(trains, optimizer, key=jax.random.key(1), sharding=sharding)
    frozen = place(frozen, frozen_specs, mesh)
    hypers = Hypers(1e-3, 0.01, 0.1, DropoutRates(0.1, 0.1, 0.1, 0.1))
    losses = []
    for _ in range(steps):
        state, metrics = step(state, frozen, put_batch(make_batch(16), mesh), hypers)
        losses.append(float(metrics["loss_sum"] / metrics["weight_sum"]))
    for part in (state.params, state.opt_state[1].mu):
        for path, leaf in flatten(part).items():
            assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, flatten(specs)[path]), leaf.ndim), path
    return Run(gather(state.params, mesh), gather(state.opt_state[1].mu, mesh), losses)


@functools.cache
def alone(model: ModelConfig) -> Run:
    return run(build_mesh(jax.devices()[:1]), model=model)


def check_same(actual: Run, expected: Run) -> None:
    """Losses within 1e-5 relative; parameters within 2e-6 and gradients within 1e-5 of their largest, absolute."""
    np.testing.assert_allclose(actual.losses, expected.losses, rtol=1e-5)
    for path, leaf in flatten(expected.params).items():
        np.testing.assert_allclose(flatten(actual.params)[path], leaf, rtol=0, atol=2e-6, err_msg=path)
    for path, leaf in flatten(expected.moments).items():
        atol = 1e-5 * float(np.abs(leaf).max()) + 1e-8
        np.testing.assert_allclose(flatten(actual.moments)[path], leaf, rtol=0, atol=atol, err_msg=path)


SIZES = ((2, 2, 2), (8, 1, 1), (1, 8, 1), (1, 1, 8))
MESHES = [pytest.param(sizes, marks=[] if sizes == (2, 2, 2) else [pytest.mark.slow]) for sizes in SIZES]
"""The default run splits over all axes at once. One axis of eight is left to the slow tests, but for cross-encoders."""


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_cross_encoders_step_is_the_same_on_every_mesh(sizes: tuple[int, int, int]) -> None:
    actual = run(build_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]), model=MODELS[0])
    check_same(actual, alone(MODELS[0]))


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_a_bi_encoders_step_is_the_same_on_every_mesh(sizes: tuple[int, int, int]) -> None:
    actual = run(build_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]), model=MODELS[2])
    check_same(actual, alone(MODELS[2]))


@functools.cache
def minilm_alone() -> Run:
    return run(build_mesh(jax.devices()[:1]), spec=MINILM, model=MODELS[0], freeze="none", steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", FACTORISATIONS, ids=str)
def test_the_step_is_the_same_in_every_factorisation_at_minilms_shapes(sizes: tuple[int, int, int]) -> None:
    mesh = build_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2])
    check_same(run(mesh, spec=MINILM, model=MODELS[0], freeze="none", steps=2), minilm_alone())


def test_what_the_mesh_does_not_divide_is_whole_and_listed() -> None:
    fns = build_pair_model(ModelConfig(), MINILM, 3)
    params = jax.eval_shape(fns.init, jax.random.key(0))
    heads = heads_by_path(fns.config, MINILM)
    placed = place_params(params, build_mesh(data=1, tensor=8), heads=heads)
    specs = flatten(placed.specs)
    assert specs["encoder/embeddings/word/embedding"] == PartitionSpec()
    assert specs["encoder/layer_0/attention/query/kernel"] == PartitionSpec()
    assert specs["encoder/layer_0/mlp_in/kernel"] == PartitionSpec(None, "tensor")
    assert specs["encoder/layer_0/mlp_out/kernel"] == PartitionSpec("tensor", None)
    assert placed.notes == (
        "tensor=8 does not divide dimension 0 of 30522: replicated over tensor: encoder/embeddings/word/embedding",
        "tensor=8 does not divide heads of 12: replicated over tensor: encoder/layer_0/attention/key/bias, "
        "encoder/layer_0/attention/key/kernel and 12 more",
    )
    both = place_params(params, build_mesh(fsdp=2, tensor=2), heads=heads)
    assert flatten(both.specs)["encoder/layer_0/attention/out/kernel"] == PartitionSpec("tensor", "fsdp")
    assert flatten(both.specs)["encoder/embeddings/word/embedding"] == PartitionSpec("tensor", "fsdp")
    assert both.notes == ()
