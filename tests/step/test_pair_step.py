"""The step over the real pair model: its parameters are covered by every table, and a mesh changes nothing."""

import itertools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from pairjax.base.config import CombineConfig, HeadConfig, InteractConfig, LossConfig, ModelConfig, OptimConfig
from pairjax.base.losses import make_loss
from pairjax.base.params import flatten, split
from pairjax.base.types import Batch, EncoderSpec, Hypers, Params, Rates, TaskSpec
from pairjax.models.build import build_pair_model
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers, trainable_paths
from pairjax.step.sharding import build_mesh, param_specs, put_batch, replicate
from pairjax.step.state import init_state, state_sharding
from pairjax.step.step import make_train_step

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
    for config, kept in itertools.product(OPTIMS, (False, True)):
        chosen = trainable_paths(config, params, pooler_kept=kept)
        assert chosen.keys() == paths
        trains, _ = split(params, chosen)
        assert flatten(rate_multipliers(config, trains)) == {
            path: share for path, share in flatten(rate_multipliers(config, params)).items() if chosen[path]
        }
    for path, decays in flatten(decay_mask(params)).items():
        assert decays == (flatten(params)[path].ndim > 1), path


def run(mesh: Mesh) -> tuple[Params, list[float]]:
    """Three steps of 16 rows with dropout; parameters and mean losses."""
    # Adam's eps above float32's noise, so that entries whose gradient is all but zero compare.
    config = OptimConfig(freeze="embeddings", schedule="constant", warmup=0.0, eps=1e-3, layer_decay=0.9)
    fns = build_pair_model(ModelConfig(kind="bi", pooling="pooler"), SPEC, 3)
    params = fns.init(jax.random.key(0))
    trains, frozen = split(params, trainable_paths(config, params, pooler_kept=False))
    optimizer = build_optimizer(
        config, total_steps=3, decay=decay_mask(trains), multiplier=rate_multipliers(config, trains)
    )
    sharding = state_sharding(trains, optimizer, mesh)
    loss = make_loss(LossConfig(), TASK, None)
    step = make_train_step(fns.apply, loss, optimizer, sharding=sharding)
    state = init_state(trains, optimizer, key=jax.random.key(1), sharding=sharding)
    hypers = Hypers(1e-3, 0.01, 0.1, Rates(0.1, 0.1, 0.1, 0.1))
    losses = []
    for _ in range(3):
        state, metrics = step(state, replicate(frozen, mesh), put_batch(make_batch(16), mesh), hypers)
        losses.append(float(metrics["loss_sum"] / metrics["weight_sum"]))
    return state.params, losses


def test_the_pair_models_step_is_the_same_on_eight_devices() -> None:
    """Dropout included; losses within 1e-6 relative, parameters within 1e-6 absolute."""
    expected, losses = run(build_mesh(jax.devices()[:1]))
    found, sharded = run(build_mesh(fsdp=2))
    np.testing.assert_allclose(sharded, losses, rtol=1e-6)
    for path, leaf in flatten(expected).items():
        np.testing.assert_allclose(flatten(found)[path], leaf, rtol=0, atol=1e-6, err_msg=path)
