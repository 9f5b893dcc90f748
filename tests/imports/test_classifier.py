"""Classifiers of transformers: logits, names of classes, the meaning of one logit, and every refusal."""

import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pairjax.base.errors import UserError
from pairjax.base.families import FAMILIES
from pairjax.imports.labels import read_outputs
from pairjax.imports.read import read_model
from pairjax.models.build import build_pair_model
from tests.imports.foreign import TORCH, configure, write_classifier, write_json, write_modules
from tests.models.test_encoder import golden


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier") / "bert"
    write_classifier(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def read(folder, **options):
    return read_model(folder, name=str(folder), **options)


def logits_of(model, family="bert"):
    *_, batch, _ = golden(family)
    fns = build_pair_model(model.model, model.spec, model.task.outputs)
    return np.asarray(jax.jit(fns.apply)(model.params, batch))[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_a_classifier_equal_torch(family, tmp_path):
    expected = write_classifier(tmp_path / family, family)
    model = read(tmp_path / family)
    assert model.task.labels == ("CONTRADICTION", "neutral", "Entailment")
    assert np.abs(logits_of(model, family) - expected).max() <= 1e-5
    assert model.notes == ()


def single(folder, **settings):
    """Leaves one output, the second."""
    tensors = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = tensors[name][1:2]
    save_file(tensors, folder / "model.safetensors")
    return configure(folder, id2label={"0": "LABEL_0"}, **settings)


def test_one_logit_under_a_sigmoid_is_the_second_of_two_classes(folder):
    expected = logits_of(read(folder))[:, 1]
    model = read(single(folder))
    assert (model.task.labels, model.task.positive) == (("0", "1"), "1")
    logits = logits_of(model)
    assert not logits[:, 0].any()
    np.testing.assert_allclose(logits[:, 1], expected, atol=1e-6)
    assert read(folder, labels=("no", "yes")).task.labels == ("no", "yes")


@pytest.mark.parametrize(
    "settings",
    [
        {"problem_type": "regression"},
        {"sentence_transformers": {"activation_fn": TORCH["identity"]}},
        {"sbert_ce_default_activation_function": TORCH["identity"]},
    ],
    ids=["problem type", "new key", "old key"],
)
def test_one_logit_under_identity_is_a_score(folder, settings):
    expected = logits_of(read(folder))[:, 1]
    model = read(single(folder, **settings))
    assert (model.task.kind, model.task.center, model.task.scale) == ("regression", 0.0, 1.0)
    np.testing.assert_allclose(logits_of(model)[:, 0], expected, atol=1e-6)


def test_the_settings_of_a_cross_encoder_come_before_those_of_config_json(folder):
    single(folder, sentence_transformers={"activation_fn": TORCH["sigmoid"]})
    write_modules(folder, ["Transformer"], model_type="CrossEncoder", activation_fn=TORCH["identity"])
    write_json(
        folder / "sentence_bert_config.json", {"transformer_task": "sequence-classification", "max_seq_length": 20}
    )
    model = read(folder)
    assert model.task.kind == "regression"
    assert model.max_length == 20


@pytest.mark.parametrize(
    ("settings", "length"), [({}, 24), ({"model_max_length": 16}, 16), ({"model_max_length": 10**30}, 24)]
)
def test_the_longest_row_is_the_tokenisers_and_never_more_than_the_encoder_reads(folder, settings, length):
    write_json(folder / "tokenizer_config.json", settings)
    assert read(folder).max_length == length


def test_names_of_the_user_replace_those_of_the_folder(folder):
    configure(folder, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    with pytest.raises(UserError, match=r"no names of their own; got LABEL_0 LABEL_1 LABEL_2; name them .*--labels"):
        read(folder)
    assert read(folder, labels=("a", "b", "c")).task.labels == ("a", "b", "c")
    configure(folder, id2label=...)
    with pytest.raises(UserError, match="got no id2label"):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "the classes do not exclude each other"),
        ({"problem_type": "regression"}, "a regression with several scores; got 3 outputs"),
        ({"problem_type": ["x"]}, "the problem_type is not known"),
        ({"sentence_transformers": {"activation_fn": "evil.Code"}}, "the activation is not supported; got 'evil.Code'"),
        ({"sentence_transformers": {"activation_fn": TORCH["sigmoid"]}}, "a sigmoid on several outputs"),
        ({"auto_map": {"AutoModel": "m.Code"}}, "needs Python code of its own repository, which pairjax never runs"),
        ({"model_type": "gpt2"}, "got gpt2; expected one of bert"),
        ({"id2label": {"0": "a", "1": "b"}}, "id2label does not fit the head"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "each class needs a name of its own; got a b a"),
        ({"pairjax": {"temperature": 0}}, "the settings of pairjax are damaged"),
        ({"hidden_size": 16}, "the weights do not fit config.json"),
    ],
)
def test_settings_that_are_not_supported_are_refused_in_one_line(folder, changes, message):
    with pytest.raises(UserError, match=message):
        read(configure(folder, **changes))


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "a", "b")])
def test_names_of_another_number_are_refused(folder, labels):
    with pytest.raises(UserError, match="each class needs a name of its own"):
        read(folder, labels=labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("classifier.weight") is None, "have no classifier; got no classifier.weight"),
        (lambda t: t.pop("classifier.bias") is None, r"classifier\.bias \(3,\) is missing"),
        (lambda t: t.update({"classifier.weight": np.ones((3, 8), np.float32)}), r"has shape \(3, 8\) instead of"),
        (lambda t: t.update({"classifier.weight": np.ones(3, np.float32)}), "the head has another shape"),
        (lambda t: t.update({"bert.adapter.weight": np.ones(3, np.float32)}), "bert.adapter.weight is not known"),
        (lambda t: t.pop("bert.pooler.dense.bias") is None, r"pooler\.dense\.bias \(32,\) is missing"),
    ],
)
def test_every_tensor_is_accounted_for(folder, change, message):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        read(folder)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights are refused"):
        read(folder)


def test_what_an_export_of_pairjax_left_is_read(folder):
    expected = logits_of(read(folder))
    own = {"temperature": 2.0, "folded": True, "truncation": "only_second"}
    model = read(configure(folder, pairjax=own))
    assert (model.temperature, model.threshold, model.truncation) == (2.0, None, "only_second")
    np.testing.assert_allclose(logits_of(model), 2 * expected, rtol=1e-6)


def test_a_single_output_of_another_activation_is_refused(tmp_path):
    with pytest.raises(UserError, match="the activation of the single output is not supported; got relu"):
        read_outputs({}, 1, path=tmp_path, activation="relu")
    with pytest.raises(UserError, match="the model predicts a score, not classes; got --labels a b"):
        read_outputs({"problem_type": "regression"}, 1, path=tmp_path, activation=None, labels=("a", "b"))
