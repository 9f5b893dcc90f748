"""`--model.init`: what becomes of the head, and options that contradict the model."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

import pairjax
from pairjax import Config, DataConfig, HeadConfig, ModelConfig, UserError
from pairjax.base.types import TaskSpec
from pairjax.cli.main import main
from pairjax.finetune.prepare import prepare
from pairjax.inference.start import fit_head
from tests.imports.foreign import write_chain, write_classifier, write_tokeniser
from tests.tiny import write_tiny_encoder

RELATIONS = ("contradiction", "entailment", "neutral")
PAIRS = [("a man runs", "no man runs"), ("a dog eats", "a dog is fed"), ("a cat sings", "a bird sings")]


def write_data(folder, labels, *, rows=6):
    folder.mkdir()
    for split in ("train", "dev"):
        lines = [f"{a} {split} {i}\t{b}\t{labels[i % len(labels)]}" for i in range(rows) for a, b in [PAIRS[i % 3]]]
        (folder / f"{split}.tsv").write_text("sentence1\tsentence2\tlabel\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("start")
    write_classifier(root / "nli", tokeniser=True)
    write_data(root / "relations", RELATIONS)
    write_data(root / "others", ("no", "yes"))
    write_data(root / "scores", (0.25, 0.5, -0.75))
    return root


def start(root, data, *, init="nli", **model):
    config = Config(
        data=DataConfig(path=str(root / data), max_length=24), model=ModelConfig(init=str(root / init), **model)
    )
    return prepare(config)


def test_the_same_classes_in_another_order_keep_the_head_with_its_outputs_reordered(root):
    prepared = start(root, "relations")
    weight = load_file(root / "nli" / "model.safetensors")["classifier.weight"]
    np.testing.assert_array_equal(prepared.params["head"]["logits"]["kernel"], weight[[0, 2, 1]].T)
    assert "the head is kept, with its outputs in the order of the data's classes" in " ".join(prepared.notes)
    assert prepared.fns.config.head.kind == "family"
    assert prepared.task.labels == RELATIONS


def test_other_classes_get_a_new_last_layer_and_keep_the_layers_below(root):
    prepared = start(root, "others")
    pooler = load_file(root / "nli" / "model.safetensors")["bert.pooler.dense.weight"]
    np.testing.assert_array_equal(prepared.params["pooler"]["kernel"], pooler.T)
    assert prepared.params["head"]["logits"]["kernel"].shape == (32, 2)
    note = "the last layer is new, because the model's classes are CONTRADICTION, neutral, Entailment and those of the"
    assert note in " ".join(prepared.notes)


def test_a_changed_head_is_another_content_on_resume(root):
    assert (
        start(root, "relations").content()["head of --model.init"]
        == start(root, "others").content()["head of --model.init"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "mean"}, "--model.pooling contradicts --model.init, .* got mean; expected pooler"),
        ({"kind": "bi"}, "--model.kind contradicts --model.init"),
        ({"head": HeadConfig(hidden=(8,))}, r"--model.head contradicts .* got .hidden \(8,\); expected .kind family"),
        ({"encoder": "other"}, "--model.encoder contradicts --model.init"),
        ({"labels": ("a", "b")}, "each class needs a name of its own"),
    ],
)
def test_options_that_contradict_the_model_are_refused(root, options, message):
    with pytest.raises(UserError, match=message):
        start(root, "relations", **options)


def test_a_model_of_single_texts_trains_on_cosines_and_gets_a_head_for_classes(root):
    write_chain(root / "text", kind="SentenceTransformer")
    write_tokeniser(root / "text")
    scores = start(root, "scores", init="text")
    assert (scores.fns.config.head.kind, scores.task.center, scores.task.scale) == ("cosine", 0.0, 1.0)
    classes = start(root, "others", init="text")
    assert classes.params["head"]["logits"]["kernel"].shape == (4 * 6, 2)
    np.testing.assert_array_equal(
        classes.params["project"]["dense_0"]["bias"], scores.params["project"]["dense_0"]["bias"]
    )
    write_data(root / "stars", (1.5, 4.5))
    with pytest.raises(UserError, match=r"the train scores are not; got scores from 1.5 to 4.5"):
        start(root, "stars", init="text")


def test_scores_in_another_unit_keep_the_head_and_its_predictions():
    rng = np.random.default_rng(0)
    logits = {"kernel": rng.normal(size=(4, 1)).astype(np.float32), "bias": np.ones(1, np.float32)}
    old = TaskSpec("regression", center=2.0, scale=0.5)
    new = TaskSpec("regression", center=-1.0, scale=3.0)
    head, note = fit_head({"logits": logits}, old, new, place="m")
    x = rng.normal(size=(5, 4))
    before = (x @ logits["kernel"] + logits["bias"]) * old.scale + old.center
    after = (x @ head["logits"]["kernel"] + head["logits"]["bias"]) * new.scale + new.center
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert "is kept" in note
    assert fit_head({"logits": logits}, old, new, place="m", relu=True)[0] is None
    assert fit_head({"logits": logits}, replace(new, kind="classification"), new, place="m")[0] is None


def test_names_that_differ_only_in_case_cannot_be_matched():
    own = TaskSpec("classification", ("a", "A"))
    assert fit_head({"logits": {}}, own, own, place="m")[0] is None


def test_labels_and_init_go_together():
    with pytest.raises(UserError, match=r"--model\.labels names the classes of --model\.init"):
        ModelConfig(labels=("a", "b"))


@pytest.fixture(scope="module")
def imported(root):
    assert main(["import", str(root / "nli"), "--output", str(root / "own")]) == 0
    return root / "own"


def test_import_writes_a_folder_that_predicts_what_the_original_does(root, imported):
    own, original = pairjax.load(imported), pairjax.load(root / "nli")
    assert own.task == original.task
    np.testing.assert_array_equal(own.outputs(*zip(*PAIRS, strict=True)), original.outputs(*zip(*PAIRS, strict=True)))
    card = (imported / "README.md").read_text()
    assert "Imported from" in card
    assert "CONTRADICTION" in card


def test_import_refuses_a_folder_that_exists_and_labels_of_a_model_that_has_them(root, imported, capsys):
    assert main(["import", str(root / "nli"), "--output", str(imported)]) == 2
    assert "exists; choose another --output" in capsys.readouterr().err
    assert main(["import", str(imported), "--output", str(root / "x"), "--labels", "a", "b"]) == 2
    assert "the model names its classes itself; got --labels a b" in capsys.readouterr().err
    assert not (root / "x").exists()


def test_an_imported_model_is_scored_on_labels_in_another_case(root, capsys):
    args = ["evaluate", str(root / "nli"), "--data.path", str(root / "relations"), "--evaluation.bootstrap", "100"]
    assert main([*args, "--evaluation.no-swap", "--output", str(root / "scores.json")]) == 0
    assert set(json.loads((root / "scores.json").read_text())["metrics"]) == {"train", "dev"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/place", "no such folder; expected a model's folder, such as runs/NAME, or a hub id ORG/NAME"),
        ("org/name-that-nobody-has", "neither a folder nor an id in the hub's cache; add --download"),
        ("empty", "no model in this folder"),
        ("bare", "the weights have no classifier; got no classifier.weight"),
        ("untokenised", "the encoder's folder has no tokeniser"),
    ],
)
def test_names_that_are_no_model_are_refused_in_one_line(root, name, message, monkeypatch):
    monkeypatch.chdir(root)
    (root / "empty").mkdir(exist_ok=True)
    if name == "bare":
        write_tiny_encoder(root / "bare", layers=1, hidden=8)
    if name == "untokenised":
        write_classifier(root / "untokenised")
    with pytest.raises(UserError, match=message):
        pairjax.load(name)
