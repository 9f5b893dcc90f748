"""Chains of modules of sentence-transformers: their numbers, and every module that is refused."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pairjax.base.errors import UserError
from pairjax.imports.modules import read_modules
from pairjax.imports.read import read_model
from pairjax.models.build import build_pair_model
from tests.imports.foreign import TORCH, configure, write_chain, write_dense, write_json
from tests.models.test_encoder import golden


def read(folder, **options):
    return read_model(folder, name=str(folder), **options)


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    root = tmp_path_factory.mktemp("chains")
    return {
        kind: (root / kind, write_chain(root / kind, kind=kind)) for kind in ("CrossEncoder", "SentenceTransformer")
    }


@pytest.fixture
def cross(chains, tmp_path):
    return shutil.copytree(chains["CrossEncoder"][0], tmp_path / "cross")


@pytest.fixture
def text(chains, tmp_path):
    return shutil.copytree(chains["SentenceTransformer"][0], tmp_path / "text")


def mean_of(arrays):
    """Torch's hidden states of the golden rows, averaged."""
    mask = arrays["attention_mask"][..., None]
    return (arrays["hidden"] * mask).sum(1) / mask.sum(1)


def test_a_chained_cross_encoder_equals_torchs_hidden_states_and_numpy(chains):
    folder, weights = chains["CrossEncoder"]
    model, (*_, batch, arrays) = read(folder), golden("bert")
    assert (model.model.pooling, model.model.head.hidden, model.model.head.activation) == ("mean", (6,), "relu")
    hidden = np.maximum(mean_of(arrays) @ weights["w2"].T + weights["b2"], 0)
    logits = jax.jit(build_pair_model(model.model, model.spec, 3).apply)(model.params, batch)
    assert np.abs(np.asarray(logits)[:, 0] - (hidden @ weights["w3"].T + weights["b3"])).max() <= 1e-5


def test_vectors_of_a_sentence_transformer_equal_torchs_hidden_states_and_numpy(chains):
    folder, weights = chains["SentenceTransformer"]
    model, (*_, batch, arrays) = read(folder), golden("bert")
    expected = np.tanh(mean_of(arrays) @ weights["w2"].T + weights["b2"])
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    fns = build_pair_model(model.model, model.spec, 1)
    assert fns.vector_size == 6
    alone = batch._replace(side_ids=batch.side_ids * 0, token_type_ids=batch.token_type_ids)
    vectors = np.asarray(jax.jit(fns.vectors)(model.params, alone))
    assert np.abs(vectors[:, 0, 0] - expected).max() <= 1e-5
    u, v = np.asarray(jax.jit(fns.vectors)(model.params, batch))[:, 0].swapaxes(0, 1)
    np.testing.assert_allclose(np.asarray(jax.jit(fns.apply)(model.params, batch))[:, 0, 0], (u * v).sum(-1), atol=1e-6)


def test_a_tanh_layer_on_cls_is_the_pooler(cross):
    write_json(cross / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode_cls_token": True})
    square = np.eye(32, dtype=np.float32)
    write_dense(cross / "2_Dense", square, square[0], activation="tanh")
    write_dense(cross / "3_Dense", square[:3], square[0, :3], activation="identity", module_output_name="scores")
    model = read(cross)
    assert (model.model.pooling, model.model.head.hidden) == ("pooler", ())
    np.testing.assert_array_equal(model.params["pooler"]["kernel"], square)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "custom.Module"}, "Python code of the model's own, which pairjax never runs; got custom.Module"),
        ({"type": "sentence_transformers.models.WeightedLayerPooling"}, "a module is not supported; got WeightedLayer"),
        ({"path": "../other"}, "names a folder outside the model"),
        ({"path": "/etc"}, "names a folder outside the model"),
        ({"path": 3}, "not a list of modules"),
        ({"type": "sentence_transformers.models.Normalize"}, "a module after the scaling"),
    ],
)
def test_modules_that_are_not_supported_are_refused_by_name(cross, entry, message):
    entries = json.loads((cross / "modules.json").read_text())
    entries[2] |= entry
    write_json(cross / "modules.json", entries)
    with pytest.raises(UserError, match=message):
        read(cross)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_residual": True}, "the dense layer is not supported; got .* residual"),
        ({"module_input_name": "token_embeddings"}, "the dense layer is not supported"),
        ({"activation_function": "torch.nn.modules.activation.SiLU"}, "the activation is not supported"),
        ({"activation_function": "os.system"}, "the activation is not supported"),
        ({"in_features": 31}, "the weights do not fit config.json"),
        ({"bias": False}, "the weights do not fit config.json"),
        ({"module_output_name": "scores"}, "the last layer is not supported; got scores twice"),
    ],
)
def test_dense_layers_that_are_not_supported_are_refused(cross, settings, message):
    configure(cross / "2_Dense", **settings)
    with pytest.raises(UserError, match=message):
        read(cross)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_mode": "lasttoken"}, "the pooling is not supported; got 'lasttoken'"),
        ({"pooling_mode": ["mean", "max"]}, "the pooling is not supported"),
        ({"pooling_mode": "mean", "include_prompt": False}, "without the prompt's tokens"),
    ],
)
def test_poolings_that_are_not_supported_are_refused(cross, settings, message):
    write_json(cross / "1_Pooling" / "config.json", settings)
    with pytest.raises(UserError, match=message):
        read(cross)


def test_both_spellings_of_the_pooling_are_read(cross):
    for settings in ({"pooling_mode_max_tokens": True}, {"pooling_mode": "max", "pooling_mode_mean_tokens": True}):
        write_json(cross / "1_Pooling" / "config.json", settings)
        assert read_modules(cross).pooling == "max"


def test_weights_of_a_module_that_are_missing_pickled_or_damaged_are_refused(cross):
    path = cross / "2_Dense" / "model.safetensors"
    tensors = load_file(path)
    save_file({"linear.weight": tensors["linear.weight"] * np.nan, "linear.bias": tensors["linear.bias"]}, path)
    with pytest.raises(UserError, match="holds NaN or infinity"):
        read(cross)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="cut off or damaged"):
        read(cross)
    path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(UserError, match="pickled weights are refused"):
        read(cross)
    path.with_name("pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="the folder has no weights"):
        read(cross)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "SparseEncoder"}, "this kind of model is not supported; got 'SparseEncoder'"),
        ({"model_type": "SentenceTransformer"}, "give no vector of a text"),
        ({"model_type": "CrossEncoder", "activation_fn": TORCH["sigmoid"]}, "the classes do not exclude each other"),
    ],
)
def test_kinds_of_models_that_are_not_supported_are_refused(cross, settings, message):
    write_json(cross / "config_sentence_transformers.json", settings)
    with pytest.raises(UserError, match=message):
        read(cross)


def test_a_text_model_has_no_classes_to_name(text):
    with pytest.raises(UserError, match="--labels names the outputs of a classifier"):
        read(text, labels=("a", "b"))
    write_json(text / "config_sentence_transformers.json", {"similarity_fn_name": "euclidean"})
    assert "its score is not" in read(text).notes[-1]
