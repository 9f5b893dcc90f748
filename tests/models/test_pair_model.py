"""The complete pair model: shapes, gradients, independence of the layout, dropout, defaults, overfitting."""

from dataclasses import replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from pairjax.base.config import LossConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import CombineConfig, HeadConfig, InteractConfig, ModelConfig
from pairjax.base.params import flatten
from pairjax.base.types import DropoutRates, TaskSpec
from pairjax.models.build import build_pair_model, initial_params
from pairjax.step.losses import make_loss
from tests.models.rows import lay, random_pairs, tiny_spec
from tests.params import map_paths

RATES = DropoutRates(0.1, 0.1, 0.1, 0.1)
INTERACTIONS = ("none", "self", "joint", "cross")
COMBINERS = ("plain", "gate", "attention")
SHAPES = [("cross", "pair"), ("bi", "sides"), ("cross", "sides"), ("bi", "pair")]


def allowed(kind, over, interact, pooling, combine):
    """Whether the configuration accepts a combination."""
    if kind == "cross" and over == "sides" and pooling in ("cls", "pooler"):
        return False
    if over == "pair" and combine == "attention":
        return False
    if kind == "bi" and over == "pair":
        return interact in ("joint", "cross") or (interact == "self" and pooling in ("mean", "max"))
    return True


EVERY = [
    (kind, over, interact, pooling, combine)
    for (kind, over), interact, pooling, combine in product(
        SHAPES, INTERACTIONS, ("cls", "pooler", "mean", "max"), COMBINERS
    )
    if allowed(kind, over, interact, pooling, combine)
]


def configure(kind="cross", over=None, interact="none", pooling=None, combine="plain", **rest):
    rest = rest if "combiner" in rest else {"combine": CombineConfig(kind=combine, heads=2), **rest}
    return ModelConfig(
        kind=kind, pool_over=over, interact=InteractConfig(kind=interact, heads=2), pooling=pooling, **rest
    )


def build(config, outputs=3, **spec):
    return build_pair_model(config, tiny_spec(**{"num_layers": 1, **spec}), outputs)


def start(model, *, seed=0, scale=0.3):
    """Draws parameters without compiling, large enough for pairs to have clearly different logits."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = scale * rng.standard_normal(leaf.shape)
        return jnp.asarray(1 + 0.1 * values if path.endswith("norm/scale") else values, jnp.float32)

    return map_paths(draw, jax.eval_shape(model.init, jax.random.key(0)))


class Distance(nn.Module):
    """A custom combiner: |u - v| through a dense layer."""

    width: int = 5

    @nn.compact
    def __call__(self, u, v):
        return nn.tanh(nn.Dense(self.width)(jnp.abs(u - v)))


@pytest.mark.parametrize(("kind", "over"), SHAPES)
def test_every_combination_of_stages_has_the_right_shapes(kind, over):
    batch = lay(random_pairs(4), kind, [[0, 1], [2]], slots=3)
    hidden = jax.ShapeDtypeStruct((*batch.input_ids.shape, 16), jnp.float32)
    for choice in (c for c in EVERY if c[:2] == (kind, over)):
        model = build(configure(*choice))
        params = jax.eval_shape(model.init_above, jax.random.key(0))
        logits = jax.eval_shape(partial(model.head, rates=RATES), params, hidden, batch, key=jax.random.key(1))
        assert (logits.shape, logits.dtype) == ((2, 3, 3), jnp.float32), choice
        stages = {"head"}
        stages |= {"interact"} if choice[2] != "none" else set()
        stages |= {"pooler"} if choice[3] == "pooler" else set()
        stages |= {"combine"} if choice[4] != "plain" else set()
        assert set(params) == stages, choice
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    everything = jax.eval_shape(model.init, jax.random.key(0))
    assert set(everything) == {"encoder", *params}
    assert jax.eval_shape(model.apply, everything, batch).shape == (2, 3, 3)


@pytest.mark.parametrize("size", range(1, 6))
def test_the_number_of_features_sets_the_width_of_the_head(size):
    features = ("u", "v", "u-v", "|u-v|", "u*v")[:size]
    for combine in COMBINERS:
        config = replace(configure("bi"), combine=CombineConfig(features=features, kind=combine))
        params = jax.eval_shape(build(config, 2).init_above, jax.random.key(0))
        assert params["head"]["logits"]["kernel"].shape == (16 * size, 2)


@pytest.mark.parametrize(
    "config",
    [
        configure("cross", "pair", "joint", "pooler", "gate", head=HeadConfig(hidden=(8,))),
        configure("bi", "sides", "cross", "mean", "attention"),
        configure("bi", "sides", "self", "max", "gate", head=HeadConfig(hidden=(8,), activation="tanh")),
        configure("bi", "sides", "none", "pooler", "plain", combiner=Distance),
        configure("bi", "pair", "joint", "cls", "plain"),
    ],
    ids=lambda config: f"{config.kind}-{config.interact.kind}-{config.pooling}",
)
def test_gradients_flow_to_every_parameter(config):
    batch = lay(random_pairs(6), config.kind, [[0, 1], [2, 3], [4, 5]], labels=[0, 1, 2, 0, 1, 2])
    model = build(config)
    params = start(model)
    loss = make_loss(LossConfig(), TaskSpec("classification", ("a", "b", "c")), None)

    @jax.jit
    @jax.grad
    def grad(params):
        return loss(model.apply(params, batch), batch)[0]

    for path, leaf in flatten(grad(params)).items():
        assert np.isfinite(leaf).all(), path
        # A softmax does not change if a constant is added to all scores.
        if not path.endswith("key/bias"):
            assert np.abs(leaf).max() > 0, path


LAYOUT_CASES = [
    configure("cross"),
    configure("cross", "sides", "cross", "mean", "attention"),
    configure("bi"),
    configure("bi", "sides", "cross", "max", "gate"),
    configure("bi", "pair", "joint", "cls"),
    configure("bi", "sides", "self", "pooler"),
]


@pytest.mark.parametrize("config", LAYOUT_CASES, ids=lambda c: f"{c.kind}-{c.over}-{c.interact.kind}-{c.pooling}")
def test_logits_of_a_pair_depend_neither_on_layout_nor_on_neighbours_nor_on_padding(config):
    pairs = random_pairs(6)
    model = build(config)
    params = start(model)
    apply = jax.jit(model.apply)
    alone = np.asarray(apply(params, lay(pairs, config.kind))[:, 0])
    assert np.abs(np.diff(alone, axis=0)).max() > 0.1
    for packing, length, slots in [
        ([[5], [3], [1], [0], [2], [4]], 30, 1),
        ([[0, 1, 2], [3, 4], [5]], 60, 4),
        ([[4, 2], [5, 0, 1], [3]], 60, 4),
    ]:
        logits = np.asarray(apply(params, lay(pairs, config.kind, packing, length=length, slots=slots)))
        for r, row in enumerate(packing):
            np.testing.assert_allclose(logits[r, : len(row)], alone[row], atol=1e-5, rtol=0)
        assert np.isfinite(logits).all()
    changed = [pairs[0], *random_pairs(6, seed=1)[1:]]
    logits = np.asarray(apply(params, lay(changed, config.kind, [[1, 0, 2], [3, 4], [5]], length=60, slots=4)))
    np.testing.assert_allclose(logits[0, 1], alone[0], atol=1e-5, rtol=0)


def test_head_of_hidden_states_needs_no_encoder_parameters():
    model = build(configure("bi", interact="cross"))
    batch, params = lay(random_pairs(3), "bi"), start(model)
    above = {name: value for name, value in params.items() if name != "encoder"}
    hidden = jax.jit(model.encode)(params, batch)
    assert hidden.shape == (*batch.input_ids.shape, 16)
    np.testing.assert_allclose(
        jax.jit(model.head)(above, hidden, batch), jax.jit(model.apply)(params, batch), atol=1e-6
    )


def test_vectors_are_u_and_v_of_each_pair_and_u_does_not_depend_on_b():
    model = build(configure("bi"))
    params, pairs, compute = start(model), random_pairs(2), jax.jit(model.vectors)
    vectors = compute(params, lay(pairs, "bi", [[0, 1]]))
    assert vectors.shape == (1, 2, 2, 16)
    mixed = compute(params, lay([(pairs[0][0], pairs[1][1]), pairs[1]], "bi", [[0, 1]]))
    np.testing.assert_allclose(mixed[0, 0, 0], vectors[0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(mixed[0, 0, 1], vectors[0, 1, 1], atol=1e-5)
    with pytest.raises(ValueError, match="one vector per pair"):
        build(configure("cross")).vectors(params, lay(pairs, "cross"))


@pytest.mark.parametrize(("features", "same"), [(("|u-v|", "u*v"), True), (("u", "v"), False)], ids=str)
def test_swapped_sides_give_equal_logits_for_product_and_distance_and_not_for_concatenation(features, same):
    model = build(replace(configure("bi"), combine=CombineConfig(features=features)))
    params, pairs, apply = start(model), random_pairs(4), jax.jit(model.apply)
    forward = apply(params, lay(pairs, "bi", length=20))
    swapped = apply(params, lay([(b, a) for a, b in pairs], "bi", length=20))
    assert np.allclose(forward, swapped, atol=1e-5) == same


def test_a_frozen_encoder_runs_without_dropout_and_the_head_with_it():
    batch, key, half = lay(random_pairs(3), "cross"), jax.random.key(1), DropoutRates(0.5, 0.5, 0.5, 0.5)
    frozen, tuned = (
        build_pair_model(configure("cross"), tiny_spec(num_layers=1), 3, freeze_encoder=freeze)
        for freeze in (True, False)
    )
    params = start(frozen)

    @jax.jit
    def run(params):
        plain = frozen.encode(params, batch)
        return {
            "plain": plain,
            "frozen": frozen.encode(params, batch, key=key, rates=half),
            "tuned": tuned.encode(params, batch, key=key, rates=half),
            "logits": frozen.head(params, plain, batch),
            "dropped": frozen.apply(params, batch, key=key, rates=half),
            "cached": frozen.head(params, plain, batch, key=key, rates=half),
        }

    out = run(params)
    np.testing.assert_allclose(out["frozen"], out["plain"], atol=1e-6)
    assert np.abs(out["tuned"] - out["plain"]).max() > 0.1
    assert np.abs(out["dropped"] - out["logits"]).max() > 0.01
    np.testing.assert_allclose(out["cached"], out["dropped"], atol=1e-5)


def test_each_rate_acts_at_its_place_and_all_rates_share_one_compilation():
    batch = jax.tree.map(jnp.asarray, lay(random_pairs(3), "bi"))
    model = build(configure("bi", interact="joint"))
    params, key = start(model), jax.random.key(1)
    traces = 0

    @jax.jit
    def run(params, rates):
        nonlocal traces
        traces += 1
        hidden = model.encode(params, batch, key=key, rates=rates)
        return hidden, model.head(params, hidden, batch, key=key, rates=rates)

    settings = [DropoutRates(0.0, 0.0, 0.0, 0.0)]
    settings += [
        settings[0]._replace(**{name: rate})
        for name, rate in zip(DropoutRates._fields, (0.5, 0.4, 0.3, 0.2), strict=True)
    ]
    outs = [run(params, rates) for rates in settings]
    assert (traces, run._cache_size()) == (1, 1)
    np.testing.assert_allclose(outs[0][1], jax.jit(model.apply)(params, batch), atol=1e-5)
    for name, (hidden, logits) in zip(DropoutRates._fields, outs[1:], strict=True):
        assert np.abs(logits - outs[0][1]).max() > 1e-3, name
        moved = np.abs(hidden - outs[0][0]).max() > 1e-3
        assert moved == (name in ("hidden", "attention")), name

    many = jax.vmap(run, in_axes=(None, 0))(params, DropoutRates(*jnp.asarray(settings, jnp.float32).T))
    np.testing.assert_allclose(many[1], np.stack([logits for _, logits in outs]), atol=2e-5)


def test_key_and_rates_go_together():
    with pytest.raises(ValueError, match="go together"):
        build(configure()).apply({}, lay(random_pairs(2), "cross"), key=jax.random.key(1))


def test_a_score_has_one_output():
    model = build(configure("bi"), TaskSpec("regression").outputs)
    logits = jax.eval_shape(model.apply, jax.eval_shape(model.init, jax.random.key(0)), lay(random_pairs(2), "bi"))
    assert logits.shape == (2, 1, 1)


def test_bfloat16_keeps_parameters_and_logits_in_float32_and_stays_near():
    batch = lay(random_pairs(4), "bi")
    full, half = (build(replace(configure("bi", interact="joint"), dtype=dtype)) for dtype in ("float32", "bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(half.init, jax.random.key(0)))} == {
        np.dtype("float32")
    }
    params = start(half, scale=0.1)
    assert jax.eval_shape(half.encode, params, batch).dtype == jnp.bfloat16
    logits = jax.jit(half.apply)(params, batch)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, jax.jit(full.apply)(params, batch), atol=0.02)


def test_a_custom_combiner_replaces_the_built_in_one():
    model = build(configure("bi", combiner=partial(Distance, width=7)))
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert params["combine"]["Dense_0"]["kernel"].shape == (16, 7)
    assert params["head"]["logits"]["kernel"].shape == (7, 3)
    logits = jax.eval_shape(model.apply, params, lay(random_pairs(4), "bi", [[0, 1], [2, 3]]))
    assert logits.shape == (2, 2, 3)


class Sum(nn.Module):
    """A combiner that drops the slot axis by mistake."""

    def __call__(self, u, v):
        return (u + v).sum(1)


@pytest.mark.parametrize(
    ("combiner", "message"), [(Sum, "combiner Sum returned another shape; got .1, 16."), (dict, "no.* Flax module")]
)
def test_a_combiner_of_the_wrong_type_or_shape_is_refused(combiner, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(build(configure("bi", combiner=combiner)).init, jax.random.key(0))


@pytest.mark.parametrize(
    ("config", "family", "pooling"),
    [
        (ModelConfig(), "bert", "pooler"),
        (ModelConfig(), "distilbert", "cls"),
        (ModelConfig(kind="bi"), "bert", "mean"),
        (ModelConfig(kind="bi", pooler="fresh"), "bert", "pooler"),
        (ModelConfig(pooler="fresh"), "distilbert", "pooler"),
        (ModelConfig(pooling="max"), "bert", "max"),
    ],
)
def test_pooling_defaults(config, family, pooling):
    spec = tiny_spec(family=family, has_pooler=family == "bert")
    assert build_pair_model(config, spec, 2).config.pooling == pooling


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(pooler="keep"), "--model.pooler keep: electra encoders have no pooler"),
        (configure(interact="joint", pooling="cls", combine="attention"), "combine.kind attention needs two vectors"),
        (ModelConfig(interact=InteractConfig("joint", heads=3)), "--model.interact.heads does not divide.*got 3.*16"),
        (
            ModelConfig(kind="bi", combine=CombineConfig(kind="attention", heads=5)),
            "--model.combine.heads does not divide",
        ),
        (configure("bi", "pair", "self", "cls"), "would read only the first text"),
    ],
)
def test_options_that_contradict_the_encoder_or_each_other_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        build_pair_model(config, tiny_spec(family="electra", has_pooler=False), 3)


def test_init_above_gives_the_same_parameters_as_init():
    model = build(configure("bi", interact="cross", combine="gate"), num_layers=0)
    full, above = (jax.jit(init)(jax.random.key(3)) for init in (model.init, model.init_above))
    assert set(above) == set(full) - {"encoder"}
    for path, leaf in flatten(above).items():
        np.testing.assert_array_equal(leaf, flatten(full)[path], err_msg=path)


@pytest.mark.parametrize(
    ("option", "pretrained", "kept", "message"),
    [
        (None, True, True, "kept from the pretrained weights"),
        ("keep", True, True, "kept from the pretrained weights"),
        ("fresh", True, False, "new, as requested"),
        (None, False, False, "new, because the pretrained weights have none"),
    ],
)
def test_the_pooler_is_kept_or_new_and_the_encoder_is_not_copied(option, pretrained, kept, message):
    model = build(ModelConfig(pooler=option), num_layers=0)
    source = start(model)
    pooler = source["pooler"] if pretrained else None
    params, notes = initial_params(model, jax.random.key(1), encoder=source["encoder"], pooler=pooler)
    assert params["encoder"] is source["encoder"]
    assert np.array_equal(params["pooler"]["kernel"], source["pooler"]["kernel"]) == kept
    assert jax.tree.structure(params) == jax.tree.structure(source)
    assert message in notes[0]


def test_a_missing_pooler_cannot_be_kept_and_an_unused_one_is_left_out():
    model = build(ModelConfig(pooler="keep"), num_layers=0)
    source = start(model)
    with pytest.raises(UserError, match="the pretrained weights have no pooler"):
        initial_params(model, jax.random.key(1), encoder=source["encoder"], pooler=None)
    mean = build(ModelConfig(pooling="mean"), num_layers=0)
    params, notes = initial_params(mean, jax.random.key(1), encoder=source["encoder"], pooler=source["pooler"])
    assert set(params) == {"encoder", "head"}
    assert notes == ()


@pytest.mark.parametrize("kind", ["cross", "bi"])
def test_a_tiny_model_overfits_sixteen_pairs(kind):
    pairs = random_pairs(16)
    labels = np.arange(16) % 3
    batch = jax.tree.map(jnp.asarray, lay(pairs, kind, labels=labels))
    model = build(configure(kind))
    loss = make_loss(LossConfig(), TaskSpec("classification", ("a", "b", "c")), None)
    params = start(model)
    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def mean_loss(params):
            total, mass = loss(model.apply(params, batch), batch)
            return total / mass

        updates, state = optimiser.update(jax.grad(mean_loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    for _ in range(150):
        params, state = step(params, state)
    predicted = np.asarray(jax.jit(model.apply)(params, batch)[:, 0]).argmax(-1)
    np.testing.assert_array_equal(predicted, labels)
