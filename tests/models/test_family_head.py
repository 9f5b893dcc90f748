"""`--model.head.kind family`: the head of each family's own class, against torch's logits and against bad options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.base.errors import UserError
from pairjax.base.families import FAMILIES
from pairjax.base.model_config import HeadConfig, ModelConfig
from pairjax.base.params import flatten, unflatten
from pairjax.models.build import build_pair_model, resolve
from pairjax.models.heads import Head
from pairjax.weights.names import head_tensors
from tests.models.rows import tiny_spec
from tests.models.test_encoder import GOLDEN, golden

FAMILY = ModelConfig(head=HeadConfig(kind="family"))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_the_familys_class(family):
    spec, loaded, batch, _ = golden(family)
    with np.load(GOLDEN / family / "head.npz") as arrays:
        tensors = dict(arrays)
    expected = tensors.pop("logits")
    params = {f"pooler/{path}": leaf for path, leaf in (loaded.pooler or {}).items()}
    for path, (name, *_) in head_tensors(spec, 3).items():
        if name in tensors:
            params[path] = tensors[name].T if path.endswith("/kernel") else tensors[name]
    fns = build_pair_model(FAMILY, spec, 3)
    if fns.config.pooling != "pooler":
        params = {path: leaf for path, leaf in params.items() if not path.startswith("pooler")}
    logits = jax.jit(fns.apply)({"encoder": loaded.params, **unflatten(params)}, batch)
    assert np.abs(np.asarray(logits)[:, 0] - expected).max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_new_parameters_are_those_that_the_table_of_tensors_names(family):
    spec, *_ = golden(family)
    fns = build_pair_model(FAMILY, spec, 3)
    shapes = {path: leaf.shape for path, leaf in flatten(jax.eval_shape(fns.init_above, jax.random.key(0))).items()}
    assert shapes == {path: tensor.shape for path, tensor in head_tensors(spec, 3).items()}


def test_a_head_with_a_norm_and_without_biases_equals_numpy():
    head = Head(outputs=2, hidden=(6,), activation="tanh", bias=False, norm_eps=1e-5)
    x = jax.random.normal(jax.random.key(0), (1, 2, 4))
    params = head.init(jax.random.key(1), x)["params"]
    assert {path: leaf.shape for path, leaf in flatten(params).items()} == {
        "hidden_0/kernel": (4, 6),
        "norm_0/scale": (6,),
        "logits/kernel": (6, 2),
        "logits/bias": (2,),
    }
    h = np.tanh(np.asarray(x) @ np.asarray(params["hidden_0"]["kernel"]))
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(head.apply({"params": params}, x), h @ params["logits"]["kernel"], atol=1e-5)


def test_dropout_may_leave_the_input_of_the_hidden_layers_alone():
    head = Head(outputs=4, hidden=(64,), dropout_first=False)
    params = {
        "hidden_0": {"kernel": np.eye(64, dtype=np.float32), "bias": np.zeros(64, np.float32)},
        "logits": {"kernel": np.eye(64, dtype=np.float32)[:, :4], "bias": np.zeros(4, np.float32)},
    }
    x = jnp.ones((50, 1, 64))
    out = head.apply({"params": params}, x, rate=0.5, rngs={"dropout": jax.random.key(1)})
    assert set(np.unique(out)) == {0.0, 2.0}  # dropped once; with two dropouts there would be 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": {"kind": "family", "hidden": (8,)}}, "--model.head.kind family takes no other option of the head"),
        ({"head": {"kind": "family", "relu_logits": True}}, "takes no other option of the head"),
        ({"head": {"kind": "family"}, "kind": "bi"}, "reads one vector per pair, and this bi-encoder pools two"),
        ({"head": {"kind": "family"}, "pool_over": "sides", "pooling": "mean"}, "reads one vector per pair"),
    ],
)
def test_options_that_contradict_the_familys_head_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        ModelConfig(**options)


def test_a_pooling_that_the_class_does_not_know_is_refused():
    with pytest.raises(UserError, match="bert's own head does not read this pooling"):
        resolve(ModelConfig(head=HeadConfig(kind="family"), pooling="mean"), tiny_spec())
    assert resolve(FAMILY, tiny_spec()).pooling == "pooler"
    assert resolve(FAMILY, tiny_spec(family="roberta")).pooling == "cls"
