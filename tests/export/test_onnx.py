"""The format onnx: the same outputs as JAX for the whole menu, the layout of the folder, and prediction from it."""

import dataclasses
import json
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import pairjax
from pairjax.base.errors import UserError
from pairjax.base.model_config import CombineConfig, HeadConfig, InteractConfig, ModelConfig, ProjectConfig
from pairjax.base.types import TaskSpec
from pairjax.cli.main import main
from pairjax.evaluation.calibration import Calibration
from pairjax.export.check import check_pairs
from pairjax.inference.classifier import PairClassifier
from pairjax.inference.load import load
from pairjax.inference.model_folder import load_artifact
from pairjax.inference.onnx_classifier import onnx_reason
from tests.inference.tiny_model import write_tiny_model

SCORE = TaskSpec("regression", center=3.0, scale=2.5)
INTERACT = {kind: InteractConfig(kind=kind, heads=2) for kind in ("self", "joint", "cross")}  # type: ignore[arg-type]
MENU = {
    "cross, pooler": ("bert", ModelConfig(head=HeadConfig(hidden=(8,)))),
    "cross, sides": (
        "roberta",
        ModelConfig(pool_over="sides", pooling="mean", combine=CombineConfig(features=("|u-v|", "u*v"))),
    ),
    "cross, joint, max": ("xlm-roberta", ModelConfig(interact=INTERACT["joint"], pooling="max")),
    "cross, self, cls": (
        "distilbert",
        ModelConfig(interact=INTERACT["self"], head=HeadConfig(hidden=(8, 4), activation="tanh")),
    ),
    "cross, cross, sides, max, gate": (
        "electra",
        ModelConfig(interact=INTERACT["cross"], pool_over="sides", pooling="max", combine=CombineConfig(kind="gate")),
    ),
    "bi, mean, ReLU of the logits": ("bert", ModelConfig(kind="bi", head=HeadConfig(relu_logits=True))),
    "bi, cls, attention": (
        "distilbert",
        ModelConfig(kind="bi", pooling="cls", combine=CombineConfig(kind="attention", heads=2)),
    ),
    "bi, pooler": (
        "roberta",
        ModelConfig(kind="bi", pooling="pooler", head=HeadConfig(hidden=(8,), activation="gelu")),
    ),
    "bi, cross": ("electra", ModelConfig(kind="bi", interact=INTERACT["cross"])),
    "bi, joint, over the pair": ("bert", ModelConfig(kind="bi", interact=INTERACT["joint"], pool_over="pair")),
    "bi, projection": (
        "distilbert",
        ModelConfig(kind="bi", project=ProjectConfig(sizes=(8, 12), activation="gelu", normalize=True)),
    ),
    "bi, cosine": ("bert", ModelConfig(kind="bi", head=HeadConfig(kind="cosine"))),
    "cross, the family's own head": ("electra", ModelConfig(head=HeadConfig(kind="family"))),
    "bi, self, over the pair, max": (
        "xlm-roberta",
        ModelConfig(kind="bi", interact=INTERACT["self"], pool_over="pair", pooling="max"),
    ),
}


VOCABULARY = sorted({word.lower() for pair in check_pairs() for text in pair for word in re.findall(r"\w+", text)})
"""Each word of the checked pairs is one token, so that rows have many lengths."""


@pytest.mark.parametrize("name", MENU)
def test_the_whole_menu_gives_the_same_outputs(name: str, tmp_path: Path) -> None:
    family, config = MENU[name]
    task = SCORE if "ReLU" in name or "cosine" in name else None
    folder = write_tiny_model(
        tmp_path / "m",
        config=config,
        family=family,
        layers=1,
        hidden=16,
        task=task,
        sharpness=9,
        max_length=128,
        vocabulary=VOCABULARY,
    )
    result = load(folder).export("onnx", tmp_path / "e")
    assert result.difference is not None
    assert result.difference < 1e-5
    # The outputs differ between pairs, so that equal ones mean something.
    first, second = zip(*check_pairs()[:16], strict=True)
    assert np.ptp(load(tmp_path / "e").outputs(first, second), axis=0).max() > 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with a temperature, and a threshold that half of the checked pairs reach."""
    path = tmp_path_factory.mktemp("cross")

    def write(calibration: Calibration) -> Path:
        return write_tiny_model(
            path,
            config=ModelConfig(),
            layers=1,
            hidden=16,
            calibration=calibration,
            sharpness=9,
            truncation="head_tail",
        )

    answers = load(write(Calibration(temperature=2.0))).predict(check_pairs())
    middle = float(np.median([answer.probabilities["yes"] for answer in answers]))
    return write(Calibration(temperature=2.0, threshold=middle))


@pytest.fixture(scope="module")
def bi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("bi"), layers=1, hidden=16, sharpness=9)


@pytest.fixture(scope="module")
def model(folder: Path) -> PairClassifier:
    return load(folder)


@pytest.fixture(scope="module")
def exported(model: PairClassifier, folder: Path) -> Path:
    return model.export("onnx", folder.parent / "onnx", int8=True).folder


def same(first: list, second: list, *, atol: float = 1e-5) -> bool:
    """Whether two lists of predictions have the same probabilities and, if these are exact, the same labels."""
    labels = [
        a.label == b.label and a.label_at_threshold == b.label_at_threshold for a, b in zip(first, second, strict=True)
    ]
    shares = [[list(answer.probabilities.values()) for answer in answers] for answers in (first, second)]
    return np.allclose(*shares, atol=atol) and (all(labels) or atol > 1e-5)


def test_labels_calibration_and_threshold_are_the_models(model: PairClassifier, exported: Path) -> None:
    pairs = list(check_pairs())
    expected = model.predict(pairs)
    assert len({answer.label_at_threshold for answer in expected}) == 2
    assert same(pairjax.load(exported).predict(pairs, batch_size=7), expected)
    assert same(pairjax.load(exported, int8=True).predict(pairs), expected, atol=0.1)


def test_the_folder_is_what_other_tools_expect(exported: Path) -> None:
    import onnx
    import onnxruntime

    files = sorted(path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file())
    assert files == [
        "README.md",
        "config.json",
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",
        "pairjax_export.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    graph = onnx.load(exported / "onnx" / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    session = onnxruntime.InferenceSession(exported / "onnx" / "model.onnx")
    assert {value.name: value.shape for value in session.get_inputs()} == {
        name: ["batch", "sequence"] for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    assert {value.name: value.shape for value in session.get_outputs()} == {"logits": ["batch", 2]}
    quantised = onnx.load(exported / "onnx" / "model_quantized.onnx")
    # Queries, keys and values are one product; then the output, both dense layers, the pooler and the classifier.
    assert sum(node.op_type == "MatMulInteger" for node in quantised.graph.node) == 6
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert json.loads((exported / "tokenizer_config.json").read_text())["model_max_length"] == 32


def test_the_manifest_and_the_card_say_what_was_measured(exported: Path) -> None:
    manifest = json.loads((exported / "pairjax_export.json").read_text())
    assert manifest["check"]["largest_difference"] < 1e-5
    assert manifest["int8"]["pairs"] == 64
    assert 0.9 < manifest["int8"]["agreement"] <= 1.0
    card = (exported / "README.md").read_text()
    for part in ("before the temperature", "the threshold of yes, 0.", "cut by head", "int8 gives the class"):
        assert part in card


def test_the_cards_example_runs(exported: Path, bi_folder: Path, tmp_path: Path, monkeypatch) -> None:
    load(bi_folder).export("onnx", tmp_path / "bi")
    for folder in (exported, tmp_path / "bi"):
        code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
        *lines, last = code.strip().splitlines()
        monkeypatch.chdir(folder)
        names: dict = {}
        exec("\n".join([*lines, f"result = {last}"]), names)
        expected = load(folder).outputs(["A man is asleep."], ["Nobody is awake."])
        np.testing.assert_allclose(names["result"][0], expected, atol=1e-6)


def test_the_temperature_can_be_folded_in(model: PairClassifier, tmp_path: Path) -> None:
    result = model.export("onnx", tmp_path / "e", fold_temperature=True)
    assert "divided by the temperature 2" in result.notes[0]
    folded, pairs = load(result.folder), list(check_pairs())
    first, second = zip(*pairs, strict=True)
    np.testing.assert_allclose(folded.outputs(first, second), model.outputs(first, second) / 2, atol=1e-5)
    assert folded.artifact.calibration.temperature == 1.0
    assert same(folded.predict(pairs), model.predict(pairs))


def test_a_bi_encoder_is_an_encoder_and_a_pair_head(bi_folder: Path, tmp_path: Path) -> None:
    import onnxruntime

    model = load(bi_folder)
    folder = model.export("onnx", tmp_path / "e").folder
    names = ("model", "pair_head", "pair_model")
    sessions = {name: onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx") for name in names}
    assert [value.name for value in sessions["model"].get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    assert [value.name for value in sessions["pair_head"].get_inputs()] == ["u", "v"]
    assert len(sessions["pair_model"].get_inputs()) == 6
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert (pooling["pooling_mode"], pooling["pooling_mode_mean_tokens"]) == ("mean", True)
    texts = ["the man", "a dog is not a cat"]
    np.testing.assert_allclose(load(folder).embed(texts), model.embed(texts), atol=1e-6)


def test_a_pairjax_model_runs_with_onnxruntime(folder: Path, bi_folder: Path) -> None:
    pairs = list(check_pairs())
    for path in (folder, bi_folder):
        expected, onnx = load(path).predict(pairs), load(path, runtime="onnx")
        assert same(onnx.predict(pairs), expected)
        assert same(load(path, runtime="onnx", int8=True).predict(pairs), expected, atol=0.1)
        assert same(pickle.loads(pickle.dumps(onnx)).predict(pairs), expected)
        with pytest.raises(UserError, match="cannot be exported; export the pairjax model"):
            onnx.export("onnx", path.parent / "never")


def test_the_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pairs = tmp_path / "dev.tsv"
    rows = [f"{a}\t{b}\t{'yes' if i % 2 else 'no'}" for i, (a, b) in enumerate(check_pairs())]
    pairs.write_text("\n".join(["sentence1\tsentence2\tlabel", *rows]) + "\n")
    data = ["--data.train", str(pairs), "--data.dev", str(pairs)]
    assert main(["export", str(folder), "--to", "onnx", "--output", str(tmp_path / "e"), "--int8", *data]) == 0
    printed = capsys.readouterr().out
    assert "accuracy on 64 pairs: 0." in printed.lower()
    assert "the largest difference from pairjax's outputs is" in printed
    entry = json.loads((tmp_path / "e" / "pairjax_export.json").read_text())["int8"]
    assert set(entry["int8"]["accuracy"]) == {"value", "low", "high"}
    answers = {}
    for name, options in {"own": [str(folder)], "onnx": [str(tmp_path / "e")]}.items():
        assert main(["predict", *options, str(pairs), "--output", str(tmp_path / f"{name}.jsonl")]) == 0
        answers[name] = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    assert [row["label"] for row in answers["own"]] == [row["label"] for row in answers["onnx"]]
    runtime = ["--runtime", "onnx", "--int8"]
    assert main(["predict", str(folder), str(pairs), *runtime, "--output", str(tmp_path / "int8.jsonl")]) == 0


def test_what_cannot_be_exported(folder: Path, tmp_path: Path) -> None:
    own = write_tiny_model(tmp_path / "own", config=ModelConfig(kind="bi", combiner=_own), layers=1, hidden=16)
    with pytest.raises(UserError, match="onnx cannot express this model: the combiner is the user's own Python code"):
        load(own, combiner=_own).export("onnx", tmp_path / "e")
    with pytest.raises(UserError, match="a combiner and a device mesh are for JAX"):
        load(own, combiner=_own, runtime="onnx")
    with pytest.raises(UserError, match="onnxruntime cannot compute this model: the combiner"):
        load(own, runtime="onnx")
    sigmoid = load_artifact(write_tiny_model(tmp_path / "sigmoid", config=ModelConfig(), layers=1, hidden=16))
    sigmoid = dataclasses.replace(sigmoid, task=dataclasses.replace(sigmoid.task, head="sigmoid"))
    assert onnx_reason(sigmoid) == "its sigmoid head is not written as a graph yet"
    score = write_tiny_model(tmp_path / "score", config=ModelConfig(), layers=1, hidden=16, task=SCORE)
    with pytest.raises(UserError, match="a regression has no temperature"):
        load(score).export("onnx", tmp_path / "e", fold_temperature=True)


def _own():
    from pairjax.models.combine import Gate

    class Own(Gate):
        def __call__(self, u, v):  # type: ignore[override]
            return u * v

    return Own()


def test_wrong_uses_are_one_line(folder: Path, model: PairClassifier, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="int8 weights are computed by onnxruntime"):
        load(folder, int8=True)
    with pytest.raises(UserError, match="an exported folder is computed by onnxruntime, not by JAX"):
        load(exported, runtime="jax")
    plain = model.export("onnx", tmp_path / "plain").folder
    with pytest.raises(UserError, match=r"the folder has no model_quantized\.onnx; export the model again with --int8"):
        load(plain, int8=True)


def test_without_the_packages_the_message_has_the_command(folder: Path, exported: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for path, runtime in ((exported, None), (folder, "onnx")):
        with pytest.raises(UserError, match=r"need the packages onnx and onnxruntime.*pip install 'pairjax\[onnx\]'"):
            load(path, runtime=runtime)


FILES = ("onnx/model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json", "pairjax_export.json")


@pytest.mark.parametrize("name", FILES)
def test_damage_is_one_line(name: str, exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "e")
    content = (copy / name).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(8):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (copy / name).write_bytes(changed if rng.random() < 0.7 else content[: rng.integers(len(content))])
        with pytest.raises(UserError):
            load(copy)
    (copy / name).unlink()
    with pytest.raises(UserError):
        load(copy)


def test_a_graph_that_onnxruntime_cannot_read_is_one_line(exported: Path, tmp_path: Path) -> None:
    """The digests are made anew, so that the graph's own reader sees the damage."""
    from pairjax.inference.export_folder import read_export, write_export_manifest

    copy = shutil.copytree(exported, tmp_path / "e")
    facts = read_export(copy, target="onnx").facts
    content = (copy / "onnx" / "model.onnx").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(8):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), 200):
            changed[place] ^= 1 << rng.integers(8)
        (copy / "onnx" / "model.onnx").write_bytes(changed)
        write_export_manifest(copy, facts, target="onnx")
        with pytest.raises(UserError, match=r"model\.onnx: onnxruntime cannot read it"):
            load(copy)
