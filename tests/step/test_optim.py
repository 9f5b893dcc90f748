"""AdamW by path tables: exact label trees, oracles for the update, and schedules equal to Hugging Face's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pairjax.base.config import OptimConfig
from pairjax.base.errors import UserError
from pairjax.base.params import flatten, map_paths, split
from pairjax.base.types import DropoutRates, Hypers, Params
from pairjax.step.optim import build_optimizer, decay_mask, make_schedule, rate_multipliers, trainable_paths

NO_DROPOUT = DropoutRates(0.0, 0.0, 0.0, 0.0)


def hypers(learning_rate: float = 1e-2, weight_decay: float = 0.1) -> Hypers:
    return Hypers(learning_rate, weight_decay, 0.0, NO_DROPOUT)


def dense() -> Params:
    return {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}


def norm() -> Params:
    return {"scale": np.ones(2, np.float32), "bias": np.ones(2, np.float32)}


def table() -> Params:
    return {"embedding": np.ones((3, 2), np.float32)}


def layer() -> Params:
    return {
        "attention": {name: dense() for name in ("query", "key", "value", "out")},
        "attention_norm": norm(),
        "mlp_in": dense(),
        "mlp_out": dense(),
        "mlp_norm": norm(),
    }


def tree(layers: int = 3) -> Params:
    """The canonical tree with every stage in it."""
    return {
        "encoder": {
            "embeddings": {"word": table(), "position": table(), "segment": table(), "norm": norm()},
            "projection": dense(),
            **{f"layer_{i}": layer() for i in range(layers)},
        },
        "pooler": dense(),
        "interact": {"layer_0": layer()},
        "combine": {"position": table(), "layer_0": layer(), "gate": dense()},
        "head": {"hidden_0": dense(), "logits": dense()},
    }


LAYER_DECAYS = {f"attention/{name}/kernel" for name in ("query", "key", "value", "out")} | {
    "mlp_in/kernel",
    "mlp_out/kernel",
}


def chosen(labels: Params) -> set[str]:
    return {path for path, label in flatten(labels).items() if label}


def test_kernels_and_embeddings_decay_and_nothing_else() -> None:
    expected = {f"encoder/embeddings/{name}/embedding" for name in ("word", "position", "segment")}
    for stack in ("encoder/layer_0", "encoder/layer_1", "encoder/layer_2", "interact/layer_0", "combine/layer_0"):
        expected |= {f"{stack}/{path}" for path in LAYER_DECAYS}
    expected |= {"encoder/projection/kernel", "pooler/kernel", "combine/position/embedding", "combine/gate/kernel"}
    expected |= {"head/hidden_0/kernel", "head/logits/kernel"}
    mask = decay_mask(tree())
    assert chosen(mask) == expected
    assert jax.tree.structure(mask) == jax.tree.structure(tree())


def test_a_users_own_combiner_may_name_its_parameters_as_it_likes() -> None:
    mask = decay_mask({"combine": {"temperature": np.ones(()), "LayerNorm_0": norm(), "Dense_0": dense()}})
    assert mask == {
        "combine": {
            "temperature": True,
            "LayerNorm_0": {"scale": False, "bias": False},
            "Dense_0": {"kernel": True, "bias": False},
        }
    }


def test_multipliers_fall_from_the_top_layer_down_and_the_head_has_its_own() -> None:
    config = OptimConfig(layer_decay=0.5, head_multiplier=7.0)
    actual = flatten(rate_multipliers(config, tree()))
    prefixes = {
        "encoder/embeddings/": 0.125,
        "encoder/projection/": 0.125,
        "encoder/layer_0/": 0.25,
        "encoder/layer_1/": 0.5,
        "encoder/layer_2/": 1.0,
        "pooler/": 7.0,
        "interact/": 7.0,
        "combine/": 7.0,
        "head/": 7.0,
    }
    assert actual.keys() == flatten(tree()).keys()
    for path, share in actual.items():
        assert [share] == [value for prefix, value in prefixes.items() if path.startswith(prefix)], path


def test_layer_indices_of_two_digits_are_told_apart() -> None:
    actual = flatten(rate_multipliers(OptimConfig(layer_decay=0.5), tree(layers=12)))
    assert actual["encoder/layer_1/mlp_in/kernel"] == 0.5**10
    assert actual["encoder/layer_11/mlp_in/kernel"] == 1.0
    frozen = trainable_paths(OptimConfig(freeze="layers", freeze_layers=2), tree(layers=12), pooler_kept=False)
    assert not frozen["encoder/layer_1/mlp_in/kernel"]
    assert frozen["encoder/layer_10/mlp_in/kernel"]


@pytest.mark.parametrize(
    ("config", "pooler_kept", "frozen"),
    [
        (OptimConfig(), True, ()),
        (OptimConfig(freeze="embeddings"), True, ("encoder/embeddings/",)),
        (
            OptimConfig(freeze="layers", freeze_layers=2),
            True,
            ("encoder/embeddings/", "encoder/projection/", "encoder/layer_0/", "encoder/layer_1/"),
        ),
        (OptimConfig(freeze="encoder"), True, ("encoder/", "pooler/")),
        (OptimConfig(freeze="encoder"), False, ("encoder/",)),
        (OptimConfig(freeze="all_but_head"), True, ("encoder/", "pooler/", "interact/", "combine/")),
    ],
)
def test_freezing_covers_exactly_what_it_names(config: OptimConfig, pooler_kept: bool, frozen: tuple[str, ...]) -> None:
    actual = trainable_paths(config, tree(), pooler_kept=pooler_kept)
    assert actual == {path: not path.startswith(frozen) for path in flatten(tree())}


def test_freezing_more_layers_than_there_are_is_refused() -> None:
    config = OptimConfig(freeze="layers", freeze_layers=4)
    with pytest.raises(UserError, match=r"--optim.freeze-layers .* got 4; expected at most 3"):
        trainable_paths(config, tree(), pooler_kept=False)
    assert not trainable_paths(OptimConfig(freeze="layers", freeze_layers=3), tree(), pooler_kept=False)[
        "encoder/layer_2/mlp_in/kernel"
    ]


@pytest.mark.parametrize("freeze", ["none", "embeddings", "encoder", "all_but_head"])
@pytest.mark.parametrize("path", ["adapter/kernel", "heads/kernel"])
def test_a_path_outside_the_tables_is_refused(freeze: str, path: str) -> None:
    top, leaf = path.split("/")
    odd = {**tree(), top: {leaf: np.ones(2)}}
    with pytest.raises(UserError, match=f"no pattern covers the parameter {path}"):
        rate_multipliers(OptimConfig(), odd)
    with pytest.raises(UserError, match=f"no pattern covers the parameter {path}"):
        trainable_paths(OptimConfig(freeze=freeze), odd, pooler_kept=True)


def test_a_parameter_of_an_unknown_kind_is_refused_by_decay() -> None:
    with pytest.raises(UserError, match="no pattern covers the parameter head/logits/lora_a"):
        decay_mask({"head": {"logits": {**dense(), "lora_a": np.ones(2)}}})


def hugging_face(kind: str, step: int, warm: int, total: int) -> float:
    """`transformers.optimization`'s lambdas, copied out as formulas."""
    if step < warm:
        return step / max(1, warm)
    progress = (step - warm) / max(1, total - warm)
    return {"linear": 1.0 - progress, "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)), "constant": 1.0}[kind]


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("warmup", "total"), [(0.1, 100), (0.1, 345), (0.0, 7), (0.06, 30), (0.5, 2)])
def test_schedules_equal_hugging_faces(kind: str, warmup: float, total: int) -> None:
    schedule = make_schedule(OptimConfig(schedule=kind, warmup=warmup), total_steps=total)
    warm = math.ceil(warmup * total)
    expected = [hugging_face(kind, step, warm, total) for step in range(total)]
    np.testing.assert_allclose([float(schedule(step)) for step in range(total)], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_run_always_reaches_the_peak(total: int) -> None:
    schedule = make_schedule(OptimConfig(warmup=0.99), total_steps=total)
    assert max(float(schedule(step)) for step in range(total)) == 1.0


def random_like(params: Params, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    return map_paths(lambda _, leaf: rng.normal(size=np.shape(leaf)).astype(np.float32), params)


def run(config: OptimConfig, params: Params, steps: int, numbers: Hypers) -> Params:
    optimizer = build_optimizer(
        config, total_steps=steps, decay=decay_mask(params), multiplier=rate_multipliers(config, params)
    )
    state = optimizer.init(params)
    for step in range(steps):
        updates, state = optimizer(numbers).update(random_like(params, 100 + step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def torch_adamw(config: OptimConfig, params: Params, steps: int, numbers: Hypers) -> dict[str, np.ndarray]:
    """`torch.optim.AdamW` with one group a path and `clip_grad_norm_`, written out in float64."""
    flat = {path: leaf.astype(np.float64) for path, leaf in flatten(params).items()}
    first = {path: np.zeros_like(leaf) for path, leaf in flat.items()}
    second = {path: np.zeros_like(leaf) for path, leaf in flat.items()}
    share, decays = flatten(rate_multipliers(config, params)), flatten(decay_mask(params))
    warm = math.ceil(config.warmup * steps)
    for step in range(steps):
        grads = {path: g.astype(np.float64) for path, g in flatten(random_like(params, 100 + step)).items()}
        size = math.sqrt(sum(float(np.sum(g * g)) for g in grads.values()))
        clip = min(1.0, config.clip_norm / size) if config.clip_norm else 1.0
        for path, g in grads.items():
            rate = numbers.learning_rate * share[path] * hugging_face(config.schedule, step, warm, steps)
            flat[path] *= 1 - rate * (numbers.weight_decay if decays[path] else 0.0)
            first[path] = config.b1 * first[path] + (1 - config.b1) * clip * g
            second[path] = config.b2 * second[path] + (1 - config.b2) * (clip * g) ** 2
            bias1, bias2 = 1 - config.b1 ** (step + 1), 1 - config.b2 ** (step + 1)
            flat[path] -= rate / bias1 * first[path] / (np.sqrt(second[path]) / math.sqrt(bias2) + config.eps)
    return flat


@pytest.mark.parametrize(
    "config",
    [
        OptimConfig(clip_norm=1.0, layer_decay=0.8, head_multiplier=3.0),
        OptimConfig(clip_norm=0.0, schedule="cosine", b1=0.8, b2=0.95, eps=1e-3),
    ],
)
def test_the_update_equals_torchs_adamw(config: OptimConfig) -> None:
    params = random_like(tree(), 0)
    actual = flatten(run(config, params, 8, hypers()))
    for path, expected in torch_adamw(config, params, 8, hypers()).items():
        np.testing.assert_allclose(actual[path], expected, rtol=1e-5, atol=1e-6, err_msg=path)


def test_the_update_equals_optaxs_adamw() -> None:
    params = random_like(tree(), 0)
    config = OptimConfig(schedule="constant", warmup=0.0, clip_norm=0.0)
    oracle = optax.adamw(1e-2, 0.9, 0.999, 1e-8, weight_decay=0.1, mask=decay_mask(params))
    expected, state = params, oracle.init(params)
    for step in range(5):
        updates, state = oracle.update(random_like(params, 100 + step), state, expected)
        expected = optax.apply_updates(expected, updates)
    actual = flatten(run(config, params, 5, hypers()))
    for path, leaf in flatten(expected).items():
        np.testing.assert_allclose(actual[path], leaf, rtol=1e-6, atol=1e-7, err_msg=path)


def test_decay_with_zero_gradients_shrinks_weights_and_spares_biases() -> None:
    params = tree()
    config = OptimConfig(schedule="constant", warmup=0.0, head_multiplier=2.0)
    optimizer = build_optimizer(
        config, total_steps=1, decay=decay_mask(params), multiplier=rate_multipliers(config, params)
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer(hypers(learning_rate=0.5, weight_decay=0.1)).update(zeros, optimizer.init(params), params)
    actual = flatten(optax.apply_updates(params, updates))
    for path, decays in flatten(decay_mask(params)).items():
        expected = 1.0 - 0.05 * (1.0 if path.startswith("encoder/") else 2.0) if decays else 1.0
        np.testing.assert_allclose(actual[path], expected, rtol=1e-6, err_msg=path)


def test_moments_cover_the_trainable_parameters_alone() -> None:
    trains, _ = split(tree(), trainable_paths(OptimConfig(freeze="all_but_head"), tree(), pooler_kept=True))
    optimizer = build_optimizer(
        OptimConfig(), total_steps=1, decay=decay_mask(trains), multiplier=rate_multipliers(OptimConfig(), trains)
    )
    assert len(flatten(trains)) == 4
    arrays = [leaf for leaf in jax.tree.leaves(optimizer.init(trains)) if leaf.ndim]
    assert len(arrays) == 2 * 4


def test_the_state_does_not_depend_on_the_hypers() -> None:
    params = tree()
    optimizer = build_optimizer(
        OptimConfig(), total_steps=9, decay=decay_mask(params), multiplier=rate_multipliers(OptimConfig(), params)
    )
    one, other = optimizer(hypers(1e-3, 0.0)).init(params), optimizer(hypers(7.0, 0.9)).init(params)
    assert jax.tree.structure(one) == jax.tree.structure(other) == jax.tree.structure(optimizer.init(params))
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)
