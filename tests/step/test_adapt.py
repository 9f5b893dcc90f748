"""Layers that start anew and low-rank updates: which leaves they make, what the model is given, and every table."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from pairjax.base.config import LossConfig, OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import ModelConfig
from pairjax.base.optim_config import AverageConfig, LoraConfig
from pairjax.base.params import flatten
from pairjax.base.types import DropoutRates, EncoderSpec, Hypers, Params
from pairjax.models.build import build_pair_model, heads_by_path
from pairjax.step.adapt import adaptation_notes, adapted_kernels, add_lora, merge_lora, reinit_top, with_lora
from pairjax.step.losses import make_loss
from pairjax.step.optim import anchors, decay_mask, rate_multipliers, trainable_paths, turns
from pairjax.step.programs import build_update
from pairjax.step.sharding import build_mesh, gather, place_params, put_batch
from tests.step.test_optim import random_like, tree
from tests.step.test_pair_step import SPEC, TASK, make_batch

ALL = LoraConfig(rank=2, targets=(r"encoder/layer_\d+/.*", "encoder/projection"))
KEY = jax.random.key(3)
DEEP: EncoderSpec = dataclasses.replace(SPEC, num_layers=3)


def test_only_the_top_layers_start_anew_and_each_leaf_in_its_way() -> None:
    fns = build_pair_model(ModelConfig(), DEEP, 3)
    params = random_like(fns.init(jax.random.key(0)), 0)
    actual, start = flatten(reinit_top(OptimConfig(reinit_layers=2), params, KEY)), flatten(params)
    assert list(actual) == list(start)
    kernels = []
    for path, leaf in actual.items():
        if not path.startswith(("encoder/layer_1/", "encoder/layer_2/")):
            assert leaf is start[path], path
        elif path.endswith("/kernel"):
            kernels.append(leaf.ravel())
        else:
            np.testing.assert_array_equal(leaf, 1.0 if path.endswith("/scale") else 0.0)
        assert leaf.shape == start[path].shape
    drawn = np.concatenate(kernels)
    assert drawn.std() == pytest.approx(0.02, rel=0.05)
    assert len(np.unique(drawn)) == pytest.approx(len(drawn), rel=0.01)


def test_starting_anew_is_seeded() -> None:
    config = OptimConfig(reinit_layers=1)
    params = random_like(tree(), 0)
    one, same, other = (flatten(reinit_top(config, params, jax.random.key(seed))) for seed in (0, 0, 1))
    for path in one:
        np.testing.assert_array_equal(one[path], same[path])
        changes = path.startswith("encoder/layer_2/") and path.endswith("/kernel")
        assert np.array_equal(one[path], other[path]) != changes, path
    with pytest.raises(UserError, match=r"--optim.reinit-layers .* got 4; expected at most 3"):
        reinit_top(OptimConfig(reinit_layers=4), params, KEY)


def test_targets_choose_kernels_by_path() -> None:
    config = LoraConfig(rank=1)
    assert adapted_kernels(config, tree()) == [
        f"encoder/layer_{i}/attention/{name}" for i in range(3) for name in ("query", "value")
    ]
    some = LoraConfig(rank=1, targets=(r"encoder/layer_[12]/mlp_in", "encoder/projection"))
    assert adapted_kernels(some, tree()) == ["encoder/layer_1/mlp_in", "encoder/layer_2/mlp_in", "encoder/projection"]
    assert adapted_kernels(LoraConfig(), tree()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1, "targets": ("head/logits",)}, "matches no kernel of the encoder; got head/logits"),
        ({"rank": 1, "targets": ("encoder/layer_(",)}, "not a regular expression"),
        ({"rank": 3}, "--optim.lora.rank is more than a kernel has; got 3; expected at most 2"),
    ],
)
def test_targets_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        add_lora(LoraConfig(**options), tree(), KEY)


def test_a_and_b_have_the_kernels_sides_and_the_model_begins_as_it_was() -> None:
    fns = build_pair_model(ModelConfig(), SPEC, 3)
    params = fns.init(jax.random.key(0))
    adapted = add_lora(ALL, params, KEY)
    flat, start = flatten(adapted), flatten(params)
    kernels = adapted_kernels(ALL, params)
    assert len(kernels) == 7
    assert flat.keys() - start.keys() == {f"{path}/lora_{side}" for path in kernels for side in "ab"}
    for path in kernels:
        inputs, outputs = start[f"{path}/kernel"].shape
        a, b = flat[f"{path}/lora_a"], flat[f"{path}/lora_b"]
        assert (a.shape, b.shape) == ((inputs, 2), (2, outputs))
        assert 0.5 / np.sqrt(inputs) < np.abs(a).max() <= 1 / np.sqrt(inputs)
        assert not b.any()
    batch = make_batch(4)
    np.testing.assert_array_equal(with_lora(fns.apply, ALL)(adapted, batch), fns.apply(params, batch))
    assert with_lora(fns.apply, LoraConfig()) == fns.apply


def test_merging_adds_the_scaled_product_and_leaves_plain_weights() -> None:
    config = LoraConfig(rank=2, alpha=6.0, targets=ALL.targets)
    params = random_like(add_lora(config, tree(), KEY), 0)
    flat, merged = flatten(params), flatten(merge_lora(config, params))
    assert list(merged) == list(flatten(tree()))
    adapted = adapted_kernels(config, tree())
    for path, leaf in merged.items():
        stem = path.removesuffix("/kernel")
        update = 3.0 * flat[f"{stem}/lora_a"] @ flat[f"{stem}/lora_b"] if stem in adapted else 0.0
        np.testing.assert_allclose(leaf, flat[path] + update, rtol=1e-6, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("pooler_kept", [False, True])
def test_only_the_updates_and_what_stands_above_train(pooler_kept: bool) -> None:
    config = OptimConfig(lora=ALL, layer_decay=0.5, gradual=0.5)
    params = add_lora(ALL, tree(), KEY)
    chosen = trainable_paths(config, params, pooler_kept=pooler_kept)
    for path, trains in chosen.items():
        above = path.startswith(("interact/", "combine/", "head/", *(() if pooler_kept else ("pooler/",))))
        assert trains == (above or path.endswith(("/lora_a", "/lora_b"))), path
    decays, shares = flatten(decay_mask(params)), flatten(rate_multipliers(config, params))
    turn = flatten(turns(config, params, total_steps=40) or {})
    assert decays["encoder/layer_0/mlp_in/lora_a"]
    assert decays["encoder/projection/lora_b"]
    assert shares["encoder/layer_0/mlp_in/lora_a"] == 0.25
    assert turn["encoder/layer_2/mlp_in/lora_b"] == 5
    assert anchors(config, params, pooler_kept=pooler_kept) is None


def run(sizes: tuple[int, int, int], *, lora: bool) -> tuple[Params, list[str]]:
    """Plain weights after three updates with dropout, averaged, and where the adapted kernels' updates lay."""
    optim = OptimConfig(
        lora=ALL if lora else LoraConfig(),
        average=AverageConfig("ema", decay=0.5),
        gradual=0.4,
        decay_to="zero" if lora else "initial",
        eps=1e-3,
        schedule="constant",
        warmup=0.0,
    )
    fns = build_pair_model(ModelConfig(), SPEC, 3)
    mesh = build_mesh(jax.devices()[: int(np.prod(sizes))], data=sizes[0], fsdp=sizes[1], tensor=sizes[2])
    params = add_lora(optim.lora, fns.init(jax.random.key(0)), KEY)
    placement = place_params(params, mesh, heads=heads_by_path(fns.config, SPEC))
    update = build_update(
        params,
        trainable_paths(optim, params, pooler_kept=False),
        apply=with_lora(fns.apply, optim.lora),
        loss=make_loss(LossConfig(), TASK, None),
        optim=optim,
        total_steps=3,
        mesh=mesh,
        specs=placement.specs,
        anchored=anchors(optim, params, pooler_kept=False),
    )
    start = update.start(
        Hypers(1e-2, 0.01, 0.1, DropoutRates(0.1, 0.1, 0.1, 0.1)),
        seed=1,
        export=lambda tree: merge_lora(optim.lora, tree),
    )
    state = start.state
    for _ in range(3):
        state, _ = start.step(state, make_batch(16))
    for part in (state.params, state.average, state.opt_state.inner[1].nu):
        for path, leaf in flatten(part).items():
            assert leaf.sharding.spec == flatten(placement.specs)[path], path
    shown = [str(leaf.sharding.spec) for path, leaf in flatten(state.average).items() if "lora_" in path]
    assert put_batch(make_batch(16), mesh) is not None
    return gather(start.params(state), mesh), shown


@pytest.mark.mesh
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "anchored"])
def test_the_menu_is_the_same_on_a_mesh_and_its_leaves_are_spread(lora: bool) -> None:
    """LoRA, average, turns and anchors over data x fsdp x tensor = 2 x 2 x 2."""
    alone, _ = run((1, 1, 1), lora=lora)
    spread, shown = run((2, 2, 2), lora=lora)
    assert set(flatten(alone)) == set(flatten(build_pair_model(ModelConfig(), SPEC, 3).init(jax.random.key(0))))
    for path, leaf in flatten(alone).items():
        np.testing.assert_allclose(flatten(spread)[path], leaf, rtol=0, atol=5e-6, err_msg=path)
    if lora:
        assert any("fsdp" in spec for spec in shown)
        assert any("tensor" in spec for spec in shown)


def test_what_is_adapted_is_told() -> None:
    config = OptimConfig(lora=LoraConfig(rank=2))
    note = "LoRA: rank 2 beside 6 kernels, 48 parameters"
    assert adaptation_notes(config, add_lora(config.lora, tree(), KEY)) == (note,)
    assert adaptation_notes(OptimConfig(reinit_layers=2), tree()) == (
        "the top 2 encoder layers start from new random weights",
    )
    assert adaptation_notes(OptimConfig(), tree()) == ()
