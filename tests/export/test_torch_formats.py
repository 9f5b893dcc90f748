"""The formats `transformers` and `sentence-transformers`: bit-identical round trips, files, refusals and examples."""

import json
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import pairjax
from pairjax.base.errors import UserError
from pairjax.base.export_config import ExportConfig
from pairjax.base.families import FAMILIES
from pairjax.base.model_config import CombineConfig, HeadConfig, InteractConfig, ModelConfig, ProjectConfig
from pairjax.base.params import flatten
from pairjax.base.types import TaskSpec
from pairjax.evaluation.calibration import Calibration
from pairjax.export.formats import check_format, find_format
from pairjax.inference.model_folder import load_artifact
from tests.imports.foreign import write_classifier
from tests.inference.tiny_model import write_tiny_model

SIDES = CombineConfig(features=("u", "v", "|u-v|", "u*v"))
MODELS = {
    "linear on the pooler": ModelConfig(),
    "hidden layer on the mean": ModelConfig(pooling="mean", head=HeadConfig(hidden=(6,), activation="gelu")),
    "tanh layers on the pooler": ModelConfig(pooling="pooler", head=HeadConfig(hidden=(8, 4), activation="tanh")),
    "tanh layers on cls": ModelConfig(pooling="cls", head=HeadConfig(hidden=(8, 4), activation="tanh")),
    "relu on the logits": ModelConfig(pooling="max", head=HeadConfig(relu_logits=True)),
    "bi": ModelConfig(kind="bi", combine=SIDES),
    "bi with a pooler": ModelConfig(
        kind="bi", pooling="pooler", combine=CombineConfig(features=("u-v", "u*v")), head=HeadConfig(hidden=(5,))
    ),
    "bi with projection": ModelConfig(kind="bi", combine=SIDES, project=ProjectConfig(sizes=(6,), normalize=True)),
}
CLASSES = TaskSpec("classification", ("No", "yes"), positive="No")
SCORES = TaskSpec("regression", center=2.5, scale=1.5)
COSINE = ModelConfig(kind="bi", head=HeadConfig(kind="cosine"))
TEXTS = (["a man", "the dog is not"], ["a woman", "the dog"])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def models(root):
    """Model folders by name, written when they are first asked for."""
    written = {}

    def write(name, config, task=CLASSES):
        if name not in written:
            folder = write_tiny_model(root / name, config=config, task=task, layers=1, hidden=8, sharpness=20.0)
            written[name] = pairjax.load(folder)
        return written[name]

    return write


def stages(model):
    names = ("kind", "interact", "pooling", "over", "features", "project", "head")
    return {name: getattr(model, name) for name in names}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_leaves_as_it_came(family, tmp_path):
    write_classifier(tmp_path / "in", family, tokeniser=True)
    pairjax.load(tmp_path / "in").export("transformers", tmp_path / "out")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("in", "out"))
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    old, new = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("in", "out"))
    assert old["architectures"] == new["architectures"]
    assert old["id2label"] == new["id2label"]
    assert new["label2id"] == {"CONTRADICTION": 0, "neutral": 1, "Entailment": 2}


@pytest.mark.parametrize("name", MODELS)
def test_the_round_trip_is_bit_identical(name, models, root):
    model = models(name, MODELS[name])
    formats = ["sentence-transformers"] + (["transformers"] if name == "linear on the pooler" else [])
    for target in formats:
        folder = model.export(target, root / f"{name} {target}").folder
        again = load_artifact(folder)
        before, after = flatten(model.artifact.params), flatten(again.params)
        assert before.keys() - after.keys() <= {"pooler/kernel", "pooler/bias"}
        for path, leaf in after.items():
            np.testing.assert_array_equal(leaf, before[path], err_msg=path)
        assert again.task == CLASSES
        assert again.max_length == 32
        own = model.artifact.model
        plain = name == "linear on the pooler"
        expected = stages(own) | ({"head": HeadConfig(kind="family")} if plain else {})
        assert stages(again.model) == expected


@pytest.mark.parametrize("kind", ["cross", "bi"])
def test_the_units_of_a_score_are_in_the_last_layer(kind, models, root):
    config = ModelConfig() if kind == "cross" else MODELS["bi"]
    model = models(f"scores {kind}", config, SCORES)
    result = model.export("sentence-transformers", root / f"scores {kind} out")
    again = pairjax.load(result.folder)
    assert (again.task.center, again.task.scale) == (0.0, 1.0)
    np.testing.assert_allclose(again.outputs(*TEXTS), model.outputs(*TEXTS), atol=1e-5)
    assert "the score is in the unit of the training scores" in result.notes


def test_a_temperature_can_be_folded_and_is_taken_out_again(models, root):
    model = models("linear on the pooler", MODELS["linear on the pooler"])
    warm = replace(model.artifact, calibration=Calibration(temperature=4.0, threshold=0.3))
    folder = pairjax.PairClassifier(warm).export("transformers", root / "folded", fold_temperature=True).folder
    weight = load_file(folder / "model.safetensors")["classifier.weight"]
    np.testing.assert_array_equal(weight, model.artifact.params["head"]["logits"]["kernel"].T / 4)
    again = load_artifact(folder)
    assert again.calibration == warm.calibration
    np.testing.assert_array_equal(again.params["head"]["logits"]["kernel"], warm.params["head"]["logits"]["kernel"])


def test_the_files_are_those_that_all_readers_know(models, root):
    folder = models("bi", MODELS["bi"]).export("sentence-transformers", root / "files").folder
    assert json.loads((folder / "1_Pooling" / "config.json").read_text()) == {
        "word_embedding_dimension": 8,
        "pooling_mode": "mean",
        "include_prompt": True,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["type"].rsplit(".", 1)[1] for module in modules] == ["Transformer", "Pooling"]
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 32
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 32
    assert set(load_file(folder / "pair_head.safetensors")) == {"classifier.weight", "classifier.bias"}


def test_damage_of_an_exported_folder_is_detected(models, root):
    folder = models("linear on the pooler", MODELS["linear on the pooler"]).export("transformers", root / "dam").folder
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"yes"', '"yet"'))
    with pytest.raises(UserError, match=r"config\.json: differs from what was saved"):
        pairjax.load(folder)


@pytest.mark.parametrize(
    ("target", "config", "message"),
    [
        (
            "transformers",
            MODELS["hidden layer on the mean"],
            "another head .* pooling mean .* layers 6 .*use --to",
        ),
        ("transformers", MODELS["relu on the logits"], "a ReLU follows its logits"),
        ("transformers", MODELS["bi"], "it encodes the two texts separately; use --to .*sentence-transformers"),
        (
            "sentence-transformers",
            ModelConfig(pooling="mean", pool_over="sides", combine=SIDES),
            "it pools each text of the pair on its own",
        ),
        (
            "sentence-transformers",
            ModelConfig(kind="bi", interact=InteractConfig(kind="cross", heads=2)),
            "it has cross attention between encoder and pooling",
        ),
        (
            "sentence-transformers",
            ModelConfig(kind="bi", combine=CombineConfig(kind="gate")),
            "it combines vectors by gate",
        ),
    ],
)
def test_a_model_that_the_format_cannot_hold_is_refused_with_the_reason(target, config, message, models):
    artifact = replace(models("bi", MODELS["bi"]).artifact, model=config)
    with pytest.raises(UserError, match=f"{target} cannot express this model: .*{message}"):
        check_format(find_format(target), artifact, ExportConfig())


@pytest.mark.parametrize("target", ["transformers", "sentence-transformers", "stablehlo"])
def test_a_model_with_prefixes_is_refused_by_formats_without_them(target, models):
    artifact = replace(models("bi", MODELS["bi"]).artifact, prefixes=("query: ", "passage: "))
    with pytest.raises(UserError, match=r"it puts a prefix before each text.*onnx"):
        check_format(find_format(target), artifact, ExportConfig())


def test_int8_is_for_onnx(models, root):
    with pytest.raises(UserError, match="--int8 is for onnx"):
        models("bi", MODELS["bi"]).export("transformers", root / "refused", int8=True)


@pytest.mark.parametrize("name", ["bi", "bi with a pooler", "cosine"])
def test_the_example_in_the_card_gives_the_models_answer(name, models, root, monkeypatch):
    model = models(name, MODELS.get(name, COSINE), TaskSpec("regression") if name == "cosine" else CLASSES)
    folder = model.export("sentence-transformers", root / f"{name} card").folder
    card = (folder / "README.md").read_text()
    assert 'library_name: "sentence-transformers"' in card
    assert 'pipeline_tag: "sentence-similarity"' in card
    code = re.search(r"```python\n(.*?)```", card, flags=re.S)[1].replace("path/to/this/folder", str(folder))
    fake = types.ModuleType("sentence_transformers")
    fake.SentenceTransformer = lambda path: types.SimpleNamespace(encode=pairjax.load(path).embed)
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    *lines, last = code.strip().splitlines()
    assert len(lines) <= 12
    names: dict = {}
    exec("\n".join(lines), names)
    answer = eval(last.split("  #")[0], names)
    prediction = model.predict([("A man is asleep.", "Nobody is awake.")])[0]
    if name == "cosine":
        assert answer == pytest.approx(prediction.score, abs=1e-5)
    else:
        assert answer == prediction.label


def test_each_format_has_a_name(models, root):
    with pytest.raises(UserError, match=r"--to pickle: no such format; expected one of .*transformers"):
        models("bi", MODELS["bi"]).export("pickle", root / "x")
    assert Path(root / "x").exists() is False
