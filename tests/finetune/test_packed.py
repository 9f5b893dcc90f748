"""A packed run computes what a padded one does: logits, loss, gradient, whatever shares a row."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.model_config import CombineConfig, ModelConfig
from pairjax.base.params import flatten
from pairjax.base.types import Batch, Disentangled, DropoutRates, Hypers, Params, Rotary, TaskSpec
from pairjax.data.layout import choose_layout, plan_epoch
from pairjax.data.pipeline import make_batch
from pairjax.models.build import PairModelFns, build_pair_model
from pairjax.step.losses import make_loss
from pairjax.step.optim import build_optimizer, decay_mask, rate_multipliers
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from tests.data.test_pipeline import many
from tests.models.rows import tiny_spec
from tests.params import map_paths

CROSS, BI = ModelConfig(), ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|")))
DISTANCES: dict[str, dict[str, object]] = {
    "modernbert": {"rotary": Rotary(160_000.0, 10_000.0, 3, (False, True)), "absolute_positions": False},
    "deberta-v2": {"disentangled": Disentangled(8, 8, 64, ("c2p", "p2c"), True, True), "absolute_positions": False},
    "mpnet": {"relative_buckets": 32, "position_offset": 2},
}
LOSS = make_loss(LossConfig(), TaskSpec("classification", ("a", "b", "c")), np.array([1, 5, 2]))


def draw(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    values = 0.3 * np.random.default_rng(len(path)).standard_normal(leaf.shape)
    return jnp.asarray(1 + 0.1 * values if path.endswith("norm/scale") else values, jnp.float32)


def model_and_batches(config: ModelConfig, **changes: object) -> tuple[PairModelFns, Params, Batch, Batch]:
    """A step's pairs in packed rows, and the same pairs one a row, empty rows among them."""
    encoded, label = many(60, config.kind)
    layout = choose_layout(DataConfig(layout="packed"), encoded.lengths)
    plan = plan_epoch(seed=1, epoch=0, lengths=encoded.lengths, layout=layout, batch_size=24, multiple=4)
    fullest = plan.index[(plan.index >= 0).sum(axis=(1, 2)).argmax()]
    packed = make_batch(encoded, label, fullest, layout.row)
    pairs = fullest[fullest >= 0]
    assert len(pairs) == 24 > len(fullest)
    alone = np.concatenate([pairs, np.full(4, -1, np.int32)]).astype(np.int32)[:, None]
    padded = make_batch(encoded, label, alone, int(encoded.lengths.max()))
    fns = build_pair_model(config, tiny_spec(**changes), 3)
    return fns, map_paths(draw, jax.eval_shape(fns.init, jax.random.key(0))), packed, padded


@pytest.mark.parametrize(("kind", "family"), [("cross", "modernbert"), ("bi", "deberta-v2"), ("cross", "mpnet")])
def test_distances_are_taken_within_the_pair(kind: str, family: str) -> None:
    """Local windows, rotations and relative positions of a packed pair are those of the pair alone."""
    changes = {"family": family, "type_vocab_size": 0, "has_pooler": False, **DISTANCES[family]}
    fns, params, packed, padded = model_and_batches(CROSS if kind == "cross" else BI, **changes)
    assert_equal_logits(fns, params, packed, padded)


def assert_equal_logits(fns: PairModelFns, params: Params, packed: Batch, padded: Batch) -> None:
    by_id = {}
    for batch in (packed, padded):
        logits = np.asarray(jax.jit(fns.apply)(params, batch))
        real = batch.example_id >= 0
        order = np.argsort(batch.example_id[real])
        by_id[id(batch)] = logits[real][order]
    np.testing.assert_allclose(by_id[id(packed)], by_id[id(padded)], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [CROSS, BI], ids=["cross", "bi"])
def test_packed_logits_loss_and_gradients_are_those_of_padded_rows(config: ModelConfig) -> None:
    fns, params, packed, padded = model_and_batches(config)
    assert_equal_logits(fns, params, packed, padded)

    def mean(params: Params, batch: Batch) -> jax.Array:
        total, weight = LOSS(fns.apply(params, batch), batch, smoothing=0.1)
        return total / weight

    (loss, gradient), (other, wanted) = (jax.jit(jax.value_and_grad(mean))(params, b) for b in (packed, padded))
    np.testing.assert_allclose(loss, other, rtol=1e-6)
    flat = flatten(wanted)
    scale = max(float(np.abs(leaf).max()) for leaf in flat.values())
    for path, leaf in flatten(gradient).items():
        np.testing.assert_allclose(leaf, flat[path], atol=1e-5 * max(scale, 1.0), rtol=1e-5, err_msg=path)


def test_micro_batches_of_packed_rows_weigh_each_pair_alike() -> None:
    """Parts hold different numbers of pairs; the sums are over pairs all the same."""
    fns, params, packed, padded = model_and_batches(CROSS)
    optimizer = build_optimizer(
        OptimConfig(), total_steps=10, decay=decay_mask(params), multiplier=rate_multipliers(OptimConfig(), params)
    )
    hypers = Hypers(1e-3, 0.0, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))
    apply: Callable[..., jax.Array] = partial(fns.apply)
    actual = []
    for batch, parts in ((packed, 2), (padded, 1)):
        step = make_train_step(apply, LOSS, optimizer, accumulate=parts)
        _, metrics = step(init_state(params, optimizer, key=jax.random.key(0)), {}, batch, hypers)
        actual.append({name: float(metrics[name]) for name in ("loss_sum", "weight_sum", "grad_norm")})
    counts = packed.weight.sum(axis=1)
    assert counts[0::2].sum() != counts[1::2].sum()
    assert actual[0] == pytest.approx(actual[1], rel=1e-5)


def test_no_step_compiles_once_each_shape_was_seen() -> None:
    """Two epochs of each layout: as many compilations as the layout lists shapes."""
    encoded, label = many(150)
    fns = build_pair_model(CROSS, tiny_spec(num_layers=1), 3)
    params = map_paths(draw, jax.eval_shape(fns.init, jax.random.key(0)))
    for kind in ("padded", "bucketed", "packed"):
        layout = choose_layout(DataConfig(layout=kind, buckets=3), encoded.lengths)
        traced = []

        def apply(params: Params, batch: Batch, *, traced: list = traced, **rest: object) -> jax.Array:
            traced.append(batch.input_ids.shape)
            return fns.apply(params, batch, **rest)

        optimizer = build_optimizer(
            OptimConfig(), total_steps=99, decay=decay_mask(params), multiplier=rate_multipliers(OptimConfig(), params)
        )
        step = make_train_step(apply, LOSS, optimizer)
        state = init_state(params, optimizer, key=jax.random.key(0))
        for epoch in range(3):
            plan = plan_epoch(seed=0, epoch=epoch, lengths=encoded.lengths, layout=layout, batch_size=16)
            for index, length in zip(plan.index, plan.length, strict=True):
                # New rates are data, not a new program.
                hypers = Hypers(1e-4 * (1 + epoch), 0.01, 0.0, DropoutRates(0.1 * epoch, 0.1, 0.1, 0.1))
                state, _ = step(state, {}, make_batch(encoded, label, index, int(length)), hypers)
        shapes = 1 if kind != "bucketed" else len(layout.ladder)
        assert step._cache_size() == shapes, kind
        assert len(set(traced)) == shapes, kind
